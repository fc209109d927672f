"""What a trace has to know of a model and of swap before anything is recorded: disks, inodes, extents, tensors."""

import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

from pagelab.errors import HostError, printable
from pagelab.host.block_devices import device_named, devices_under, number_of
from pagelab.host.extents import file_extents
from pagelab.host.page_cache import opened
from pagelab.host.procfs import PAGE_BYTES, read_int
from pagelab.host.storage import block_device_of, disk_of, whole_disk
from pagelab.host.swap import SwapPlace
from pagelab.host.tracefs import Instance
from pagelab.models.gguf_map import GgufMap, expert_ranges
from pagelab.store.trace_record import TracedDevice, TracedExtent, TracedFile, TracedTensor
from pagelab.units import SECTOR_BYTES

ADDED = "filemap/mm_filemap_add_to_page_cache"
_ADDED_TEXT = re.compile(r"mm_filemap_add_to_page_cache: dev (\d+):(\d+) ino (?:0x)?([0-9a-f]+) ")

FileIdentity = tuple[int, int, int]  # inode, major, minor, as page-cache events say them


def traced_devices(files: Iterable[Path]) -> list[TracedDevice]:
    """The disks that must be traced to see every read of these files: those that serve them.

    Raises:
        HostError: the kernel does not tell what its events call one of them.
    """
    found: dict[str, TracedDevice] = {}
    for disk in (disk for file in files for disk in disk_of(file).serving):
        number = number_of(disk.sys_path)
        if number is None:
            raise HostError(
                f"{disk.name} is one of several paths to a disk, and this kernel does not tell its number; "
                "set trace.block to off"
            )
        found[disk.name] = TracedDevice(name=disk.name, major=number[0], minor=number[1])
    return list(found.values())


def model_files(model: GgufMap, identities: dict[Path, FileIdentity]) -> list[TracedFile]:
    """The files of a model, with what page-cache events call them where that is known."""
    files = []
    for part, path in enumerate(model.parts):
        file = TracedFile(kind="model", part=part, path=str(path), bytes=path.stat().st_size)
        if path in identities:
            file.inode, file.major, file.minor = identities[path]
        files.append(_with_extents(file, path))
    return files


def swap_files(places: Iterable[SwapPlace]) -> list[TracedFile]:
    """The active swap areas; one that cannot be seen from here has no extents."""
    return [_swap_file(place) for place in places if not place.is_compressed_memory]


def _swap_file(place: SwapPlace) -> TracedFile:
    path = Path(place.area.path)
    file = TracedFile(kind="swap", path=printable(place.area.path), bytes=place.area.size_bytes)
    if place.area.kind != "partition":
        return _with_extents(file, path)
    sys_path = device_named(place.area.path)
    if sys_path is None:
        file.without_extents = f"{file.path} is not to be seen here"
        return file
    if devices_under(whole_disk(sys_path).sys_path):
        file.without_extents = f"{file.path} is made of other disks, and where they hold it is not known"
        return file
    file.device = whole_disk(sys_path).name
    size = read_int(sys_path / "size", SECTOR_BYTES) or 0
    file.extents = [TracedExtent(file_offset=0, disk_offset=_start_bytes(sys_path), bytes=size)]
    return file


def _with_extents(file: TracedFile, path: Path) -> TracedFile:
    """The file with its place on the whole disk, or with the reason why that is not known."""
    try:
        sys_path = block_device_of(path)
        if devices_under(whole_disk(sys_path).sys_path):
            raise HostError(
                f"{path} is on {sys_path.name}, which is made of other disks (LVM, LUKS or RAID, or NVMe paths)"
            )
        start = _start_bytes(sys_path)
        file.extents = [
            TracedExtent(file_offset=one.file_offset, disk_offset=start + one.device_offset, bytes=one.bytes)
            for one in file_extents(path)
        ]
        file.device = whole_disk(sys_path).name
    except (HostError, OSError) as error:
        file.without_extents = printable(str(error))
    return file


def _start_bytes(sys_path: Path) -> int:
    """Where a partition begins on its disk; 0 for a whole disk (events name the disk and count from its start)."""
    return read_int(sys_path / "start", SECTOR_BYTES) or 0


def traced_tensors(model: GgufMap) -> list[TracedTensor]:
    """The tensors of a model in the order of its files."""
    return [
        TracedTensor(
            name=tensor.name,
            tensor_class=tensor.tensor_class,
            layer=tensor.layer,
            part=tensor.part,
            offset=tensor.offset,
            bytes=tensor.bytes,
            experts=len(experts),
            first_expert=experts[0].expert if experts else 0,
        )
        for tensor in sorted(model.tensors, key=lambda one: (one.part, one.offset))
        for experts in [expert_ranges(tensor)]
    ]


def identify(instance: Instance, path: Path) -> FileIdentity:
    """What page-cache events call a file: found by reading one page of it that is not in the page cache.

    On btrfs and overlay the device of the events is not the one of stat(2). The page that is read is the file's last,
    and it is dropped again.

    Raises:
        HostError: no event came, so the file's pages cannot be told from others.
    """
    thread = threading.get_native_id()
    instance.enable(ADDED, f"common_pid == {thread}")
    instance.set("tracing_on", "1")
    try:
        _read_last_page(path)
    finally:
        instance.set("tracing_on", "0")
        instance.disable(ADDED)
    found = _ADDED_TEXT.findall(instance.text())
    instance.set("trace", "")
    if not found:
        raise HostError(f"no page-cache event came for {path}; set trace.page_cache to off for this file system")
    major, minor, inode = found[-1]
    return int(inode, 16), int(major), int(minor)


def _read_last_page(path: Path) -> None:
    with opened(path) as descriptor:
        offset = max(0, (os.fstat(descriptor).st_size - 1) // PAGE_BYTES * PAGE_BYTES)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(descriptor, offset, PAGE_BYTES, os.POSIX_FADV_DONTNEED)
        os.pread(descriptor, PAGE_BYTES, offset)
        os.posix_fadvise(descriptor, offset, PAGE_BYTES, os.POSIX_FADV_DONTNEED)
