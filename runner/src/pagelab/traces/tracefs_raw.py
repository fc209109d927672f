"""The raw file of one CPU, as a private tracefs instance gives it: pages of the ring buffer, one after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import TraceError
from pagelab.store.trace_record import TraceRecord
from pagelab.traces.arrays import Bytes, Columns, Integers, encode, known
from pagelab.traces.event_format import EventFormat, PageLayout, parse_event_format, parse_header_page
from pagelab.traces.events import (
    ADD,
    DELETE,
    FAULT,
    MAP,
    SLACK_NS,
    Chunk,
    Kind,
    beyond_any_disk,
    device_number,
    operation_of,
    placed,
)
from pagelab.traces.problems import DamagedError, refuse
from pagelab.traces.raw_files import Decoding, RawStream
from pagelab.traces.ring_buffer import RingEvents, walk
from pagelab.units import SECTOR_BYTES

_WORD_BYTES = 4
_LARGEST_INDEX, _LARGEST_ORDER = 1 << 40, 30  # of pages in a file, and of a folio of so many powers of two of them

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
_MISSED = "place where the kernel says that it could not keep up and events are missing"


class TracefsReader:
    """Turns pages into columns, for all CPUs of one trace."""

    def __init__(self, record: TraceRecord, decoding: Decoding, blocks: bool) -> None:
        """Take over what the trace says of its events.

        Args:
            record: the trace's description.
            decoding: what is shared with other readers.
            blocks: whether block events are read too; not where another recorder gave them.

        Raises:
            TraceError: the description cannot be used.
        """
        if record.header_page is None:
            raise TraceError("trace.json does not describe the ring buffer's pages (header_page): record again")
        self.layout: PageLayout = parse_header_page(record.header_page)
        self.decoding = decoding
        self._page_bytes = record.page_bytes
        self._parts = [
            (file.part, file.inode, device_number(file.major, file.minor))
            for file in record.files
            if file.kind == "model" and file.inode is not None and file.major is not None and file.minor is not None
        ]
        formats = [parse_event_format(event, text) for event, text in record.formats.items() if event in _REQUIRED]
        self._wanted = [
            (one.event, one.number, one.record_type(_REQUIRED[one.event], _OPTIONAL.get(one.event, ())))
            for one in formats
            if blocks or one.event in _PAGE_CODES
        ]
        self._type_at = _common_type_at(formats)
        for event, _, _ in self._wanted:
            decoding.counts[event] += 0

    def tables(self, pages: Bytes, events: RingEvents) -> dict[Kind, Columns]:
        """The events of a kind that is read, as columns; events of other kinds are passed over.

        Raises:
            DamagedError: an event is shorter than its kind, or of a place that no disk or file has.
        """
        numbers = pages.reshape(-1).view("<u2").take(events.at_word * 2 + self._type_at)
        found = {}
        for event, number, record in self._wanted:
            at = np.flatnonzero(numbers == number)
            short = events.words[at] < -(-record.itemsize // _WORD_BYTES)
            if short.any():
                at_byte = int(events.at_word[at[short.argmax()]]) * _WORD_BYTES
                raise DamagedError(f"has an event that is shorter than {event}", at_byte)
            self.decoding.counts[event] += len(at)
            if len(at):
                found[event] = (at, _records(pages, events.at_word[at], record))
                _check_places(*found[event], events)
        return self._columns(events.time_ns, found)

    def _columns(self, time_ns: Integers, found: dict[str, tuple[Integers, NDArray[Any]]]) -> dict[Kind, Columns]:
        tables = {}
        for event, kind, columns in ((_ISSUE, Kind.ISSUE, self._issue), (_COMPLETE, Kind.COMPLETE, self._completion)):
            if event in found:
                at, records = found[event]
                tables[kind] = known(columns(time_ns[at], records), "device")
        of_pages = {event: value for event, value in found.items() if event in _PAGE_CODES}
        if of_pages:
            tables[Kind.PAGE] = self._pages(time_ns, of_pages)
        return tables

    def _issue(self, time_ns: Integers, records: NDArray[Any]) -> Columns:
        device = self.decoding.devices.indices(records["dev"])
        return Kind.ISSUE.columns(time_ns=time_ns, device=device, sector=placed(_unsigned(records["sector"])))

    def _completion(self, time_ns: Integers, records: NDArray[Any]) -> Columns:
        operation, readahead = _operations(records["rwbs"])
        return Kind.COMPLETE.columns(
            time_ns=time_ns,
            device=self.decoding.devices.indices(records["dev"]),
            sector=placed(_unsigned(records["sector"])),
            bytes=records["nr_sector"].astype(np.int64) * SECTOR_BYTES,
            operation=operation,
            readahead=readahead,
            error=_field(records, "error", np.int32),
        )

    def _pages(self, time_ns: Integers, found: dict[str, tuple[Integers, NDArray[Any]]]) -> Columns:
        """Page-cache events of all kinds in one table, in the order of the ring buffer."""
        wanted = np.zeros(len(time_ns), dtype=np.bool_)
        for at, _ in found.values():
            wanted[at] = True
        chosen, place = np.flatnonzero(wanted), np.cumsum(wanted, dtype=np.int32) - 1
        table = Kind.PAGE.empty(len(chosen))
        table["time_ns"] = time_ns[chosen]
        for event, (at, records) in found.items():
            to = place[at]
            index = records["index"].astype(np.int64)
            table["event"][to] = _PAGE_CODES[event]
            table["pid"][to] = records["common_pid"]
            table["file_part"][to] = self._file_part(records["i_ino"], records["s_dev"])
            table["file_offset_bytes"][to] = index * self._page_bytes
            table["bytes"][to] = self._covered(event, index, records)
        return known(table, "file_part")

    def _file_part(self, inode: NDArray[Any], device: NDArray[Any]) -> NDArray[np.int32]:
        """The part of the model that each event is about, -1 for other files."""
        found = np.full(len(inode), -1, dtype=np.int32)
        for part, its_inode, its_device in self._parts:
            found[(inode == its_inode) & (device == its_device)] = part
        return found

    def _covered(self, event: str, index: Integers, records: NDArray[Any]) -> Integers | int:
        """Bytes that an event is about: a folio, the one page that was missed, or the range that was mapped."""
        code = _PAGE_CODES[event]
        if code == FAULT:
            return self._page_bytes
        if code == MAP:
            mapped: Integers = (records["last_index"].astype(np.int64) - index + 1) * self._page_bytes
            return mapped
        return self._page_bytes << _field(records, "order", np.int64)


class TracefsFile:
    """The raw file of one CPU, always of our own, read a chunk at a time."""

    def __init__(self, path: Path, reader: TracefsReader) -> None:
        self._stream = RawStream(path, reader.decoding.problems)
        self._reader = reader
        self._chunk_bytes = max(reader.decoding.chunk_bytes // reader.layout.page_bytes, 1) * reader.layout.page_bytes
        self._through_ns = 0

    def chunk(self) -> Chunk | None:
        """The events of the next pages, None at the end of the file.

        Raises:
            TraceError: the file is damaged.
        """
        if self._stream.ended:
            return None
        begin = self._stream.offset
        try:
            tables = self._tables(self._stream.read(self._chunk_bytes), begin)
        except DamagedError as error:
            refuse(self._stream.path, str(error), begin + error.at_byte)
        return Chunk(tables, self._through_ns)

    def _tables(self, data: Bytes, begin: int) -> dict[Kind, Columns]:
        page_bytes = self._reader.layout.page_bytes
        count, rest = divmod(len(data), page_bytes)
        if rest:
            raise DamagedError("ends in the middle of a page", len(data))
        pages = data.reshape(count, page_bytes)
        events = walk(pages, self._reader.layout)
        self._check_times(events)
        if len(events.missed):
            first = begin + int(events.missed[0]) * page_bytes
            self._reader.decoding.problems.note(self._stream.path.name, _MISSED, len(events.missed), first)
        return self._reader.tables(pages, events)

    def _check_times(self, events: RingEvents) -> None:
        reached = np.maximum.accumulate(np.append(self._through_ns, events.time_ns))
        back = events.time_ns < reached[:-1] - SLACK_NS
        if back.any():
            raise DamagedError("goes back in time", int(events.at_word[back.argmax()]) * _WORD_BYTES)
        self._through_ns = int(reached[-1])


def _common_type_at(formats: Sequence[EventFormat]) -> int:
    """Where the event's number is, in units of its 2 bytes; the same for all events of a kernel."""
    places = {one.fields["common_type"].offset for one in formats}
    if len(places) > 1:
        raise TraceError("the events' numbers (common_type) do not lie in one place: use a newer pagelab")
    return next(iter(places), 0) // 2


def _records(pages: Bytes, at_word: NDArray[np.int32], record: np.dtype[Any]) -> NDArray[Any]:
    """The records that begin at some words, which are known to be whole, copied into one array."""
    size = record.itemsize
    everywhere = np.ndarray(
        ((pages.size - size) // _WORD_BYTES + 1,), dtype=f"V{size}", buffer=pages, strides=(_WORD_BYTES,)
    )
    return everywhere[at_word].view(record)


def _unsigned(sector: NDArray[Any]) -> NDArray[np.uint64]:
    return sector.astype(np.uint64)


def _check_places(at: Integers, records: NDArray[Any], events: RingEvents) -> None:
    """Refuse requests that are where no disk is, and pages that are where no file is."""
    names = records.dtype.names or ()
    bad = np.zeros(len(records), dtype=np.bool_)
    if "sector" in names:
        bad |= beyond_any_disk(_unsigned(records["sector"]))
    if "index" in names:
        index = _unsigned(records["index"])
        bad |= index > _LARGEST_INDEX
        if "last_index" in names:
            last = _unsigned(records["last_index"])
            bad |= (last < index) | (last > _LARGEST_INDEX)
        if "order" in names:
            bad |= records["order"] > _LARGEST_ORDER
    if bad.any():
        at_byte = int(events.at_word[at[bad.argmax()]]) * _WORD_BYTES
        raise DamagedError("has an event of a place that no disk or file has", at_byte)


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
