"""Events as columns: what the readers of raw files give, and what is merged and written.

Every table of columns has `time_ns` on the recorder's clock. `device` is an index into `Devices`, `operation` one into
OPERATIONS, `event` one into PAGE_EVENTS; a `sector` has SECTOR_BYTES and counts from the start of the whole disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.store.trace_record import TracedDevice
from pagelab.traces.arrays import Columns, encode
from pagelab.units import SECTOR_BYTES

OPERATIONS = ("read", "write", "discard", "flush", "other")
READ, WRITE, DISCARD, FLUSH, OTHER = range(len(OPERATIONS))
PAGE_EVENTS = ("add", "delete", "fault", "map")
ADD, DELETE, FAULT, MAP = range(len(PAGE_EVENTS))
SOURCES = ("model", "swap", "other")  # what a request reads or writes
MODEL, SWAP, ELSEWHERE = range(len(SOURCES))

SLACK_NS = 1_000_000
"""By how much a time may be before an earlier one of its CPU: clocks that the kernel corrects step back a little."""

NO_SECTOR = (1 << 64) - 1
"""What some kernels say of a request that is at no place, such as a flush."""
DISK_BITS = 52
"""No disk has as many bytes as 2^52 (4 PiB)."""

_MINOR_BITS = 20  # of a device number in the kernel (include/linux/kdev_t.h)


class Kind(Enum):
    """What a table of columns holds: their names and types."""

    ISSUE = "time_ns i8, device i4, sector i8"
    COMPLETE = "time_ns i8, device i4, sector i8, bytes i8, operation i1, readahead ?, error i4"
    PAGE = "time_ns i8, event i1, pid i4, file_part i4, file_offset_bytes i8, bytes i8"

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """The type of each column."""
        return {name: np.dtype(kind) for name, kind in map(str.split, self.value.split(","))}

    def columns(self, **given: NDArray[Any]) -> Columns:
        """Columns of this kind, each of its type."""
        return {name: given[name].astype(kind, copy=False) for name, kind in self.types.items()}

    def empty(self, count: int = 0) -> Columns:
        """Columns that are to be filled."""
        return {name: np.empty(count, dtype=kind) for name, kind in self.types.items()}


@dataclass
class Chunk:
    """Some events of one raw file; what follows is not before `through_ns`, but for SLACK_NS."""

    tables: dict[Kind, Columns]
    through_ns: int


@dataclass
class Devices:
    """The names of devices by their index, found by the kernel's number; a number that is not known gets MAJOR:MINOR.

    `closed`: only what was there from the start is known, and events of other devices are no part of the trace.
    """

    names: list[str] = field(default_factory=list)
    closed: bool = False
    _indices: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, devices: Sequence[TracedDevice]) -> "Devices":
        """Those that a trace says it recorded; all where it does not say."""
        known = cls(closed=bool(devices))
        for device in devices:
            known._indices[device_number(device.major, device.minor)] = len(known.names)
            known.names.append(device.name)
        return known

    def indices(self, numbers: NDArray[Any]) -> NDArray[np.int32]:
        """The index of each device number; -1 for one that is no part of the trace."""
        if len(numbers) and (numbers == numbers[0]).all():  # as nearly always
            return np.full(len(numbers), self._index(int(numbers[0])), dtype=np.int32)
        codes, distinct = encode(numbers)
        found = np.array([self._index(int(number)) for number in distinct], dtype=np.int32)
        return found[codes] if len(found) else np.empty(0, dtype=np.int32)

    def _index(self, number: int) -> int:
        if number not in self._indices:
            if self.closed:
                return -1
            self._indices[number] = len(self.names)
            self.names.append(f"{number >> _MINOR_BITS}:{number & (1 << _MINOR_BITS) - 1}")
        return self._indices[number]


def beyond_any_disk(sector: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which sectors no disk has, so that what tells of them is damaged."""
    found: NDArray[np.bool_] = (sector >= (1 << DISK_BITS) // SECTOR_BYTES) & (sector != NO_SECTOR)
    return found


def placed(sector: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Sectors as numbers to compute with; 0 for those that are none."""
    return np.where(sector == NO_SECTOR, 0, sector).astype(np.int64)


def device_number(major: int, minor: int) -> int:
    """A device's number as the kernel has it in its events."""
    return major << _MINOR_BITS | minor


def operation_of(rwbs: str) -> tuple[int, bool]:
    """Operation and readahead of a request as its event's `rwbs` says them (kernel: blk_fill_rwbs).

    An `F` in front is a flush before the request; behind it, writing through. `A` is readahead.
    """
    flush_first = rwbs.startswith("F")
    rest = rwbs[1:] if flush_first and rwbs[1:2] in ("R", "W", "D", "N", "E", "Z") else rwbs
    operations = {"R": READ, "D": DISCARD, "F": FLUSH, "W": OTHER if rest.startswith("WZ") else WRITE}
    if rest.startswith("DE"):  # secure erase
        return DISCARD, False
    return operations.get(rest[:1], OTHER), "A" in rest[1:]
