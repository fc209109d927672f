"""The tables of a trace as arrays: completed reads (block_io.parquet) and page events (page_cache.parquet).

Only the columns that are computed with are read. Times are nanoseconds since the start of the inference process.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from pagelab.analysis.access.spans import Span
from pagelab.store.files import read_table
from pagelab.traces.arrays import Integers, Mask, Rows
from pagelab.traces.events import PAGE_EVENTS, SOURCES

ABSENT = -1  # the number of an absent text

_BLOCK_COLUMNS = ("time_ns", "issued_ns", "device", "sector", "bytes", "operation", "readahead", "error")
_PLACE_COLUMNS = ("source", "model_bytes", "file_part", "file_offset_bytes")
_PAGE_COLUMNS = ("time_ns", "event", "file_part", "file_offset_bytes", "bytes")


@dataclass(frozen=True)
class TimedRows(Rows):
    """What has a time, `time_ns`, by which it is in order."""

    time_ns: Integers

    def within(self, span: Span) -> Self:
        """Those of a span."""
        return self.taken(span.of(self.time_ns))


@dataclass(frozen=True)
class BlockReads(TimedRows):
    """The reads of some bytes that a disk completed without an error, by time of completion; arrays of one length.

    `issued_ns` is None where no issue was recorded, and at or below `NO_ISSUE` for a single read without one. `source`
    is an index into SOURCES, or ABSENT. `part` and `offset` say where the `model_bytes` bytes of the model begin.
    `ahead` marks the reads that the kernel's readahead asked for.
    """

    NO_ISSUE = -(2**62)

    issued_ns: Integers | None
    device: Integers
    sector: Integers
    bytes: Integers
    source: Integers
    model_bytes: Integers
    part: Integers
    offset: Integers
    ahead: Mask

    @property
    def in_order_of_issue(self) -> bool:
        """Whether the order of issue is known: most reads have one."""
        return self.issued_ns is not None and 2 * int(np.count_nonzero(self.issued_ns > self.NO_ISSUE)) > len(self)

    def moments(self) -> Integers:
        """When each read was issued, where that is known of most of them, and else completed."""
        if self.issued_ns is None or not self.in_order_of_issue:
            return self.time_ns
        return np.where(self.issued_ns > self.NO_ISSUE, self.issued_ns, self.time_ns)

    def times_with_issue(self) -> tuple[Integers, Integers]:
        """Of the reads of which it is known when they were issued: that, and when they completed."""
        if self.issued_ns is None:
            return self.time_ns[:0], self.time_ns[:0]
        known = self.issued_ns > self.NO_ISSUE
        return (self.issued_ns, self.time_ns) if known.all() else (self.issued_ns[known], self.time_ns[known])


@dataclass(frozen=True)
class PageEvents(TimedRows):
    """Events of the model's pages, by time; `event` is an index into PAGE_EVENTS. Arrays of one length."""

    event: Integers
    part: Integers
    offset: Integers
    bytes: Integers


def read_block_reads(path: Path, placed: bool = True) -> BlockReads:
    """Read the completed reads of a table.

    Args:
        path: block_io.parquet.
        placed: read too where they lie in files; without it `source` is ABSENT and the rest is 0.

    Raises:
        StoreError: the table is missing or damaged, or lacks a column.
    """
    table = read_table(path, _BLOCK_COLUMNS + (_PLACE_COLUMNS if placed else ()))
    wanted = _codes(table["operation"], ("read",)) == 0
    wanted &= (_numbers(table["error"], 0) == 0) & (_numbers(table["bytes"], 0) > 0)
    if not wanted.all():
        table = table.filter(pa.array(wanted))
    issued = None if table["issued_ns"].null_count == len(table) else _numbers(table["issued_ns"], BlockReads.NO_ISSUE)
    absent, nothing = (np.broadcast_to(np.int64(value), len(table)) for value in (ABSENT, 0))
    model_bytes, part, offset = (_numbers(table[name], 0) if placed else nothing for name in _PLACE_COLUMNS[1:])
    return BlockReads(
        _numbers(table["time_ns"], 0),
        issued,
        _codes(table["device"]),
        _numbers(table["sector"], 0),
        _numbers(table["bytes"], 0),
        _codes(table["source"], SOURCES) if placed else absent,
        model_bytes,
        part,
        offset,
        table["readahead"].to_numpy().astype(np.bool_),
    )


def read_page_events(path: Path) -> PageEvents:
    """Read the events of the model's pages.

    Raises:
        StoreError: the table is missing or damaged, or lacks a column.
    """
    table = read_table(path, _PAGE_COLUMNS)
    return PageEvents(
        _numbers(table["time_ns"], 0),
        _codes(table["event"], PAGE_EVENTS),
        *(_numbers(table[name], 0) for name in ("file_part", "file_offset_bytes", "bytes")),
    )


def _numbers(column: pa.ChunkedArray, absent: int) -> Integers:
    """A column of whole numbers, `absent` in place of nulls."""
    column = column.fill_null(absent) if column.null_count else column
    # A single piece is taken as it is, without a copy.
    numbers = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    found: Integers = numbers.to_numpy().astype(np.int64, copy=False)
    return found


def _codes(column: pa.ChunkedArray, texts: tuple[str, ...] | None = None) -> Integers:
    """Texts as numbers: their place in `texts`, or in the order in which they sort; ABSENT for null and unknown."""
    if pa.types.is_null(column.type):
        return np.full(len(column), ABSENT, dtype=np.int64)
    column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = column.combine_chunks()
    known = codes.dictionary.to_pylist()
    places = {text: place for place, text in enumerate(sorted(known) if texts is None else texts)}
    number_of = np.array([places.get(text, ABSENT) for text in known] + [ABSENT], dtype=np.int64)
    if len(known) == 1 and not codes.null_count:  # as nearly always
        return np.full(len(column), number_of[0])
    found: Integers = number_of[codes.indices.fill_null(len(known)).to_numpy()]
    return found
