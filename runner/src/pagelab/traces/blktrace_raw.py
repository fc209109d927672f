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
        table = self._tables(data, places, self._layout, follows=held_from is not None)
        self._held = None if held_from is None else data[held_from:].copy()
        return Chunk(table, self._order.through_ns)

    def _follow(self, data: Bytes, begin: int, layout: _Layout, goes_on: bool) -> tuple[Integers, int | None]:
        """Where records begin, and from where on the data are held back; that record is the last of those given."""
        places = _candidates(data, layout)
        size = layout.head.itemsize
        if not len(places):
            self._note(Problem.BAD_RECORD, begin)
            return places, max(len(data) - size + 1, 0) if goes_on else None
        following = places + size + _at(data, layout, "pdu_len", places)
        if places[0] > 0:
            self._note(Problem.BAD_RECORD, begin)
        kept, bad = _chain(places, following, goes_on)
        for place in bad:
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

    def _tables(self, data: Bytes, places: Integers, layout: _Layout, follows: bool) -> dict[Kind, Columns]:
        """The issues and completions among records; the last one is only looked at where it is held back."""
        action = _at(data, layout, "action", places)
        happened = np.where(action & (_NOTIFY << _CATEGORY_SHIFT), 0, action & (0xFFFF & ~_FROM_GROUP))
        wanted = (happened == _ISSUED) | (happened == _COMPLETED)
        if self.start_ns is None and happened.any():
            self.start_ns = int(_at(data, layout, "time", places[[int(np.argmax(happened != 0))]])[0])
        if follows:
            wanted[-1:] = False
        chosen = np.flatnonzero(wanted)
        time_ns = _at(data, layout, "time", places[np.append(chosen, len(places) - 1) if follows else chosen])
        kept = self._order.fitting(time_ns, time_ns[: len(chosen)])
        self._damage.add(self._stream.name, Problem.BAD_TIME, int((~kept).sum()))
        chosen = chosen[kept]
        records = _heads(data, layout, places[chosen])
        done = happened[chosen] == _COMPLETED
        return {Kind.ISSUE: self._issues(records[~done]), Kind.COMPLETE: self._completions(records[done])}

    def _issues(self, records: NDArray[Any]) -> Columns:
        self._counts["blktrace issue"] = self._counts.get("blktrace issue", 0) + len(records)
        return self._traced(
            Kind.ISSUE.columns(
                time_ns=records["time"], device=self._device(records), sector=records["sector"].astype(np.int64)
            )
        )

    def _completions(self, records: NDArray[Any]) -> Columns:
        self._counts["blktrace complete"] = self._counts.get("blktrace complete", 0) + len(records)
        category = records["action"].astype(np.int64) >> _CATEGORY_SHIFT
        return self._traced(
            Kind.COMPLETE.columns(
                time_ns=records["time"],
                device=self._device(records),
                sector=records["sector"],
                bytes=records["bytes"],
                operation=_operations(category, records["bytes"]),
                readahead=(category & _AHEAD) != 0,
                error=records["error"],
            )
        )

    def _device(self, records: NDArray[Any]) -> NDArray[np.int16]:
        return self._devices.indices(records["device"].astype(np.int64))

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


def _candidates(data: Bytes, layout: _Layout) -> Integers:
    """Where the magic number stands, with room for a head behind it; it may also stand in what follows a head."""
    rare = layout.magic.index(_MAGIC >> 24)
    at = np.flatnonzero(data == _MAGIC >> 24) - rare
    at = at[(at >= 0) & (at <= len(data) - layout.head.itemsize)]
    magic = int.from_bytes(layout.magic, "little" if rare else "big")
    found: Integers = at[_at(data, layout, "magic", at) == magic]
    return found


def _chain(places: Integers, following: Integers, goes_on: bool) -> tuple[NDArray[np.bool_], list[int]]:
    """Which of the candidates the chain of records leads over, and where it breaks.

    Nearly always each record ends where the next candidate is. Where it does not, either a record is there further on,
    and the candidates between are chance, or something is damaged.
    """
    kept = np.ones(len(places), dtype=np.bool_)
    bad: list[int] = []
    reached = 0
    for one in np.flatnonzero(following[:-1] != places[1:]).tolist():
        if one < reached:
            continue
        reached = int(np.searchsorted(places, following[one]))
        is_there = reached < len(places) and places[reached] == following[one]
        may_come = reached == len(places) and goes_on
        if not is_there and not may_come:
            bad.append(int(places[one]))
            next_is_sound = one + 2 < len(places) and following[one + 1] == places[one + 2]
            reached = one + 1 if next_is_sound or reached == len(places) else reached
        kept[one + 1 : reached] = False
    return kept, bad


def _at(data: Bytes, layout: _Layout, name: str, places: Integers) -> Integers:
    """One field of the heads that begin at some places."""
    if not len(places):
        return np.empty(0, dtype=np.int64)
    kind, offset = layout.place_of(name)
    everywhere = np.ndarray((len(data) - kind.itemsize + 1,), dtype=kind, buffer=data, strides=(1,))
    return everywhere[places + offset].astype(np.int64)


def _heads(data: Bytes, layout: _Layout, places: Integers) -> NDArray[Any]:
    """The heads that begin at some places, copied into one array."""
    size = layout.head.itemsize
    if not len(places):
        return np.empty(0, dtype=layout.head)
    everywhere = np.ndarray((len(data) - size + 1,), dtype=f"V{size}", buffer=data, strides=(1,))
    return everywhere[places].view(layout.head)


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
