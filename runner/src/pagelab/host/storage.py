"""Disks and file systems: which device holds a file, its counters and queue settings, and how fast it can be read."""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.block_devices import bottom, device_named, is_counted, sys_path_of, whole
from pagelab.host.procfs import (
    Mount,
    entries,
    fields,
    if_known,
    integer,
    integers,
    mounts,
    read_int,
    read_names,
    read_text,
    unescaped,
)
from pagelab.host.settings import present, setting, settings_in
from pagelab.units import SECTOR_BYTES

# Settings of the queue that have a name with a unit of their own.
_QUEUE = {
    "readahead_kib": "read_ahead_kb",
    "nr_requests": "nr_requests",
    "max_sectors_kib": "max_sectors_kb",
    "logical_block_bytes": "logical_block_size",
    "physical_block_bytes": "physical_block_size",
}
_PRIVATE_PARAMETERS = ("hostnqn", "hostid")
# Fields of the device's `stat`, in sectors of 512 bytes whatever its own (Documentation/block/stat.rst).
_READ_SECTORS, _WRITTEN_SECTORS = 2, 6
BDI = Path("/sys/class/bdi")
BTRFS = Path("/sys/fs/btrfs")
_BTRFS_FS_INFO, _FS_INFO_BYTES = 0x8400941F, 1024  # BTRFS_IOC_FS_INFO and its struct, include/uapi/linux/btrfs.h
_REALTIME = re.compile(r"(?:^|,)rtdev=([^,]+)")
_OWN_READAHEAD = ("btrfs", "bcachefs")  # super_setup_bdi gives them one of the name KIND-NUMBER


@dataclass(frozen=True)
class Disk:
    """What a file system is on, found from a file on it: a whole block device, or several that it spreads files over.

    `name` joins the names of several by `+`, `sys_path` is the first. `own_readahead` is the directory in /sys with the
    readahead of a file system that has one of its own (btrfs): it is read and set there, and the disk's has no effect.
    """

    name: str
    sys_path: Path
    more: tuple[Path, ...] = ()
    own_readahead: Path | None = field(default=None, compare=False)

    @property
    def readahead_file(self) -> Path:
        """The setting of the largest readahead window that governs files here, in KiB."""
        return (self.own_readahead or self.sys_path / "queue") / "read_ahead_kb"

    @property
    def readahead_owner(self) -> str:
        """What that setting belongs to: the disk by its name, or the file system."""
        return f"the file system ({self.own_readahead.resolve().name})" if self.own_readahead else self.name

    @property
    def devices(self) -> tuple[Path, ...]:
        """The whole devices that the file system itself knows."""
        return (self.sys_path, *self.more)

    @cached_property
    def serving(self) -> "tuple[Disk, ...]":
        """The disks that serve what is read here: those below LVM, LUKS, RAID, bcache, and heads of several paths.

        A loop device is one of them: it takes requests and counts them, wherever its file is.
        """
        found = dict.fromkeys(disk for device in self.devices for disk in bottom(device))
        return tuple(Disk(path.name, path) for path in found)

    def read_and_written_bytes(self) -> tuple[int, int] | tuple[None, None]:
        """Bytes that the serving disks delivered to everyone, and took from everyone, since boot, at completion.

        None where one of them does not say, or was told not to count.
        """
        counts = [_counted_bytes(disk.sys_path) for disk in self.serving]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return None, None
        return sum(read for read, _ in known), sum(written for _, written in known)

    @cached_property
    def device_numbers(self) -> tuple[str, ...] | None:
        """`major:minor` of each of the file system's devices, as io.stat names them; None where one has none."""
        numbers = [read_text(device / "dev") for device in self.devices]
        known = tuple(number for number in numbers if number)
        return known if len(known) == len(numbers) else None

    def readahead_kib(self) -> int | None:
        """The largest readahead window, in KiB."""
        return read_int(self.readahead_file)

    def describe(self) -> dict[str, object]:
        """What kind of device it is and how its queue is set; values that are absent are left out.

        `queue` has what has no name of its own here, under the kernel's (Documentation/ABI/stable/sysfs-block). The
        serial number is left out: it tells a machine from all others. Of several devices, each is described.
        """
        if self.more:
            each = [Disk(path.name, path).describe() for path in self.devices]
            return present(name=self.name, readahead_kib=self.readahead_kib(), devices=each)
        queue, device = self.sys_path / "queue", self.sys_path / "device"
        driver = device / "driver"
        return present(
            name=self.name,
            vendor=read_text(device / "vendor"),
            model=read_text(device / "model"),
            firmware=read_text(device / "firmware_rev") or read_text(device / "rev"),
            driver=driver.resolve().name if driver.exists() else None,
            size_bytes=read_int(self.sys_path / "size", SECTOR_BYTES),
            rotational=read_int(queue / "rotational"),
            scheduler=setting(queue / "scheduler"),
            scheduler_settings=settings_in(queue / "iosched"),
            **{name: read_int(queue / file) for name, file in _QUEUE.items()} | {"readahead_kib": self.readahead_kib()},
            device_queue_depth=read_int(device / "queue_depth"),
            hardware_queues=len(list((self.sys_path / "mq").glob("*"))) or None,
            nvme=nvme_facts(device),
            queue=settings_in(queue, leave=("rotational", "scheduler", *_QUEUE.values())),
        )


def nvme_facts(device: Path) -> dict[str, object]:
    """What the controller of an NVMe device says beyond other disks; empty for others.

    Among it the link to the processor, and the modules' parameters, such as how long the drive may take to wake up
    (Documentation/ABI/testing/sysfs-nvme, sysfs-bus-pci).
    """
    # Where a drive can be reached over several paths, the device is a subsystem that has the controllers in it.
    controllers = [device, *sorted(device.glob("nvme[0-9]*"))]
    controller = next((path for path in controllers if (path / "transport").exists()), None)
    if controller is None:
        return {}
    link = controller / "device"
    return present(
        controller_model=read_text(controller / "model"),
        transport=read_text(controller / "transport"),
        numa_node=read_int(controller / "numa_node"),
        queue_count=read_int(controller / "queue_count"),
        queue_entries=read_int(controller / "sqsize"),
        latency_tolerance_us=setting(controller / "power" / "pm_qos_latency_tolerance_us"),
        link_speed=read_text(link / "current_link_speed"),
        link_width=read_int(link / "current_link_width"),
        max_link_speed=read_text(link / "max_link_speed"),
        max_link_width=read_int(link / "max_link_width"),
        core_parameters=settings_in(Path("/sys/module/nvme_core/parameters"), leave=_PRIVATE_PARAMETERS),
        parameters=settings_in(Path("/sys/module/nvme/parameters")),
    )


def _counted_bytes(sys_path: Path) -> tuple[int, int] | None:
    """What a disk counts itself: 11 numbers, 15 since Linux 4.18, 17 since 5.5."""
    numbers = integers(read_text(sys_path / "stat"))
    if len(numbers) <= _WRITTEN_SECTORS or not is_counted(sys_path):
        return None
    return numbers[_READ_SECTORS] * SECTOR_BYTES, numbers[_WRITTEN_SECTORS] * SECTOR_BYTES


def mount_of(path: Path) -> Mount | None:
    """The mount that a path lies on, by its number; where the kernel does not tell it, by the longest mount point."""
    table, number = mounts(), _mount_id(path)
    same = [mount for mount in table if number is not None and mount.mount_id == number]
    return same[0] if same else mount_above(path.resolve(), table)


def mount_above(real: Path, table: Sequence[Mount]) -> Mount | None:
    """The mount with the longest mount point above a path, the newest where two are equal."""
    above = [mount for mount in table if f"{real}/".startswith(mount.mount_point.rstrip("/") + "/")]
    return max(reversed(above), key=lambda mount: len(mount.mount_point), default=None)


def _mount_id(path: Path) -> int | None:
    """The number in mountinfo of the mount that a path is on (proc_pid_fdinfo(5))."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return integer(fields(read_text(f"/proc/self/fdinfo/{descriptor}") or "").get("mnt_id"))
    finally:
        os.close(descriptor)


def disk_of(path: Path) -> Disk:
    """The disk under a file or directory, through partitions; of btrfs over several, all of them.

    Raises:
        HostError: the path is on no block device that the kernel shows (tmpfs, overlay, a network file system).
    """
    first, *more = dict.fromkeys(map(whole, block_devices_of(path)))
    name = "+".join(device.name for device in (first, *more))
    return Disk(name, first, tuple(more), own_readahead_of(path))


def disk_of_all(paths: Sequence[Path]) -> Disk:
    """The one disk under several files.

    Raises:
        HostError: as `disk_of`; or they are on several disks, so that none has all the reads.
    """
    disks = {disk_of(path): path for path in paths}
    if len(disks) > 1:
        places = ", ".join(f"{path} on {disk.name}" for disk, path in disks.items())
        raise HostError(f"the files of a model are on several disks ({places}): put them on one")
    return next(iter(disks))


def whole_disk(sys_path: Path) -> Disk:
    """The disk that a block device, given by its directory in /sys, is or is a partition of."""
    return Disk(whole(sys_path).name, whole(sys_path))


def block_device_of(path: Path) -> Path:
    """The directory in /sys of the one block device that a file system is on, partition or not.

    Raises:
        HostError: as `disk_of`; or it is on several.
    """
    first, *more = block_devices_of(path)
    if more:
        raise HostError(f"{path} is spread over {len(more) + 1} devices, and on which of them a part lies is not told")
    return first


def block_devices_of(path: Path) -> list[Path]:
    """The directories in /sys of the block devices that the file system of a file or directory is on.

    btrfs and bcachefs can be on several, and xfs has the data of some files on a real-time device. btrfs and others
    show an anonymous device; then the file system's own list in /sys names the real ones, or else the mount does.

    Raises:
        HostError: as `disk_of`.
    """
    device, mount = path.stat().st_dev, mount_of(path)
    kind, source = (mount.file_system, mount.source) if mount else ("unknown", "")
    if is_read_by_others(kind):
        raise HostError(f"{path} is on {kind}, where another process reads the disk; put it on ext4, xfs or btrfs")
    sources = source.split(":") if kind == "bcachefs" else [source]
    if directory := btrfs_directory(path) if kind == "btrfs" else None:
        found = btrfs_devices(directory) or _named(path, kind, sources)
    elif os.major(device) == 0 or len(sources) > 1:
        found = _named(path, kind, sources)
    elif not (found := [sys_path_of(device)])[0].exists():
        numbers = f"{os.major(device)}:{os.minor(device)}"
        raise HostError(f"the disk of {path} (device {numbers}) is not in /sys; run inside the lab's container")
    options = mount.file_system_options if mount and kind == "xfs" else ""
    return found + _named(path, kind, _REALTIME.findall(options))


def is_read_by_others(kind: str) -> bool:
    """Whether a process of its own reads the disk of such a file system, so that no counter of the reader's has it."""
    return kind.partition(".")[0] in ("fuse", "fuseblk")


def _named(path: Path, kind: str, sources: Sequence[str]) -> list[Path]:
    """The devices that a file system names, all of them."""
    named = [device_named(unescaped(source)) for source in sources]
    found = [one for one in named if one is not None]
    if len(found) < len(named):
        raise HostError(f"{path} is on no disk of this host (file system {kind}); put it on a local disk")
    return found


def btrfs_directory(path: Path) -> Path | None:
    """Where /sys describes the btrfs that a path is on; None where the kernel does not say which it is."""
    answer = bytearray(_FS_INFO_BYTES)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(descriptor, _BTRFS_FS_INFO, answer)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return BTRFS / str(uuid.UUID(bytes=bytes(answer[16:32])))  # after max_id and num_devices


def btrfs_devices(directory: Path) -> list[Path]:
    """The devices of one btrfs, by its directory in /sys; empty where the kernel does not list them."""
    return sorted(link.resolve() for link in entries(directory / "devices"))


def own_readahead_of(path: Path) -> Path | None:
    """Where /sys has the readahead of a file system that has one of its own; None where the disk's counts."""
    mount = mount_of(path)
    if mount is None or mount.file_system not in _OWN_READAHEAD:
        return None
    directory = btrfs_directory(path) if mount.file_system == "btrfs" else None
    return own_bdi(mount.file_system, directory or BTRFS)


def own_bdi(kind: str, directory: Path, bdis: Path = BDI) -> Path:
    """The readahead's directory of one btrfs or bcachefs, described in `directory`.

    Before Linux 5.10 nothing says which of several it is; then it is one that is not there, rather than a wrong one.
    """
    link = directory / "bdi"
    candidates = sorted(bdis.glob(f"{kind}-*"))
    return candidates[0] if len(candidates) == 1 and not link.exists() else link


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write on the file system of a path."""
    return shutil.disk_usage(path).free


def share_a_disk(first: Disk, second: Disk) -> bool:
    """Whether reads of one can wait for those of the other, through all that is between them and the disks."""
    return not disks_behind(first).isdisjoint(disks_behind(second))


def disks_behind(disk: Disk) -> set[Disk]:
    """The disks that serve a disk; of a loop device also those that its file is on, as far as that can be seen."""
    found: set[Disk] = set()
    left = list(disk.serving)
    while left:
        one = left.pop()
        if one in found:  # a path that means another file here may lead back
            continue
        found.add(one)
        file = read_names(one.sys_path / "loop" / "backing_file")
        behind = if_known(disk_of, Path(file)) if file and Path(file).exists() else None
        left += behind.serving if behind else ()
    return found
