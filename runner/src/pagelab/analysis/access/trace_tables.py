"""The tables of a trace as arrays: completed reads (block_io.parquet) and page events (page_cache.parquet).

Only the columns that are computed with are read. Times are nanoseconds since the start of the inference process.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pagelab.store.files import read_table

if TYPE_CHECKING:  # pyarrow takes a moment to load
    import pyarrow as pa

Numbers = NDArray[np.int64]

ABSENT = -1  # the number of an absent text
SOURCES = ("model", "swap", "other")
MODEL, SWAP = SOURCES.index("model"), SOURCES.index("swap")
PAGE_EVENTS = ("add", "delete", "fault", "map")
ADD, DELETE, FAULT, MAP = range(len(PAGE_EVENTS))

_BLOCK_COLUMNS = ("time_ns", "issued_ns", "device", "sector", "bytes", "operation", "readahead", "error")
_PLACE_COLUMNS = ("source", "model_bytes", "file_part", "file_offset_bytes")
_PAGE_COLUMNS = ("time_ns", "event", "file_part", "file_offset_bytes", "bytes")
_NO_TIME = -(2**62)


@dataclass(frozen=True)
class BlockReads:
    """The reads that a traced disk completed without an error, by time of completion; arrays of one length.

    `issued_ns` is None where no issue was recorded, and at or below `NO_ISSUE` for a single read without one. `source`
    is an index into SOURCES, or ABSENT. `part` and `offset` say where the `model_bytes` bytes of the model begin.
    `ahead` marks the reads that the kernel's readahead asked for.
    """

    NO_ISSUE = _NO_TIME

    time_ns: Numbers
    issued_ns: Numbers | None
    device: Numbers
    sector: Numbers
    bytes: Numbers
    source: Numbers
    model_bytes: Numbers
    part: Numbers
    offset: Numbers
    ahead: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def in_order_of_issue(self) -> bool:
        """Whether the order of issue is known: most reads have one."""
        return self.issued_ns is not None and 2 * int(np.count_nonzero(self.issued_ns > self.NO_ISSUE)) > len(self)

    def moments(self) -> Numbers:
        """When each read was issued, where that is known of most of them, and else completed."""
        if self.issued_ns is None or not self.in_order_of_issue:
            return self.time_ns
        return np.where(self.issued_ns > self.NO_ISSUE, self.issued_ns, self.time_ns)

    def times_with_issue(self) -> tuple[Numbers, Numbers]:
        """Of the reads of which it is known when they were issued: that, and when they completed."""
        if self.issued_ns is None:
            return self.time_ns[:0], self.time_ns[:0]
        known = self.issued_ns > self.NO_ISSUE
        return (self.issued_ns, self.time_ns) if known.all() else (self.issued_ns[known], self.time_ns[known])

    def taken(self, which: "slice | NDArray[np.bool_]") -> "BlockReads":
        """Some of the reads."""
        issued = None if self.issued_ns is None else self.issued_ns[which]
        return BlockReads(
            self.time_ns[which],
            issued,
            self.device[which],
            self.sector[which],
            self.bytes[which],
            self.source[which],
            self.model_bytes[which],
            self.part[which],
            self.offset[which],
            self.ahead[which],
        )


@dataclass(frozen=True)
class PageEvents:
    """Events of the model's pages, by time; `event` is an index into PAGE_EVENTS. Arrays of one length."""

    time_ns: Numbers
    event: Numbers
    part: Numbers
    offset: Numbers
    bytes: Numbers

    def __len__(self) -> int:
        return len(self.time_ns)

    def taken(self, which: "slice | NDArray[np.bool_] | Numbers") -> "PageEvents":
        """Some of the events."""
        return PageEvents(*(array[which] for array in (self.time_ns, self.event, self.part, self.offset, self.bytes)))


def read_block_reads(path: Path, placed: bool = True) -> BlockReads:
    """Read the completed reads of a table.

    Args:
        path: block_io.parquet.
        placed: read too where they lie in files; without it `source` and `part` are ABSENT and the rest is 0.

    Raises:
        StoreError: the table is missing or damaged, or lacks a column.
    """
    table = read_table(path, _BLOCK_COLUMNS + (_PLACE_COLUMNS if placed else ()))
    wanted = _codes(table["operation"], ("read",)) == 0
    wanted &= _numbers(table["error"], 0) == 0
    if not wanted.all():
        table = _chosen(table, wanted)
    issued = None if table["issued_ns"].null_count == len(table) else _numbers(table["issued_ns"], _NO_TIME)
    rest: tuple[Numbers, Numbers, Numbers, Numbers]
    if placed:
        rest = (
            _codes(table["source"], SOURCES),
            _numbers(table["model_bytes"], 0),
            _numbers(table["file_part"], 0),
            _numbers(table["file_offset_bytes"], 0),
        )
    else:
        nothing, absent = (np.broadcast_to(np.int64(value), len(table)) for value in (0, ABSENT))
        rest = (absent, nothing, absent, nothing)
    return BlockReads(
        _numbers(table["time_ns"], 0),
        issued,
        _codes(table["device"]),
        _numbers(table["sector"], 0),
        _numbers(table["bytes"], 0),
        *rest,
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


def _chosen(table: "pa.Table", wanted: NDArray[np.bool_]) -> "pa.Table":
    import pyarrow as pa

    return table.filter(pa.array(wanted))


def _numbers(column: "pa.ChunkedArray", absent: int) -> Numbers:
    """A column of whole numbers, `absent` in place of nulls."""
    import pyarrow as pa

    if pa.types.is_null(column.type) or not len(column):
        return np.full(len(column), absent, dtype=np.int64)
    return _joined([_filled(chunk, absent) for chunk in column.chunks if len(chunk)])


def _joined(pieces: list[Numbers]) -> Numbers:
    """The pieces of a column as one; a single one as it is, without a copy."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _filled(array: Any, absent: int) -> Numbers:  # pyarrow has no types for mypy
    """The whole numbers of an array, `absent` in place of nulls.

    In Arrow's columnar format the first buffer has a bit for each row that is there, the second one the numbers. What
    pyarrow.compute has for this takes a tenth of a second to load.
    """
    bits, values = array.buffers()
    rows = slice(array.offset, array.offset + len(array))
    numbers: Numbers = np.frombuffer(values, dtype=array.type.to_pandas_dtype())[rows]
    if not array.null_count:
        return numbers.astype(np.int64, copy=False)
    numbers = numbers.astype(np.int64)
    numbers[np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[rows] == 0] = absent
    return numbers


def _codes(column: "pa.ChunkedArray", texts: tuple[str, ...] | None = None) -> Numbers:
    """Texts as numbers: their place in `texts`, or in the order in which they sort; ABSENT for null and unknown."""
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.full(len(column), ABSENT, dtype=np.int64)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    if not len(column):
        return np.zeros(0, dtype=np.int64)
    known = column.chunk(0).dictionary.to_pylist()
    places = {text: place for place, text in enumerate(sorted(known) if texts is None else texts)}
    number_of = np.array([places.get(text, ABSENT) for text in known] + [ABSENT], dtype=np.int64)
    if len(known) == 1 and not column.null_count:  # as nearly always
        return np.full(len(column), number_of[0])
    codes: Numbers = number_of[_joined([_filled(chunk.indices, len(known)) for chunk in column.chunks if len(chunk)])]
    return codes
