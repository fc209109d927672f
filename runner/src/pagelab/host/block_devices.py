"""Block devices as /sys has them: which one a number or a name means, and which disks are below it.

Sources: Documentation/ABI/stable/sysfs-block (partition, slaves, dm, hidden), drivers/nvme/host/multipath.c,
fs/btrfs/sysfs.c. A device is given by its directory in /sys.
"""

import os
import re
from pathlib import Path

from pagelab.host.procfs import entries, integer, lines, read_names, read_text, words

BLOCK = Path("/sys/class/block")
DISKSTATS = Path("/proc/diskstats")
_MEMORY = re.compile(r"(zram|ram)[0-9]+")
_ZRAM = re.compile(r"zram[0-9]+")
_NVME_HEAD = re.compile(r"nvme([0-9]+)n([0-9]+)")


def sys_path_of(device: int) -> Path:
    """The directory in /sys of the block device of a number, as stat(2) gives it; it may not be there."""
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()


def device_named(source: str, block: Path = BLOCK) -> Path | None:
    """The device that a name of /dev means, also where /dev has no such node, as in most containers.

    Mappings are looked for by what the device mapper calls them, others by the kernel's name of them.
    """
    node = Path(source)
    if block == BLOCK and node.is_block_device() and (found := sys_path_of(node.stat().st_rdev)).exists():
        return found
    if node.parts[:2] != ("/", "dev") or len(node.parts) < 3:
        return None
    mapped = {node.name, "-".join(part.replace("-", "--") for part in node.parts[2:])}  # /dev/GROUP/VOLUME of LVM
    for device in sorted(block.glob("dm-*")):
        if read_names(device / "dm" / "name") in mapped:
            return device.resolve()
    named = block / "!".join(node.parts[2:])
    return named.resolve() if named.exists() else None


def whole(sys_path: Path) -> Path:
    """The disk that a device is, or is a partition of."""
    return sys_path.parent if (sys_path / "partition").exists() else sys_path


def devices_under(sys_path: Path) -> list[Path]:
    """What a device is made of: the `slaves` of LVM, LUKS, RAID and bcache, the paths of a head of NVMe paths."""
    return sorted(link.resolve() for link in entries(sys_path / "slaves")) or nvme_paths(sys_path)


def nvme_paths(sys_path: Path) -> list[Path]:
    """The hidden disks nvmeScCnN below nvmeSnN, where a drive can be reached over several controllers; else none.

    Before Linux 6.4 the head's own counters stay 0, and later ones may be switched off.
    """
    head = _NVME_HEAD.fullmatch(sys_path.name)
    if head is None:
        return []
    hidden = f"nvme{head[1]}c*n{head[2]}"
    found = [*(sys_path / "multipath").glob(hidden), *(sys_path / "device").glob(f"nvme*/{hidden}")]
    return sorted({path.resolve() for path in found})


def bottom(sys_path: Path) -> list[Path]:
    """The whole disks that serve what is read from a device, each once."""
    below = devices_under(whole(sys_path))
    found = [disk for one in below for disk in bottom(one)] if below else [whole(sys_path)]
    return list(dict.fromkeys(found))


def number_of(sys_path: Path, diskstats: Path = DISKSTATS) -> tuple[int, int] | None:
    """Major and minor number of a device, as the kernel's events name it.

    A hidden disk has none in /sys; /proc/diskstats has it since Linux 5.17, before that two zeros.
    """
    text = read_text(sys_path / "dev")
    rows = [text.split(":")] if text else map(words, lines(read_text(diskstats)))
    for major, minor in (map(integer, row[:2]) for row in rows if len(row) > 1 and row[2:3] in ([], [sys_path.name])):
        if major is not None and minor is not None and (major, minor) != (0, 0):
            return major, minor
    return None


def is_memory(sys_path: Path) -> bool:
    """Whether a disk is no disk but RAM, compressed or not."""
    return _MEMORY.fullmatch(sys_path.name) is not None


def is_compressed_memory(sys_path: Path) -> bool:
    """Whether a disk is compressed RAM (zram)."""
    return _ZRAM.fullmatch(sys_path.name) is not None


def is_counted(sys_path: Path) -> bool:
    """Whether the kernel counts what is read from a disk (`queue/iostats`); if not, its counters stand still."""
    return read_text(sys_path / "queue" / "iostats") != "0"
