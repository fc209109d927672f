"""The tables block_io.parquet and page_cache.parquet, written a piece at a time; docs/access.md has the columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pagelab.store.files import Owner, open_table
from pagelab.traces.arrays import Columns, Integers, Mask, begins, rows
from pagelab.traces.events import ELSEWHERE, MODEL, OPERATIONS, PAGE_EVENTS, SOURCES, SWAP, Kind
from pagelab.traces.pairing import IssueMatcher
from pagelab.traces.placement import DiskMap, Placement
from pagelab.traces.raw_files import Decoding

ROW_GROUP = 1 << 19
_BATCH_ROWS = 1 << 18  # that are made into a table at a time

_SOURCES, _OPERATIONS, _PAGE_EVENTS = pa.array(SOURCES), pa.array(OPERATIONS), pa.array(PAGE_EVENTS)
_TEXT = pa.dictionary(pa.int32(), pa.string())
_PLACE = [
    ("file_part", pa.int32()),
    ("file_offset_bytes", pa.int64()),
    ("tensor", _TEXT),
    ("tensor_class", _TEXT),
    ("layer", pa.int32()),
    ("expert", pa.int32()),
]
BLOCK_IO = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("issued_ns", pa.int64()),
        ("device", _TEXT),
        ("sector", pa.int64()),
        ("bytes", pa.int64()),
        ("operation", _TEXT),
        ("readahead", pa.bool_()),
        ("error", pa.int32()),
        ("source", _TEXT),
        ("model_bytes", pa.int64()),
        *_PLACE,
    ]
)
PAGE_CACHE = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("event", _TEXT),
        ("pid", pa.int32()),
        *_PLACE[:2],
        ("bytes", pa.int64()),
        *_PLACE[2:],
    ]
)
# Numbers that grow by small steps, or stay as they are, are stored as their differences; few different ones as indices
# into them. Least and greatest values are kept of the time alone: of the others they take long and help no one.
_DIFFERENCES = ("time_ns", "issued_ns", "sector", "file_offset_bytes", "layer", "expert")
_BOUNDS = ["time_ns"]
_COMPRESSION_LEVEL = 1


class TableWriter:
    """Gathers rows and writes them in row groups of equal size, so that the file does not depend on their batches."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        self.rows += table.num_rows
        if self._waiting_rows >= ROW_GROUP:
            self._flush(self._waiting_rows // ROW_GROUP * ROW_GROUP)

    def finish(self) -> None:
        """Write the rows that are left."""
        self._flush(self._waiting_rows)

    def _flush(self, count: int) -> None:
        if count:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table.slice(0, count), row_group_size=ROW_GROUP)
            rest = table.slice(count)
            self._waiting, self._waiting_rows = [rest], rest.num_rows


@contextmanager
def table_writer(path: Path, schema: pa.Schema, owner: Owner | None = None) -> Iterator[TableWriter]:
    """Write a table of one of the schemas above a piece at a time; it is there when the context ends, or not at all."""
    encodings = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in _DIFFERENCES}
    with open_table(
        path,
        schema,
        owner,
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=[name for name in schema.names if name not in _DIFFERENCES],
        column_encoding=encodings,
        write_statistics=_BOUNDS,
    ) as writer:
        table = TableWriter(writer)
        yield table
        table.finish()


class Attribution:
    """Says of which tensor bytes are, as columns of a table; made once for a trace."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        slices = placement.slices
        tensors = {one.tensor_index: one.tensor for one in slices}
        position = {index: number for number, index in enumerate(tensors)}
        self._tensors = pa.array(list(tensors.values()), pa.string())
        self._classes = pa.array(sorted({one.tensor_class for one in slices}), pa.string())
        classes = self._classes.to_pylist()
        # The last entry, which index -1 finds, stands for no slice.
        self._tensor = np.array([position[one.tensor_index] for one in slices] + [-1], dtype=np.int32)
        self._class = np.array([classes.index(one.tensor_class) for one in slices] + [-1], dtype=np.int32)
        self._layer = np.array([-1 if one.layer is None else one.layer for one in slices] + [-1], dtype=np.int32)
        self._expert = np.array([-1 if one.expert is None else one.expert for one in slices] + [-1], dtype=np.int32)

    def columns(self, part: NDArray[Any], offset: Integers) -> dict[str, pa.Array]:
        """Tensor, class, layer and expert of the bytes at `offset` of file `part`; null for a part of -1."""
        found = self._placement.slice_at(part, offset)
        return {
            "tensor": _dictionary(self._tensor[found], self._tensors),
            "tensor_class": _dictionary(self._class[found], self._classes),
            "layer": _nullable(self._layer[found]),
            "expert": _nullable(self._expert[found]),
        }


class PageRows:
    """Makes rows of page_cache of a trace's events."""

    def __init__(self, attribution: Attribution, origin_ns: int) -> None:
        self._attribution = attribution
        self._origin_ns = origin_ns

    def tables(self, batch: dict[Kind, Columns]) -> Iterator[pa.Table]:
        """Rows of page_cache, some at a time; batches follow each other in time."""
        for part in _parts(len(batch[Kind.PAGE]["time_ns"])):
            yield self._table(rows(batch[Kind.PAGE], part))

    def _table(self, events: Columns) -> pa.Table:
        columns = {
            "time_ns": pa.array(events["time_ns"] - self._origin_ns),
            "event": _dictionary(events["event"], _PAGE_EVENTS),
            **{name: pa.array(events[name]) for name in ("pid", "file_part", "file_offset_bytes", "bytes")},
            **self._attribution.columns(events["file_part"], events["file_offset_bytes"]),
        }
        return _table(columns, PAGE_CACHE)


class RequestRows:
    """Makes rows of block_io of a trace's issues and completions."""

    def __init__(self, decoding: Decoding, disks: DiskMap, attribution: Attribution, origin_ns: int) -> None:
        self._devices = decoding.devices
        self._matcher = IssueMatcher(decoding.problems)
        self._disks = disks
        self._attribution = attribution
        self._origin_ns = origin_ns

    def tables(self, batch: dict[Kind, Columns]) -> Iterator[pa.Table]:
        """Rows of block_io, some at a time; batches follow each other in time."""
        issued_ns, known = self._matcher.match(batch[Kind.ISSUE], batch[Kind.COMPLETE])
        for part in _parts(len(issued_ns)):
            yield self._table(rows(batch[Kind.COMPLETE], part), issued_ns[part], known[part])

    def _table(self, events: Columns, issued_ns: Integers, issue_known: Mask) -> pa.Table:
        columns = {
            "time_ns": pa.array(events["time_ns"] - self._origin_ns),
            "issued_ns": pa.array(issued_ns - self._origin_ns, mask=~issue_known),
            "device": _dictionary(events["device"], pa.array(self._devices.names, pa.string())),
            "operation": _dictionary(events["operation"], _OPERATIONS),
            **{name: pa.array(events[name]) for name in ("sector", "bytes", "readahead", "error")},
            **self._places(events),
        }
        return _table(columns, BLOCK_IO)

    def _places(self, events: Columns) -> dict[str, pa.Array]:
        """Which file each request is of, and which tensor."""
        count = len(events["time_ns"])
        if not self._disks.has_files:
            return {name: pa.nulls(count, BLOCK_IO.field(name).type) for name in BLOCK_IO.names[-8:]}
        on_disk = np.array([self._disks.index_of(name) for name in self._devices.names], dtype=np.int64)
        row, kind, part, offset, shared = self._disks.pieces(
            on_disk[events["device"]], events["sector"], events["bytes"]
        )
        source = np.full(count, -1 if self._disks.unknown else ELSEWHERE, dtype=np.int32)
        source[row[kind == SWAP]] = SWAP
        of_model = kind == MODEL
        row, part, offset, shared = row[of_model], part[of_model], offset[of_model], shared[of_model]
        source[row] = MODEL
        model_bytes = np.bincount(row, weights=shared, minlength=count).astype(np.int64)  # exact below 2^53
        first = np.flatnonzero(begins(row))
        file_part, file_offset = np.full(count, -1, dtype=np.int32), np.zeros(count, dtype=np.int64)
        file_part[row[first]], file_offset[row[first]] = part[first], offset[first]
        return {
            "source": _dictionary(source, _SOURCES),
            "model_bytes": pa.array(model_bytes) if self._disks.knows_model else pa.nulls(count, pa.int64()),
            "file_part": _nullable(file_part),
            "file_offset_bytes": pa.array(file_offset, mask=file_part < 0),
            **self._attribution.columns(file_part, file_offset),
        }


def _parts(count: int) -> Iterator[slice]:
    return (slice(first, first + _BATCH_ROWS) for first in range(0, count, _BATCH_ROWS))


def _table(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _dictionary(codes: NDArray[Any], values: pa.Array) -> pa.Array:
    """Texts by their index; null for -1."""
    return pa.DictionaryArray.from_arrays(_nullable(codes.astype(np.int32, copy=False)), values)


def _nullable(values: NDArray[Any]) -> pa.Array:
    """Numbers of which -1 stands for null."""
    missing = values < 0
    return pa.array(values, mask=missing) if missing.any() else pa.array(values)
