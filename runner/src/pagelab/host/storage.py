"""Disks and file systems: which device holds a file, its counters and queue settings, and how fast it can be read."""

import mmap
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.procfs import Mount, mounts, read_int, read_text
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
PROBE_CHUNK_BYTES = 1 << 20
PROBE_THREADS = 4


@dataclass(frozen=True)
class Disk:
    """A whole block device, found from a file on it."""

    name: str
    sys_path: Path

    @property
    def readahead_file(self) -> Path:
        """The setting of the largest readahead window, in KiB."""
        return self.sys_path / "queue" / "read_ahead_kb"

    def read_and_written_bytes(self) -> tuple[int, int] | tuple[None, None]:
        """Bytes that the device delivered to everyone, and took from everyone, since boot, counted at completion."""
        fields = (read_text(self.sys_path / "stat") or "").split()
        if len(fields) <= _WRITTEN_SECTORS:
            return None, None
        return int(fields[_READ_SECTORS]) * SECTOR_BYTES, int(fields[_WRITTEN_SECTORS]) * SECTOR_BYTES

    @cached_property
    def device_number(self) -> str | None:
        """`major:minor`, as io.stat names the device."""
        return read_text(self.sys_path / "dev")

    def readahead_kib(self) -> int | None:
        """The largest readahead window, in KiB."""
        return read_int(self.readahead_file)

    def describe(self) -> dict[str, object]:
        """What kind of device it is and how its queue is set; values that are absent are left out.

        `queue` has what has no name of its own here, under the kernel's (Documentation/ABI/stable/sysfs-block). The
        serial number is left out: it tells a machine from all others.
        """
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
            **{name: read_int(queue / file) for name, file in _QUEUE.items()},
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


def mount_of(path: Path) -> Mount | None:
    """The mount that a path lies on: the longest mount point above it, the newest where two are equal."""
    real = str(path.resolve())
    above = [mount for mount in mounts() if f"{real}/".startswith(mount.mount_point.rstrip("/") + "/")]
    return max(reversed(above), key=lambda mount: len(mount.mount_point), default=None)


def disk_of(path: Path) -> Disk:
    """The whole disk under a file or directory, through partitions.

    Raises:
        HostError: the path is on no block device that the kernel shows (tmpfs, overlay, a network file system).
    """
    return whole_disk(block_device_of(path))


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
    if (sys_path / "partition").exists():
        sys_path = sys_path.parent
    return Disk(sys_path.name, sys_path)


def devices_under(sys_path: Path) -> list[Path]:
    """What a device of LVM, LUKS or RAID is made of (`slaves` of Documentation/ABI/stable/sysfs-block)."""
    try:
        return sorted(link.resolve() for link in (sys_path / "slaves").iterdir())
    except OSError:
        return []


def sys_path_of(device: int) -> Path:
    """The directory in /sys of the block device of a number, as stat(2) gives it; it may not be there."""
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()


def block_device_of(path: Path) -> Path:
    """The directory in /sys of the block device that the file system of a file or directory is on, partition or not.

    Raises:
        HostError: as `disk_of`.
    """
    device = path.stat().st_dev
    if os.major(device) == 0:  # btrfs and others show an anonymous device; the mount names the real one
        mount = mount_of(path)
        source = Path(mount.source) if mount else Path()
        if not source.is_block_device():
            kind = mount.file_system if mount else "unknown"
            raise HostError(f"{path} is on no disk of this host (file system {kind}); put it on a local disk")
        device = source.stat().st_rdev
    sys_path = sys_path_of(device)
    if not sys_path.exists():
        numbers = f"{os.major(device)}:{os.minor(device)}"
        raise HostError(f"the disk of {path} (device {numbers}) is not in /sys; run inside the lab's container")
    return sys_path


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write on the file system of a path."""
    return shutil.disk_usage(path).free


def physical_disks(sys_path: Path) -> list[Disk]:
    """The disks at the bottom of a device of LVM, LUKS or RAID; of any other device, the disk that it is on."""
    below = devices_under(sys_path)
    return [disk for one in below for disk in physical_disks(one)] if below else [whole_disk(sys_path)]


def sequential_read_rate(path: Path, seconds: float = 1.0) -> float:
    """Bytes a second that the disk delivers when a file is read in order, past the page cache.

    Reads 1 MiB blocks with O_DIRECT from PROBE_THREADS threads, each block once, until the file ends or the time is
    up; a lower bound of what the disk can do for this file.

    Raises:
        HostError: the file system cannot read past the page cache.
    """
    started = time.monotonic()
    offsets = count(0, PROBE_CHUNK_BYTES)  # shared: one call of next() is never interrupted, so each comes once

    def read_blocks(_worker: int) -> int:
        total, descriptor = 0, os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, PROBE_CHUNK_BYTES) as buffer:  # page-aligned, as O_DIRECT wants
                while time.monotonic() < started + seconds:
                    received = os.preadv(descriptor, [buffer], next(offsets))
                    if received == 0:
                        break
                    total += received
        finally:
            os.close(descriptor)
        return total

    try:
        with ThreadPoolExecutor(PROBE_THREADS) as pool:
            total = sum(pool.map(read_blocks, range(PROBE_THREADS)))
    except OSError as error:
        raise HostError(f"cannot read {path} past the page cache ({error.strerror}); use a disk file system") from error
    return total / (time.monotonic() - started)
