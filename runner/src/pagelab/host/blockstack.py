"""What lies between a file system and the disk: partitions, LUKS, LVM, RAID, loop devices.

Sources: Documentation/ABI/stable/sysfs-block (partition, start, slaves, dm, loop), Documentation/admin-guide/md.rst.
Identifiers that tell a machine from all others (serial numbers, UUIDs) are left out.
"""

from pathlib import Path
from typing import Any

from pagelab.errors import printable
from pagelab.host.block_devices import devices_under
from pagelab.host.procfs import if_known, read_int, read_names, read_text
from pagelab.host.settings import present, setting
from pagelab.host.storage import Disk, block_devices_of
from pagelab.units import SECTOR_BYTES

# How the uuid of a mapping begins that a program has made; the rest of it is private.
_MAPPINGS = {"CRYPT": "crypt", "LVM": "lvm", "mpath": "multipath", "RAID": "raid", "VERITY": "verity"}


def stack_of(path: Path) -> list[dict[str, Any]]:
    """The block devices that a file or directory lies on, from the file system down to the disks.

    Each has its `name`, its `kind` (partition, crypt, lvm, raid, loop, disk, …) and, but for disks, the names of those
    it lies `on`. Below a loop device follow the devices of its backing file, where that can be seen.

    Raises:
        HostError: the path is on no block device that the kernel shows.
    """
    return devices_below(*block_devices_of(path))


def devices_below(*sys_paths: Path) -> list[dict[str, Any]]:
    """As `stack_of`, from devices' directories in /sys on; a device that several lie on comes once."""
    found: dict[str, dict[str, Any]] = {}
    left = list(sys_paths)
    while left:
        device = left.pop(0)
        if device.name not in found:
            below = _below(device)
            on = {"on": [one.name for one in below]} if below else {}
            found[device.name] = _facts(device) | on
            left = below + left
    return list(found.values())


def _below(sys_path: Path) -> list[Path]:
    if (sys_path / "partition").exists():
        return [sys_path.parent]
    backing_file = read_names(sys_path / "loop" / "backing_file")
    if backing_file:
        return (if_known(block_devices_of, Path(backing_file)) if Path(backing_file).exists() else None) or []
    return devices_under(sys_path)


def _facts(sys_path: Path) -> dict[str, Any]:
    if (sys_path / "partition").exists():
        return present(
            name=sys_path.name,
            kind="partition",
            start_bytes=read_int(sys_path / "start", SECTOR_BYTES),
            size_bytes=read_int(sys_path / "size", SECTOR_BYTES),
            alignment_offset_bytes=read_int(sys_path / "alignment_offset"),
        )
    for directory, describe in (("dm", _mapping), ("md", _raid), ("loop", _loop), ("bcache", _bcache)):
        if (sys_path / directory).is_dir() and (directory != "bcache" or sys_path.name.startswith("bcache")):
            return present(name=sys_path.name, **describe(sys_path / directory), **_queue(sys_path))
    return {"kind": "disk", **Disk(sys_path.name, sys_path).describe()}


def _mapping(dm: Path) -> dict[str, Any]:
    made_by = (read_text(dm / "uuid") or "").partition("-")[0]
    return {"kind": _MAPPINGS.get(made_by, "device_mapper"), "mapped_name": read_text(dm / "name")}


def _raid(md: Path) -> dict[str, Any]:
    return {
        "kind": "raid",
        "level": read_text(md / "level"),
        "disks": read_int(md / "raid_disks"),
        "chunk_bytes": read_int(md / "chunk_size"),
        "degraded": read_int(md / "degraded"),
    }


def _loop(loop: Path) -> dict[str, Any]:
    backing_file = read_names(loop / "backing_file")
    return {
        "kind": "loop",
        "backing_file": None if backing_file is None else printable(backing_file),
        "direct_io": read_int(loop / "dio"),
    }


def _bcache(bcache: Path) -> dict[str, Any]:
    return {"kind": "bcache", "cache_mode": setting(bcache / "cache_mode"), "state": read_text(bcache / "state")}


def _queue(sys_path: Path) -> dict[str, Any]:
    """What a device in the middle of a stack decides itself: its readahead counts, not that of the disk below."""
    return {
        "readahead_kib": read_int(sys_path / "queue" / "read_ahead_kb"),
        "scheduler": setting(sys_path / "queue" / "scheduler"),
    }
