"""Where bytes lie: on a disk among the pieces of files, and in the model's files among tensors and experts.

Both are intervals in the order of their beginnings without overlap, so that `numpy.searchsorted` finds those that a
range of bytes meets. Several files, or devices, lie behind each other on one line of numbers, 2^FILE_BITS bytes apart
(files) or 2^DISK_BITS (devices); a place beyond that is in none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import TraceError, shown
from pagelab.models.tensors import TensorClass
from pagelab.store.trace_record import FILE_BITS, TracedFile, TracedTensor, TraceRecord
from pagelab.traces.arrays import Integers, counted_from
from pagelab.traces.events import DISK_BITS, MODEL, SOURCES
from pagelab.units import SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Slice:
    """`bytes` bytes from `offset` of file `part` that belong together: a tensor, or one expert of a tensor.

    `tensor_index` is the tensor's place in the trace's description.
    """

    tensor_index: int
    tensor: str
    tensor_class: TensorClass
    layer: int | None
    expert: int | None
    part: int
    offset: int
    bytes: int


class Placement:
    """Where bytes of the model's files lie among tensors and experts.

    `slices` are in the order of part and offset; `part`, `offset` and `bytes` are theirs, as arrays. The header of a
    file and the padding between tensors are in none.
    """

    def __init__(self, slices: Sequence[Slice]) -> None:
        self.slices: tuple[Slice, ...] = tuple(sorted(slices, key=lambda one: (one.part, one.offset)))
        places = np.array([(one.part, one.offset, one.bytes) for one in self.slices], dtype=np.int64).reshape(-1, 3)
        self.part, self.offset, self.bytes = places.T
        begin = _lines(self.part, self.offset, FILE_BITS)
        self._intervals = _Intervals(begin, begin + self.bytes)

    @classmethod
    def of(cls, record: TraceRecord) -> "Placement":
        """The tensors of a trace's model.

        Raises:
            TraceError: two of them overlap, which no model's do.
        """
        placement = cls([one for index, tensor in enumerate(record.tensors) for one in _slices(index, tensor)])
        for one, following in pairwise(placement.slices):
            if one.part == following.part and one.offset + one.bytes > following.offset:
                raise TraceError(
                    f"trace.json is damaged: in it the tensors {shown(one.tensor)} and {shown(following.tensor)} "
                    "overlap: restore it from a copy, or repeat the trial"
                )
        return placement

    def slice_at(self, part: NDArray[Any], offset: NDArray[Any]) -> Integers:
        """The index of the slice that holds each byte, -1 where none does; a part of -1 is no file.

        Args:
            part: of which file, shape (rows).
            offset: bytes from the start of that file, shape (rows).
        """
        return self._intervals.at(_lines(part, offset, FILE_BITS))

    def split(
        self, part: NDArray[Any], offset: NDArray[Any], byte_count: NDArray[Any]
    ) -> tuple[Integers, Integers, Integers]:
        """The exact bytes that ranges of a file share with slices.

        Args:
            part: of which file each range is, shape (rows).
            offset: where in that file it begins, in bytes, shape (rows).
            byte_count: how long it is, shape (rows).

        Returns:
            Row, slice and number of shared bytes, one entry for each row and slice that meet, by row and then slice.
        """
        begin = _lines(part, offset, FILE_BITS)
        row, index, first, last = self._intervals.meet(begin, begin + byte_count)
        return row, index, last - first


class DiskMap:
    """Which bytes of a device are which bytes of the model's files and of swap.

    `devices` are the names of the devices that files lie on. `unknown` has a sentence for each file whose place on a
    disk is not known: a request that is found to be of no file may then be of that one. `knows_model` says that none of
    the model's files is among them.
    """

    def __init__(self, files: Sequence[TracedFile]) -> None:
        lost = [file for file in files if file.extents is None or file.device is None]
        self.has_files = bool(files)
        self.knows_model = bool(files) and not any(file.kind == "model" for file in lost)
        self.unknown = tuple(_why_unknown(file) for file in lost)
        self.devices = tuple(sorted({file.device for file in files if file.device is not None}))
        pieces = _without_overlap([piece for file in files for piece in self._pieces_of(file)])
        columns = np.array(pieces, dtype=np.int64).reshape(-1, 5)
        begin, self._file_offset, size = columns[:, 0].copy(), columns[:, 1], columns[:, 2]
        self._kind, self._part = columns[:, 3].astype(np.int8), columns[:, 4].astype(np.int32)
        self._intervals = _Intervals(begin, begin + size)

    def _pieces_of(self, file: TracedFile) -> list[tuple[int, int, int, int, int]]:
        """Place on the line, offset in the file, bytes, kind and part; no bytes behind the end of a model's file.

        What is said of the size of a swap area leaves out its first page.
        """
        if file.device is None:
            return []
        device, kind = self.devices.index(file.device), SOURCES.index(file.kind)
        return [
            (
                (device << DISK_BITS) + extent.disk_offset,
                extent.file_offset,
                min(extent.bytes, file.bytes - extent.file_offset) if kind == MODEL else extent.bytes,
                kind,
                file.part,
            )
            for extent in file.extents or []
        ]

    def index_of(self, device: str) -> int:
        """The index of a device, -1 for one that no file lies on."""
        return self.devices.index(device) if device in self.devices else -1

    def pieces(
        self, device: NDArray[Any], sector: NDArray[Any], byte_count: NDArray[Any]
    ) -> tuple[Integers, NDArray[np.int8], NDArray[np.int32], Integers, Integers]:
        """The exact pieces of requests that lie in files.

        Args:
            device: of which device each request is, as `index_of` says it, shape (rows).
            sector: where each request begins, in sectors from the start of the device, shape (rows).
            byte_count: how long it is, shape (rows).

        Returns:
            Row, kind (MODEL or SWAP), part, offset in the file in bytes, and bytes of each piece, in the order of the
            rows and then of the disk.
        """
        at_byte = sector.astype(np.int64) * SECTOR_BYTES
        on_disk = (sector >= 0) & (sector < (1 << DISK_BITS) // SECTOR_BYTES)
        begin = _lines(np.where(on_disk, device, -1), np.where(on_disk, at_byte, 0), DISK_BITS)
        row, index, first, last = self._intervals.meet(begin, begin + byte_count)
        file_offset = self._file_offset[index] + first - self._intervals.begin[index]
        return row, self._kind[index], self._part[index], file_offset, last - first


class _Intervals:
    """Intervals [begin, end) on a line, in order and without overlap; shape (intervals)."""

    def __init__(self, begin: Integers, end: Integers) -> None:
        self.begin, self.end = begin, end

    def at(self, point: Integers) -> Integers:
        """The interval that holds each point, -1 where none does."""
        if not len(self.begin):
            return np.full(len(point), -1, dtype=np.int64)
        found = np.searchsorted(self.begin, point, side="right") - 1
        outside = point >= self.end[found]  # what lies before the first one is found as -1, the last
        if outside.any():
            found[outside] = -1
        return found

    def meet(self, begin: Integers, end: Integers) -> tuple[Integers, Integers, Integers, Integers]:
        """Row, interval, and begin and end of what they share, for each of the rows [begin, end) and intervals."""
        first = np.searchsorted(self.end, begin, side="right")
        count = np.maximum(np.searchsorted(self.begin, end, side="left") - first, 0)
        count[end <= begin] = 0
        row, index = counted_from(first, count)
        return row, index, np.maximum(begin[row], self.begin[index]), np.minimum(end[row], self.end[index])


def _lines(number: NDArray[Any], offset: NDArray[Any], bits: int) -> Integers:
    """Places on the line; those of no file (-1), or behind the end of any, lie before all that is on it."""
    inside = (number >= 0) & (offset >= 0) & (offset < 1 << bits)
    lines: Integers = np.where(inside, (number.astype(np.int64) << bits) + offset, -(1 << bits))
    return lines


def _slices(index: int, tensor: TracedTensor) -> list[Slice]:
    """A tensor's slices: one for each expert, or one; none of a tensor without bytes."""
    if tensor.bytes < max(tensor.experts, 1):
        return []
    kind, layer, part = tensor.tensor_class, tensor.layer, tensor.part
    if tensor.experts == 0:
        return [Slice(index, tensor.name, kind, layer, None, part, tensor.offset, tensor.bytes)]
    size = tensor.bytes // tensor.experts
    return [
        Slice(index, tensor.name, kind, layer, tensor.first_expert + number, part, tensor.offset + number * size, size)
        for number in range(tensor.experts)
    ]


def _without_overlap(pieces: list[tuple[int, int, int, int, int]]) -> list[tuple[int, int, int, int, int]]:
    """The pieces by place; blocks that several files (or places of one) share go to the piece that begins first."""
    kept: list[tuple[int, int, int, int, int]] = []
    reached = -1
    for begin, file_offset, size, kind, part in sorted(pieces):
        cut = max(reached - begin, 0)
        if size > cut:
            kept.append((begin + cut, file_offset + cut, size - cut, kind, part))
            reached = begin + size
    return kept


def _why_unknown(file: TracedFile) -> str:
    reason = shown(file.without_extents or "the trace does not say where it lies")
    return f"requests are not attributed to {shown(file.path)}: {reason}"
