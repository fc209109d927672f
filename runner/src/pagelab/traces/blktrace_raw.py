"""The files of blktrace, one for each device and CPU (`vda.blktrace.0`): records of a head and `pdu_len` bytes more.

The head is `struct blk_io_trace` (version 7 of the format, 48 bytes) or `struct blk_io_trace2` (version 8, 64 bytes) of
include/uapi/linux/blktrace_api.h, in the byte order of the machine that recorded it. What follows the head is of no
interest here: names of processes, messages, control groups, the places that remapped requests came from. Since it may
be of any length, records are found by the number that each begins with, and by the chain that their lengths make.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import TraceError
from pagelab.traces.arrays import Bytes, Columns, Integers, Mask, known
from pagelab.traces.events import DISCARD, FLUSH, OTHER, READ, SLACK_NS, WRITE, Chunk, Kind, beyond_any_disk, placed
from pagelab.traces.raw_files import Decoding, RawStream

_MAGIC = 0x65617400
_BEGINNING, _END = "magic u4, sequence u4, time u8, sector u8, bytes u4", "device u4, cpu u4, error i2, pdu_len u2"
_HEADS = {7: f"{_BEGINNING}, action u4, pid u4, {_END}", 8: f"{_BEGINNING}, pid u4, action u8, {_END}, pad V12"}
# The lower 16 bits of `action` say what happened (without the flag that a control group's number follows), the upper
# ones of what kind the request is.
_FROM_GROUP = 1 << 8
_ISSUED, _COMPLETED = 7, 8
_CATEGORY_SHIFT = 16
_READ, _WRITE, _FLUSH, _COMMAND, _NOTIFY, _AHEAD, _DISCARD = (1 << bit for bit in (0, 1, 2, 9, 10, 11, 13))
_LONGEST_RECORD = 64 + 0xFFFF
_LARGEST_FIELD = 8  # bytes
_FIRST_RECORDS = _LAST_RECORDS = 16
_NOTE = _NOTIFY << _CATEGORY_SHIFT
_HAPPENED = _NOTE | 0xFFFF & ~_FROM_GROUP
_NO_RECORD = "holds something that is no record"
# Categories of what reads or writes no data of a file: commands to the device itself (BLK_TC_PC, which has a direction
# too), and of version 8 operations on zones, and writing zeroes.
_NO_DATA = _COMMAND | 0x7F << 16


@dataclass(frozen=True)
class _Layout:
    """How the heads of one file are laid out; `magic` are the 4 bytes that each begins with."""

    head: np.dtype[Any]
    magic: bytes


_LAYOUTS = [
    _Layout(
        np.dtype([(name, kind if kind[0] == "V" else order + kind) for name, kind in map(str.split, head.split(","))]),
        (_MAGIC | version).to_bytes(4, "little" if order == "<" else "big"),
    )
    for version, head in _HEADS.items()
    for order in "<>"
]


@dataclass(frozen=True)
class _Heads:
    """The heads of some records, field by field.

    `alignment` is what all places are a multiple of, 8 at most; every field lies at a multiple of its own size.
    """

    data: Bytes
    layout: _Layout
    places: Integers
    alignment: int

    @classmethod
    def at(cls, data: Bytes, layout: _Layout, places: Integers) -> "_Heads":
        """The heads that begin at some places."""
        bits = int(np.bitwise_or.reduce(places)) | _LARGEST_FIELD
        return cls(data, layout, places, bits & -bits)

    def taken(self, which: Any) -> "_Heads":
        """Some of them: a slice, indices or a mask."""
        return _Heads(self.data, self.layout, self.places[which], self.alignment)

    def __getitem__(self, name: str) -> Any:
        """One field of each; three times as fast where all of them are aligned."""
        fields: Any = self.layout.head.fields
        kind, offset = fields[name][:2]
        size = kind.itemsize
        if not len(self.places):
            return np.empty(0, dtype=kind)
        behind = self.data[offset:]
        if self.alignment >= size:
            aligned: NDArray[Any] = behind[: len(behind) // size * size].view(kind)
            return aligned.take(self.places >> (size.bit_length() - 1))
        return np.ndarray((len(behind) - size + 1,), dtype=kind, buffer=behind, strides=(1,))[self.places]


class BlktraceFile:
    """One file of blktrace, read a chunk at a time.

    Of damaged files of others whole records are kept. The last record of a chunk is held back, with what there is of
    it, until more has been read.
    """

    def __init__(self, path: Path, decoding: Decoding) -> None:
        self._stream = RawStream(path, decoding.problems)
        self._decoding = decoding
        self._layout: _Layout | None = None
        self._held: Bytes = np.empty(0, dtype=np.uint8)
        self._through_ns = self._last_ns = 0
        self._first: Chunk | None = None
        self.start_ns: int | None = None
        """The time of the first record that is no note, None before there is one."""

    def open(self) -> bool:
        """Read the first chunk, which the next call of `chunk` gives; says whether it has records of blktrace.

        Raises:
            TraceError: the file begins with a record of a version that is not known, or is our own and damaged.
        """
        self._first = self.chunk()
        return self._layout is not None

    def chunk(self) -> Chunk | None:
        """The events of the next records, None at the end of the file."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._stream.ended and not len(self._held):
            return None
        begin = self._stream.offset - len(self._held)
        data = self._stream.read(self._decoding.chunk_bytes, before=self._held)
        self._held = self._held[:0]
        self._layout = self._layout or _recognise(data, self._stream.path.name)
        if self._layout is None:
            if len(data):
                self._damage("holds no records of blktrace", begin)
            return Chunk({}, self._through_ns)
        places, held_from = self._records(data, begin, self._layout)
        self._held = data[held_from:].copy()
        return Chunk(self._tables(_Heads.at(data, self._layout, places), held_from, begin), self._through_ns)

    def _records(self, data: Bytes, begin: int, layout: _Layout) -> tuple[Integers, int]:
        """Where records begin, and from where on the data are held back: the last record, where more will come."""
        head_bytes = layout.head.itemsize
        goes_on = not self._stream.ended
        places, ends = _candidates(data, layout, 4)
        if not len(places) or places[0] > 0 or ends[-1] <= len(data) - head_bytes or (ends[:-1] != places[1:]).any():
            places, ends = _candidates(data, layout, 1)
        if not len(places) or places[0] > 0:
            self._damage(_NO_RECORD, begin)
        if not len(places):
            return places, max(len(data) - head_bytes + 1, 0) if goes_on else len(data)
        kept, bad = _chain(places, ends, head_bytes, len(data), goes_on)
        for place in bad:
            self._damage(_NO_RECORD, begin + place)
        places, end = places[kept], int(ends[kept][-1])
        if goes_on and len(data) - places[-1] <= _LONGEST_RECORD + head_bytes:
            return places, int(places[-1])
        if end != len(data):
            what = "ends in the middle of a record" if end > len(data) - head_bytes else _NO_RECORD
            self._damage(what, begin + min(end, len(data)))
        return places, len(data)

    def _damage(self, what: str, at_byte: int, count: int = 1) -> None:
        self._decoding.problems.damage(self._stream.path, what, at_byte, count)

    def _tables(self, heads: _Heads, held_from: int, begin: int) -> dict[Kind, Columns]:
        """The issues and completions among records; one that is held back serves only to judge the one before it."""
        happened = heads["action"] & _HAPPENED  # with the flag of a note, it is no request's
        chosen = np.flatnonzero((happened == _ISSUED) | (happened == _COMPLETED))
        if self.start_ns is None:
            times = heads.taken(np.flatnonzero((happened & _NOTE) == 0)[:_FIRST_RECORDS])["time"].astype(np.int64)
            self.start_ns = next(iter(times[self._fitting(times)].tolist()), None)
        time_ns = heads.taken(chosen)["time"].astype(np.int64)
        fitting = self._fitting(time_ns)
        count = int(np.searchsorted(heads.places[chosen], held_from))
        chosen, fitting, time_ns = chosen[:count], fitting[:count], time_ns[:count]
        if not fitting.all():
            bad = heads.places[chosen[~fitting]]
            self._damage("has a record whose time does not fit those around it", begin + int(bad[0]), len(bad))
            chosen, time_ns = chosen[fitting], time_ns[fitting]
        if len(time_ns):
            self._last_ns = int(time_ns[-1])
            self._through_ns = max(self._through_ns, int(time_ns[-_LAST_RECORDS:].min()))
        chosen = self._on_disks(heads, chosen, begin)
        is_issue = happened[chosen] == _ISSUED
        issues, completions = heads.taken(chosen[is_issue]), heads.taken(chosen[~is_issue])
        return {Kind.ISSUE: self._issues(issues), Kind.COMPLETE: self._completions(completions)}

    def _on_disks(self, heads: _Heads, chosen: Integers, begin: int) -> Integers:
        """Those of the chosen records that are at a place which a disk may have."""
        beyond = beyond_any_disk(heads.taken(chosen)["sector"])
        if not beyond.any():
            return chosen
        bad = heads.places[chosen[beyond]]
        self._damage("has a record of a sector that no disk has", begin + int(bad[0]), len(bad))
        return chosen[~beyond]

    def _fitting(self, time_ns: Integers) -> Mask:
        """Which times fit: none before what was given, and none that stands out from two neighbours in order."""
        before = np.append(self._last_ns, time_ns)[: len(time_ns)] - SLACK_NS
        fitting: Mask = time_ns >= np.maximum(before, self._through_ns - SLACK_NS)
        if not fitting.all():
            after = np.append(time_ns[1:], time_ns[-1:]) + SLACK_NS
            alone = (before <= after) & ((time_ns < before) | (time_ns > after))
            fitting = ~alone & (time_ns >= self._through_ns - SLACK_NS)
        return fitting

    def _issues(self, heads: _Heads) -> Columns:
        self._decoding.counts["blktrace issue"] += len(heads.places)
        device = self._device(heads)
        return known(Kind.ISSUE.columns(time_ns=heads["time"], device=device, sector=placed(heads["sector"])), "device")

    def _completions(self, heads: _Heads) -> Columns:
        self._decoding.counts["blktrace complete"] += len(heads.places)
        category, byte_count = heads["action"].astype(np.int64) >> _CATEGORY_SHIFT, heads["bytes"]
        completions = Kind.COMPLETE.columns(
            time_ns=heads["time"],
            device=self._device(heads),
            sector=placed(heads["sector"]),
            bytes=byte_count,
            operation=_operations(category, byte_count),
            readahead=(category & _AHEAD) != 0,
            error=heads["error"],
        )
        return known(completions, "device")

    def _device(self, heads: _Heads) -> NDArray[np.int32]:
        return self._decoding.devices.indices(heads["device"].astype(np.int64))


def _recognise(data: Bytes, name: str) -> _Layout | None:
    """The layout of the first record, None where there is none."""
    text = data.tobytes()
    for start in (text[:4], text[3::-1]):  # in either order of bytes
        if len(start) == 4 and start[:3] == _MAGIC.to_bytes(4)[:3] and start[3] not in _HEADS:
            raise TraceError(
                f"{name} is of version {start[3]} of blktrace's format, and this pagelab reads {sorted(_HEADS)}: "
                "use a newer pagelab"
            )
    found = {place: layout for layout in _LAYOUTS if (place := text.find(layout.magic)) >= 0}
    return found[min(found)] if found else None


def _candidates(data: Bytes, layout: _Layout, step: int) -> tuple[Integers, Integers]:
    """Where, at multiples of `step` bytes (1 or 4), the magic number stands with room for a head; where records end.

    It may also stand in what follows a head. Nearly always that is a multiple of 4 bytes long, and so all records are
    at multiples of 4, which are looked through twenty times as fast as all bytes.
    """
    last = len(data) - layout.head.itemsize
    if step == 4:
        words = data[: len(data) // 4 * 4].view("<u4")
        at = np.flatnonzero(words == int.from_bytes(layout.magic, "little")) * 4
        at = at[: np.searchsorted(at, last, side="right")]
    else:
        rare = layout.magic.index(_MAGIC >> 24)
        at = np.flatnonzero(data == _MAGIC >> 24) - rare
        at = at[(at >= 0) & (at <= last)]
        at = at[_Heads.at(data, layout, at)["magic"] >> 8 == _MAGIC >> 8]
    return at, at + layout.head.itemsize + _Heads.at(data, layout, at)["pdu_len"]


def _chain(
    places: Integers, ends: Integers, head_bytes: int, data_bytes: int, goes_on: bool
) -> tuple[Mask | slice, list[int]]:
    """Which of the candidates are records, and where the damaged ones are, behind which no record follows.

    Nearly always a record ends where the next candidate begins. Where it does not, a record is there further on, or the
    data end there, and the candidates between are chance; or something is damaged, and the next candidate is a record.
    """
    breaks = np.flatnonzero(ends[:-1] != places[1:]).tolist()
    if not breaks:
        return slice(None), []
    kept = np.ones(len(places), dtype=np.bool_)
    bad, reached = [], 0
    for one in breaks:
        if one < reached:
            continue
        reached = int(np.searchsorted(places, ends[one]))
        followed = places[reached] == ends[one] if reached < len(places) else goes_on or ends[one] == data_bytes
        if not followed:
            bad.append(int(places[one]))
            reached = one + 1
            kept[one] = places[one + 1] - places[one] >= head_bytes
        kept[one + 1 : reached] = False
    return kept, bad


def _operations(category: Integers, byte_count: NDArray[Any]) -> NDArray[np.int8]:
    """The operation of each request, as `rwbs` of the kernel's events tells it.

    A flush without data is one, whatever else it is called. A command to the device is `other` (`N` in rwbs).
    """
    return np.select(
        [
            (category & _NO_DATA) != 0,
            (category & _DISCARD) != 0,
            ((category & _FLUSH) != 0) & (byte_count == 0),
            (category & _WRITE) != 0,
            (category & _READ) != 0,
        ],
        [np.int8(kind) for kind in (OTHER, DISCARD, FLUSH, WRITE, READ)],
        default=np.int8(OTHER),
    )
