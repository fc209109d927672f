"""The raw file of one CPU, as a private tracefs instance gives it: pages of the ring buffer, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import TraceError
from pagelab.store.trace_record import TracedFile, TraceRecord
from pagelab.traces.damage import Damage, Problem
from pagelab.traces.event_format import EventFormat, PageLayout, parse_event_format, parse_header_page
from pagelab.traces.events import (
    ADD,
    DELETE,
    FAULT,
    MAP,
    SECTOR_BYTES,
    Chunk,
    Columns,
    Devices,
    Kind,
    device_number,
    encode,
    operation_of,
    rows,
)
from pagelab.traces.raw_files import Bytes, RawStream
from pagelab.traces.ring_buffer import Integers, RingEvents, read_heads, walk
from pagelab.traces.time_order import TimeOrder

_WORD_BYTES = 4

_ISSUE, _COMPLETE = "block/block_rq_issue", "block/block_rq_complete"
_PAGE_CODES = {
    "filemap/mm_filemap_add_to_page_cache": ADD,
    "filemap/mm_filemap_delete_from_page_cache": DELETE,
    "filemap/mm_filemap_fault": FAULT,
    "filemap/mm_filemap_map_pages": MAP,
}
_REQUIRED = {
    _ISSUE: ("dev", "sector"),
    _COMPLETE: ("dev", "sector", "nr_sector", "rwbs"),
    **dict.fromkeys(_PAGE_CODES, ("common_pid", "i_ino", "s_dev", "index")),
    "filemap/mm_filemap_map_pages": ("common_pid", "i_ino", "s_dev", "index", "last_index"),
}
_OPTIONAL = {_COMPLETE: ("error",), **dict.fromkeys(_PAGE_CODES, ("order",))}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An event that is read: its number, the record it is read as, and the words of 4 bytes that this takes."""

    event: str
    number: int
    record: np.dtype[Any]
    words: int


class TracefsReader:
    """Turns pages into columns, for all CPUs of one trace."""

    def __init__(self, record: TraceRecord, devices: Devices, counts: dict[str, int], blocks: bool) -> None:
        """Take over what the trace says of its events.

        Args:
            record: the trace's description.
            devices: the names of devices, to which new ones may be added.
            counts: gathers how many events of each kind there were.
            blocks: whether block events are read too; not where another recorder gave them.

        Raises:
            TraceError: the description cannot be used.
        """
        if record.header_page is None:
            raise TraceError("trace.json does not describe the ring buffer's pages (header_page): record again")
        self.layout: PageLayout = parse_header_page(record.header_page)
        self._counts = counts
        self._devices = devices
        self._page_bytes = record.page_bytes
        self._files = _Files(record.files)
        formats = [parse_event_format(event, text) for event, text in record.formats.items() if event in _REQUIRED]
        self._wanted = [_wanted(one) for one in formats if blocks or one.event in _PAGE_CODES]
        self._type_at = _common_type_at(formats)
        counts.update({wanted.event: 0 for wanted in self._wanted})

    def tables(self, pages: Bytes, events: RingEvents, damage: Damage, name: str) -> dict[Kind, Columns]:
        """The events of a kind that is read, as columns; events of other kinds are passed over."""
        numbers = pages.reshape(-1).view("<u2").take(events.at_word * 2 + self._type_at)
        found = {}
        for wanted in self._wanted:
            at = np.flatnonzero(numbers == wanted.number)
            whole = events.words[at] >= wanted.words
            if not whole.all():
                damage.add(name, Problem.SHORT_EVENT, int((~whole).sum()))
                at = at[whole]
            self._counts[wanted.event] += len(at)
            if len(at):
                found[wanted.event] = (at, _records(pages, events.at_word[at], wanted.record))
        return self._columns(events.time_ns, found)

    def _columns(self, time_ns: Integers, found: dict[str, tuple[Integers, NDArray[Any]]]) -> dict[Kind, Columns]:
        tables = {}
        for event, kind, columns in ((_ISSUE, Kind.ISSUE, self._issue), (_COMPLETE, Kind.COMPLETE, self._completion)):
            if event in found:
                at, records = found[event]
                table = columns(time_ns[at], records)
                traced = table["device"] >= 0
                tables[kind] = table if traced.all() else rows(table, traced)
        of_pages = {event: value for event, value in found.items() if event in _PAGE_CODES}
        if of_pages:
            tables[Kind.PAGE] = self._pages(time_ns, of_pages)
        return tables

    def _issue(self, time_ns: Integers, records: NDArray[Any]) -> Columns:
        return Kind.ISSUE.columns(
            time_ns=time_ns, device=self._devices.indices(records["dev"]), sector=records["sector"]
        )

    def _completion(self, time_ns: Integers, records: NDArray[Any]) -> Columns:
        operation, readahead = _operations(records["rwbs"])
        return Kind.COMPLETE.columns(
            time_ns=time_ns,
            device=self._devices.indices(records["dev"]),
            sector=records["sector"],
            bytes=records["nr_sector"].astype(np.int64) * SECTOR_BYTES,
            operation=operation,
            readahead=readahead,
            error=_field(records, "error", np.int32),
        )

    def _pages(self, time_ns: Integers, found: dict[str, tuple[Integers, NDArray[Any]]]) -> Columns:
        """Page-cache events of all kinds in one table, in the order of the ring buffer."""
        place = np.full(len(time_ns), -1, dtype=np.int32)
        for at, _ in found.values():
            place[at] = 0
        chosen = np.flatnonzero(place == 0)
        place[chosen] = np.arange(len(chosen), dtype=np.int32)
        table: Columns = {name: np.empty(len(chosen), dtype=kind) for name, kind in Kind.PAGE.value}
        table["time_ns"] = time_ns[chosen]
        for event, (at, records) in found.items():
            to = place[at]
            index = records["index"].astype(np.int64)
            table["event"][to] = _PAGE_CODES[event]
            table["pid"][to] = records["common_pid"]
            table["file_part"][to] = self._files.parts(records["i_ino"], records["s_dev"])
            table["file_offset_bytes"][to] = index * self._page_bytes
            table["bytes"][to] = self._covered(event, index, records)
        of_model = table["file_part"] >= 0
        return table if of_model.all() else rows(table, of_model)

    def _covered(self, event: str, index: Integers, records: NDArray[Any]) -> Integers | int:
        """Bytes that an event is about: a folio, the one page that was missed, or the range that was mapped."""
        code = _PAGE_CODES[event]
        if code == FAULT:
            return self._page_bytes
        if code == MAP:
            mapped: Integers = (records["last_index"].astype(np.int64) - index + 1) * self._page_bytes
            return mapped
        return self._page_bytes << _field(records, "order", np.int64)


class _Files:
    """The parts of the model by inode and device, as page-cache events say them."""

    def __init__(self, files: Sequence[TracedFile]) -> None:
        self._known = [
            (file.part, file.inode, device_number(file.major, file.minor))
            for file in files
            if file.kind == "model" and file.inode is not None and file.major is not None and file.minor is not None
        ]

    def parts(self, inode: NDArray[Any], device: NDArray[Any]) -> NDArray[np.int8]:
        """The part of the model that each event is about, -1 for other files."""
        found = np.full(len(inode), -1, dtype=np.int8)
        for part, known, number in self._known:
            found[(inode == known) & (device == number)] = part
        return found


class TracefsFile:
    """The raw file of one CPU, read a chunk at a time.

    One page is held back at the end of each chunk, so that every page can be judged by its neighbours.
    """

    def __init__(self, stream: RawStream, reader: TracefsReader, damage: Damage, chunk_bytes: int) -> None:
        self._stream = stream
        self._reader = reader
        self._damage = damage
        self._page_bytes = reader.layout.page_bytes
        self._chunk_bytes = max(chunk_bytes // self._page_bytes, 2) * self._page_bytes
        self._held: Bytes | None = None
        self._order = TimeOrder()

    def chunk(self) -> Chunk | None:
        """The events of the next pages, None at the end of the file."""
        if self._stream.ended and self._held is None:
            return None
        begin = self._stream.offset - (0 if self._held is None else self._page_bytes)
        data = self._stream.read(self._chunk_bytes, before=self._held)
        count, rest = divmod(len(data), self._page_bytes)
        self._damage.add(self._stream.name, Problem.CUT_PAGE, int(rest > 0), begin + count * self._page_bytes)
        pages = data[: count * self._page_bytes].reshape(count, self._page_bytes)
        self._held = pages[-1].copy() if count and not self._stream.ended else None
        return Chunk(self._tables(pages, begin), self._order.through_ns)

    def _tables(self, pages: Bytes, begin: int) -> dict[Kind, Columns]:
        """The events of whole pages; of one that is held back, only the time is looked at."""
        layout = self._reader.layout
        heads = read_heads(pages, layout)
        judged = len(pages) - (self._held is not None)
        too_full = heads.data_bytes > layout.data_bytes
        used = np.flatnonzero((heads.data_bytes > 0) & ~too_full)
        chosen = used[used < judged]
        events = walk(pages, layout, heads, chosen)
        kept = self._order.fitting(heads.time_ns[used], events.page_ends_ns)
        self._note(np.flatnonzero(heads.missed[:judged]), Problem.MISSED_EVENTS, begin)
        self._note(np.flatnonzero(too_full[:judged]), Problem.BAD_COMMIT, begin)
        self._note(events.broken, Problem.BAD_LENGTH, begin)
        self._note(chosen[~kept], Problem.BAD_TIME, begin)
        if not kept.all():
            events = events.of_pages(chosen[kept])
        return self._reader.tables(pages, events, self._damage, self._stream.name)

    def _note(self, pages: Integers, problem: Problem, begin: int) -> None:
        if len(pages):
            self._damage.add(self._stream.name, problem, len(pages), begin + int(pages[0]) * self._page_bytes)


def _wanted(one: EventFormat) -> _Wanted:
    one.require(_REQUIRED[one.event])
    record = one.record_type((*_REQUIRED[one.event], *_OPTIONAL.get(one.event, ())))
    return _Wanted(one.event, one.number, record, -(-record.itemsize // _WORD_BYTES))


def _common_type_at(formats: Sequence[EventFormat]) -> int:
    """Where the event's number is, in units of its 2 bytes; the same for all events of a kernel."""
    places = {(one.fields["common_type"].offset, one.fields["common_type"].size) for one in formats}
    if len(places) > 1 or any(size != 2 or offset % 2 for offset, size in places):
        raise TraceError("the events' numbers (common_type) do not lie in one place of 2 bytes: use a newer pagelab")
    return next(iter(places), (0, 2))[0] // 2


def _records(pages: Bytes, at_word: NDArray[np.int32], record: np.dtype[Any]) -> NDArray[Any]:
    """The records that begin at some words, which are known to be whole, copied into one array."""
    size = record.itemsize
    everywhere = np.ndarray(
        ((pages.size - size) // _WORD_BYTES + 1,), dtype=f"V{size}", buffer=pages, strides=(_WORD_BYTES,)
    )
    return everywhere[at_word].view(record)


def _field(records: NDArray[Any], name: str, kind: type[Any]) -> NDArray[Any]:
    """A field, 0 where the kernel does not have it."""
    if name in (records.dtype.names or ()):
        return records[name].astype(kind)
    return np.zeros(len(records), dtype=kind)


def _operations(rwbs: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Operation and readahead of each request; the first 8 letters say both."""
    codes, distinct = encode(rwbs.astype("S8").view("<u8"))
    known = [operation_of(word.to_bytes(8, "little").rstrip(b"\0").decode("ascii", "replace")) for word in distinct]
    operation = np.array([code for code, _ in known], dtype=np.int8)
    readahead = np.array([ahead for _, ahead in known], dtype=np.bool_)
    return operation[codes], readahead[codes]
