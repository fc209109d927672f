"""Where a file lies on its device, by the FIEMAP ioctl (kernel: Documentation/filesystems/fiemap.rst)."""

import fcntl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pagelab.errors import HostError
from pagelab.host.storage import mount_of

FS_IOC_FIEMAP = 0xC020660B  # _IOWR('f', 11, struct fiemap), include/uapi/linux/fs.h
_HEADER = struct.Struct("=QQIIII")  # struct fiemap: start, length, flags, mapped, room for, reserved
_EXTENT = struct.Struct("=QQQQQIIII")  # struct fiemap_extent: logical, physical, length, reserved, flags, reserved
_EXTENTS_AT_ONCE = 512
_SYNC = 1  # FIEMAP_FLAG_SYNC: what is not yet on disk has no place there
_LAST = 1  # FIEMAP_EXTENT_LAST
# FIEMAP_EXTENT_UNKNOWN | DELALLOC | ENCODED | DATA_ENCRYPTED | NOT_ALIGNED | DATA_INLINE | DATA_TAIL
_WITHOUT_PLACE = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
# There the addresses are of the file system's own space, which lies anywhere on any number of devices.
_OWN_ADDRESSES = ("btrfs", "bcachefs", "zfs")


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a file that lies in one piece; all numbers in bytes.

    `file_offset` counts from the start of the file, `device_offset` from the start of the device that the file system
    is on, which may be a partition.
    """

    file_offset: int
    device_offset: int
    bytes: int


def file_extents(path: Path) -> tuple[Extent, ...]:
    """The extents of a file, in the order of the file, without its holes.

    Raises:
        HostError: the file cannot be read, or its file system does not say where on the device it lies (btrfs, tmpfs).
    """
    mount = mount_of(path)
    if mount is not None and mount.file_system in _OWN_ADDRESSES:
        raise HostError(f"{path} is on {mount.file_system}, which has addresses of its own; put it on ext4 or xfs")
    try:
        with path.open("rb") as file:
            return tuple(_all_extents(file.fileno()))
    except OSError as error:
        raise HostError(f"the extents of {path} cannot be read ({error.strerror}); put it on ext4 or xfs") from error


def fragments(extents: Sequence[Extent]) -> tuple[Extent, ...]:
    """The extents joined where one goes on where the one before ended, in the file and on the device.

    A file system splits a contiguous file too: the longest extent of ext4 is 128 MiB.
    """
    joined: list[Extent] = []
    for extent in extents:
        if joined and _goes_on(joined[-1], extent):
            last = joined[-1]
            joined[-1] = Extent(last.file_offset, last.device_offset, last.bytes + extent.bytes)
        else:
            joined.append(extent)
    return tuple(joined)


def summarise(extents: Sequence[Extent]) -> dict[str, Any]:
    """Numbers of extents and of fragments, and the sizes of fragments in bytes; sizes are absent for an empty file."""
    whole = fragments(extents)
    facts: dict[str, Any] = {"extents": len(extents), "fragments": len(whole)}
    if whole:
        mapped = sum(extent.bytes for extent in whole)
        facts["mapped_bytes"] = mapped
        facts["largest_fragment_bytes"] = max(extent.bytes for extent in whole)
        facts["mean_fragment_bytes"] = mapped / len(whole)
        facts["first_device_offset_bytes"] = whole[0].device_offset
    return facts


def _goes_on(before: Extent, after: Extent) -> bool:
    in_file = before.file_offset + before.bytes == after.file_offset
    return in_file and before.device_offset + before.bytes == after.device_offset


def _all_extents(descriptor: int) -> Iterator[Extent]:
    """The extents, asked for in batches of _EXTENTS_AT_ONCE."""
    start, flags = 0, 0
    while not flags & _LAST:
        request = bytearray(_HEADER.size + _EXTENTS_AT_ONCE * _EXTENT.size)
        _HEADER.pack_into(request, 0, start, 2**64 - 1 - start, _SYNC, 0, _EXTENTS_AT_ONCE, 0)
        fcntl.ioctl(descriptor, FS_IOC_FIEMAP, request)
        count = _HEADER.unpack_from(request)[3]
        if count == 0:
            return
        found = islice(_EXTENT.iter_unpack(request[_HEADER.size :]), count)
        for file_offset, device_offset, size, _, _, flags, *_ in found:
            if flags & _WITHOUT_PLACE:
                raise OSError(0, "part of the file has no place of its own on the device")
            yield Extent(file_offset, device_offset, size)
            start = file_offset + size
