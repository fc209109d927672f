"""The files of blktrace, one for each device and CPU (`vda.blktrace.0`): records of a head and `pdu_len` bytes more.

The head is `struct blk_io_trace` (version 7 of the format, 48 bytes) or `struct blk_io_trace2` (version 8, 64 bytes) of
include/uapi/linux/blktrace_api.h, in the byte order of the machine that recorded it. What follows the head is of no
interest here: names of processes, messages, control groups, the places that remapped requests came from. Since it may
be of any length, records are found by the number that each begins with, and by the chain that their lengths make.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import TraceError
from pagelab.traces.damage import Damage, Problem
from pagelab.traces.events import DISCARD, FLUSH, OTHER, READ, WRITE, Chunk, Columns, Devices, Integers, Kind, rows
from pagelab.traces.raw_files import Bytes, RawStream
from pagelab.traces.time_order import TimeOrder

_MAGIC = 0x65617400
_HEADS = {
    7: (
        ("magic", "u4"),
        ("sequence", "u4"),
        ("time", "u8"),
        ("sector", "u8"),
        ("bytes", "u4"),
        ("action", "u4"),
        ("pid", "u4"),
        ("device", "u4"),
        ("cpu", "u4"),
        ("error", "i2"),
        ("pdu_len", "u2"),
    ),
    8: (
        ("magic", "u4"),
        ("sequence", "u4"),
        ("time", "u8"),
        ("sector", "u8"),
        ("bytes", "u4"),
        ("pid", "u4"),
        ("action", "u8"),
        ("device", "u4"),
        ("cpu", "u4"),
        ("error", "i2"),
        ("pdu_len", "u2"),
        ("pad", "V12"),
    ),
}
# The lower 16 bits of `action` say what happened (without the flag that a control group's number follows), the upper
# ones of what kind the request is.
_FROM_GROUP = 1 << 8
_ISSUED, _COMPLETED = 7, 8
_CATEGORY_SHIFT = 16
_READ, _WRITE, _FLUSH, _NOTIFY, _AHEAD, _DISCARD = (1 << bit for bit in (0, 1, 2, 10, 11, 13))
_LONGEST_PAYLOAD = 0xFFFF
_LARGEST_FIELD = 8  # bytes
_FIRST_RECORDS = 16
_NOTE = _NOTIFY << _CATEGORY_SHIFT
_HAPPENED = _NOTE | 0xFFFF & ~_FROM_GROUP
_ZONE_AND_ZEROES = 0x7F << 16  # categories of version 8: operations on zones, and writing zeroes


@dataclass(frozen=True)
class _Layout:
    """How the heads of one file are laid out; `magic` are the 4 bytes that each begins with."""

    head: np.dtype[Any]
    magic: bytes

    def place_of(self, name: str) -> tuple[np.dtype[Any], int]:
        """Type of a field, and where it lies in the head."""
        fields: Any = self.head.fields
        return fields[name][0], fields[name][1]


_LAYOUTS = [
    _Layout(
        np.dtype([(name, order + kind if kind[0] != "V" else kind) for name, kind in head]),
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

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One field of each; three times as fast where all of them are aligned."""
        kind, offset = self.layout.place_of(name)
        size = kind.itemsize
        if not len(self.places):
            return np.empty(0, dtype=kind)
        behind = self.data[offset:]
        if self.alignment >= size:
            return behind[: len(behind) // size * size].view(kind).take(self.places >> (size.bit_length() - 1))
        return np.ndarray((len(behind) - size + 1,), dtype=kind, buffer=behind, strides=(1,))[self.places]


class BlktraceFile:
    """One file of blktrace, read a chunk at a time.

    `counts` gathers how many issues and completions there were. The last record of a chunk is held back until the next
    one is known, by which it is judged.
    """

    def __init__(
        self, stream: RawStream, devices: Devices, counts: dict[str, int], damage: Damage, chunk_bytes: int
    ) -> None:
        self._stream = stream
        self._devices = devices
        self._counts = counts
        self._damage = damage
        self._chunk_bytes = chunk_bytes
        self._layout: _Layout | None = None
        self._held: Bytes | None = None
        self._order = TimeOrder()
        self._first: Chunk | None = None
        self.start_ns: int | None = None
        """The time of the first record that was kept, None before there is one."""

    @property
    def recognised(self) -> bool:
        """Whether records of blktrace were found."""
        return self._layout is not None

    def open(self) -> None:
        """Read the first chunk, which the next call of `chunk` gives.

        Raises:
            TraceError: the file begins with a record of a version that is not known.
        """
        self._first = self._read()

    def chunk(self) -> Chunk | None:
        """The events of the next records, None at the end of the file."""
        first, self._first = self._first, None
        return first or self._read()

    def _read(self) -> Chunk | None:
        if self._stream.ended and self._held is None:
            return None
        begin = self._stream.offset - (0 if self._held is None else len(self._held))
        data = self._stream.read(self._chunk_bytes, before=self._held)
        whole = len(data) - (0 if self._held is None else len(self._held)) == self._chunk_bytes
        self._held = None
        if self._layout is None:
            self._layout = _recognise(data, self._stream.name)
        if self._layout is None:
            self._damage.add(self._stream.name, Problem.BAD_RECORD, int(len(data) > 0), begin)
            return Chunk({}, self._order.through_ns)
        places, held_from = self._follow(data, begin, self._layout, goes_on=whole)
        heads = _Heads.at(data, self._layout, places)
        table = self._tables(heads, follows=held_from is not None and len(places) > 0)
        self._held = None if held_from is None else data[held_from:].copy()
        return Chunk(table, self._order.through_ns)

    def _follow(self, data: Bytes, begin: int, layout: _Layout, goes_on: bool) -> tuple[Integers, int | None]:
        """Where records begin, and from where on the data are held back; that record is the last of those given."""
        size = layout.head.itemsize
        places = _candidates(data, layout, 4)
        chain = _Chain(data, layout, places, goes_on)
        if not chain.is_whole:
            places = _candidates(data, layout, 1)
            chain = _Chain(data, layout, places, goes_on)
        if not len(places):
            self._note(Problem.BAD_RECORD, begin)
            return places, max(len(data) - size + 1, 0) if goes_on else None
        if places[0] > 0:
            self._note(Problem.BAD_RECORD, begin)
        kept, following = chain.follow(), chain.following
        for place in chain.bad:
            self._note(Problem.BAD_RECORD, begin + place)
        places, end = places[kept], int(following[kept][-1])
        if goes_on and len(data) - places[-1] <= _LONGEST_PAYLOAD + 2 * size:
            return places, int(places[-1])
        if end > len(data) or 0 < len(data) - end < size:
            self._note(Problem.CUT_RECORD, begin + min(end, len(data)))
        elif end < len(data):
            self._note(Problem.BAD_RECORD, begin + end)
        return places, None

    def _note(self, problem: Problem, at_byte: int) -> None:
        self._damage.add(self._stream.name, problem, at_byte=at_byte)

    def _tables(self, heads: _Heads, follows: bool) -> dict[Kind, Columns]:
        """The issues and completions among records; the last one is only looked at where it is held back."""
        happened = heads["action"] & _HAPPENED  # with the flag of a note, it is no request's
        wanted = (happened == _ISSUED) | (happened == _COMPLETED)
        if self.start_ns is None:
            self.start_ns = _first_time(heads.taken((happened & _NOTE) == 0))
        if follows:
            wanted[-1:] = False
        chosen = np.flatnonzero(wanted)
        looked_at = np.append(chosen, len(happened) - 1) if follows else chosen
        time_ns = heads.taken(looked_at)["time"].astype(np.int64)
        kept = self._order.fitting(time_ns, time_ns[: len(chosen)])
        self._damage.add(self._stream.name, Problem.BAD_TIME, int((~kept).sum()))
        chosen = chosen[kept]
        is_issue = happened[chosen] == _ISSUED
        issues, completions = heads.taken(chosen[is_issue]), heads.taken(chosen[~is_issue])
        return {Kind.ISSUE: self._issues(issues), Kind.COMPLETE: self._completions(completions)}

    def _issues(self, heads: _Heads) -> Columns:
        self._counts["blktrace issue"] = self._counts.get("blktrace issue", 0) + len(heads.places)
        return self._traced(
            Kind.ISSUE.columns(time_ns=heads["time"], device=self._device(heads), sector=heads["sector"])
        )

    def _completions(self, heads: _Heads) -> Columns:
        self._counts["blktrace complete"] = self._counts.get("blktrace complete", 0) + len(heads.places)
        category, byte_count = heads["action"].astype(np.int64) >> _CATEGORY_SHIFT, heads["bytes"]
        return self._traced(
            Kind.COMPLETE.columns(
                time_ns=heads["time"],
                device=self._device(heads),
                sector=heads["sector"],
                bytes=byte_count,
                operation=_operations(category, byte_count),
                readahead=(category & _AHEAD) != 0,
                error=heads["error"],
            )
        )

    def _device(self, heads: _Heads) -> NDArray[np.int16]:
        return self._devices.indices(heads["device"].astype(np.int64))

    @staticmethod
    def _traced(table: Columns) -> Columns:
        traced = table["device"] >= 0
        return table if traced.all() else rows(table, traced)


def _recognise(data: Bytes, name: str) -> _Layout | None:
    """The layout of the first record, None where there is none."""
    text = data.tobytes()
    for order in ("little", "big"):
        word = int.from_bytes(text[:4], "little" if order == "little" else "big")
        if word & ~0xFF == _MAGIC and word & 0xFF not in _HEADS:
            raise TraceError(
                f"{name} is of version {word & 0xFF} of blktrace's format, and this pagelab reads {sorted(_HEADS)}: "
                "use a newer pagelab"
            )
    found = {place: layout for layout in _LAYOUTS if (place := text.find(layout.magic)) >= 0}
    return found[min(found)] if found else None


def _candidates(data: Bytes, layout: _Layout, step: int) -> Integers:
    """Where, at multiples of `step` bytes (1 or 4), the magic number stands, with room for a head behind it.

    It may also stand in what follows a head. Nearly always that is a multiple of 4 bytes long, and so all records are
    at multiples of 4, which are looked through twenty times as fast as all bytes.
    """
    if step == 4:
        words = data[: len(data) // 4 * 4].view("<u4")
        at = np.flatnonzero(words == int.from_bytes(layout.magic, "little")) * 4
        return at[: np.searchsorted(at, len(data) - layout.head.itemsize, side="right")]
    rare = layout.magic.index(_MAGIC >> 24)
    at = np.flatnonzero(data == _MAGIC >> 24) - rare
    at = at[(at >= 0) & (at <= len(data) - layout.head.itemsize)]
    found: Integers = at[
        _Heads.at(data, layout, at)["magic"] == int.from_bytes(layout.magic, "little" if rare else "big")
    ]
    return found


class _Chain:
    """Follows records from each to the next.

    Nearly always a record ends where the next candidate begins (`following` says where each ends). Where it does not,
    either a record is there further on, or the data end there, and the candidates between are chance; or something is
    damaged: `bad` has the places of the records behind which that is.
    """

    def __init__(self, data: Bytes, layout: _Layout, places: Integers, goes_on: bool) -> None:
        self.places = places
        self.following: Integers = places + layout.head.itemsize + _Heads.at(data, layout, places)["pdu_len"]
        self.bad: list[int] = []
        self._head_bytes = layout.head.itemsize
        self._data_bytes = len(data)
        self._goes_on = goes_on
        self._breaks = np.flatnonzero(self.following[:-1] != self.places[1:]).tolist()

    @property
    def is_whole(self) -> bool:
        """Whether it begins with the data, leads over all candidates, and ends less than a head before the data."""
        return bool(
            len(self.places)
            and self.places[0] == 0
            and not self._breaks
            and self.following[-1] > self._data_bytes - self._head_bytes
        )

    def follow(self) -> NDArray[np.bool_] | slice:
        """Which of the candidates are records."""
        if not self._breaks:
            return slice(None)
        kept = np.ones(len(self.places), dtype=np.bool_)
        reached = 0
        for one in self._breaks:
            if one < reached:
                continue
            reached = int(np.searchsorted(self.places, self.following[one]))
            if not self._leads_on(one, reached):
                self.bad.append(int(self.places[one]))
                if self._is_sound(one + 1) or reached == len(self.places):
                    reached = one + 1
                kept[one] = self.places[one + 1] - self.places[one] >= self._head_bytes
            kept[one + 1 : reached] = False
        return kept

    def _leads_on(self, one: int, reached: int) -> bool:
        if reached < len(self.places):
            return bool(self.places[reached] == self.following[one])
        return self._goes_on or bool(self.following[one] == self._data_bytes)

    def _is_sound(self, one: int) -> bool:
        return one + 1 < len(self.places) and bool(self.following[one] == self.places[one + 1])


def _first_time(heads: _Heads) -> int | None:
    """The time of the first record, unless that time cannot be."""
    times = heads.taken(slice(_FIRST_RECORDS))["time"].astype(np.int64)
    sound = times[TimeOrder().fitting(times, times)]
    return int(sound[0]) if len(sound) else None


def _operations(category: Integers, byte_count: NDArray[Any]) -> NDArray[np.int8]:
    """The operation of each request; a flush without data is one, whatever else it is called."""
    return np.select(
        [
            (category & _ZONE_AND_ZEROES) != 0,
            (category & _DISCARD) != 0,
            ((category & _FLUSH) != 0) & (byte_count == 0),
            (category & _WRITE) != 0,
            (category & _READ) != 0,
        ],
        [np.int8(kind) for kind in (OTHER, DISCARD, FLUSH, WRITE, READ)],
        default=np.int8(OTHER),
    )
