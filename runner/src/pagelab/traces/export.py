"""Traces for other programs: tables as plain Parquet or CSV, and reads as a log that fio replays.

fio's log, version 3 (fio: HOWTO.rst, "Trace file format v3"; read by `fio --read_iolog=LOG --rw=read …` from 3.31 on):

    fio version 3 iolog
    TIME FILE add
    TIME FILE open
    TIME FILE read OFFSET LENGTH
    TIME FILE close

TIME is in microseconds (fio: iolog.c), OFFSET and LENGTH are in bytes. fio takes 0 for no time at all, so the first
read is at 1. Reads stand in the order in which they were issued, where that is known, and else completed. A read of the
model is one of the model's file; where it spans several extents, one for each. Others are reads of the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pagelab.errors import StoreError, TraceError, shown
from pagelab.store.files import Owner, open_file, open_table, read_table
from pagelab.store.trace_record import TracedFile, TraceRecord
from pagelab.traces.arrays import Integers
from pagelab.traces.events import MODEL
from pagelab.traces.placement import DiskMap
from pagelab.units import SECTOR_BYTES

_NS_PER_US = 1000
_FIRST_US = 1
_ROWS_AT_ONCE = 1 << 18
_BLOCK_BYTES = 4096  # no disk has larger logical blocks
_IOLOG_COLUMNS = ("time_ns", "issued_ns", "device", "sector", "bytes", "operation")


def export_table(table: Path, target: Path, as_csv: bool, owner: Owner | None = None) -> int:
    """Write a table for other programs; answers its rows.

    Args:
        table: a table of a trace.
        target: the file to write.
        as_csv: as CSV with a line of names, where an absent value is an empty field; else as Parquet with plain texts
            and the encodings that every reader knows.
        owner: uid and gid that the file should belong to.

    Raises:
        StoreError: the table cannot be read, or the file not be written.
    """
    try:
        with pq.ParquetFile(table, page_checksum_verification=True) as file:
            schema = pa.schema([(field.name, _plain(field.type)) for field in file.schema_arrow])
            with (_open_csv if as_csv else open_table)(target, schema, owner) as writer:
                for batch in file.iter_batches(_ROWS_AT_ONCE):
                    writer.write_table(pa.table(batch).cast(schema))
            return int(file.metadata.num_rows)
    except (OSError, pa.ArrowException, ValueError) as error:  # the last for texts and names that are no UTF-8
        raise _damaged(table, error) from error


def _damaged(table: Path, why: object) -> StoreError:
    return StoreError(f"cannot read {shown(table)} ({shown(why)}): restore it from a copy, or compute it again")


@contextmanager
def _open_csv(target: Path, schema: pa.Schema, owner: Owner | None) -> Iterator[Any]:
    options = pa.csv.WriteOptions(quoting_style="needed")
    with open_file(target, owner) as stream, pa.csv.CSVWriter(stream, schema, write_options=options) as writer:
        yield writer


def export_iolog(
    block_io: Path,
    target: Path,
    trace: TraceRecord | None = None,
    models: Path | None = None,
    owner: Owner | None = None,
    of_others: bool = False,
) -> int:
    """Write the reads of block_io.parquet as a log for fio; answers how many there are.

    Args:
        block_io: the table.
        target: the file to write.
        trace: what the table was made from, which knows the model's files; without it all reads are of devices.
        models: the directory that holds the model's files where the log will be replayed; else where they were.
        owner: uid and gid that the file should belong to.
        of_others: also reads that are not the model's, from the disk itself; without a trace they are all there is.

    Raises:
        StoreError: the table cannot be read, or the file not be written.
        TraceError: there are no reads, or the name of a file cannot stand in the log.
    """
    reads = _reads(block_io, trace, models, of_others or trace is None)
    if not len(reads.time_us):
        whose = "" if trace is None else " of the model (--of-others writes those of the disk)"
        raise TraceError(f"{block_io} has no reads{whose}: there is nothing that fio could replay")
    names = pa.array(reads.names)
    options = pa.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    with open_file(target, owner) as stream:
        stream.write(b"fio version 3 iolog\n")
        for action in ("add", "open"):
            stream.writelines(f"0 {name} {action}\n".encode() for name in reads.names)
        for first in range(0, len(reads.time_us), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            lines = {
                "time": reads.time_us[some],
                "name": names.take(pa.array(reads.name[some])),
                "action": pa.array(["read"]).take(pa.array(np.zeros(len(reads.name[some]), dtype=np.int32))),
                "offset": reads.offset[some],
                "bytes": reads.bytes[some],
            }
            pa.csv.write_csv(pa.table(lines), stream, options)
        stream.writelines(f"{reads.time_us[-1]} {name} close\n".encode() for name in reads.names)
    return len(reads.time_us)


@dataclass(frozen=True)
class _Reads:
    """Reads in the order in which they are replayed; `name` is an index into `names`."""

    names: Sequence[str]
    time_us: Integers
    name: Integers
    offset: Integers
    bytes: Integers


def _reads(block_io: Path, trace: TraceRecord | None, models: Path | None, of_others: bool) -> _Reads:
    table = _sound(read_table(block_io, _IOLOG_COLUMNS), block_io)
    table = table.filter(pc.and_(pc.equal(table["operation"], "read"), pc.greater(table["bytes"], 0)))
    moment = pc.coalesce(table["issued_ns"], table["time_ns"])
    order = np.argsort(moment.to_numpy(), kind="stable")
    moments = moment.to_numpy()[order]
    sector, size = (table[name].to_numpy()[order] for name in ("sector", "bytes"))
    devices, device = _devices(table["device"])
    device = device[order]
    files = [file for file in trace.files if file.kind == "model"] if trace else []
    names = [_in_log(str(models / Path(file.path).name) if models else file.path) for file in files]
    names += [_in_log(_node(name)) for name in devices]
    disk = DiskMap(files)
    on_disk = np.array([disk.index_of(name) for name in devices], dtype=np.int64)
    row, file, offset, whole = _of_model(files, disk.pieces(on_disk[device], sector, size))
    rest = np.setdiff1d(np.arange(len(sector)), row) if of_others else row[:0]
    rows = np.concatenate([row, rest])
    together = np.argsort(rows, kind="stable")
    together = together[np.concatenate([whole, size[rest]])[together] > 0]
    moments = moments[rows][together]
    name = np.concatenate([file, len(files) + device[rest].astype(np.int64)])[together]
    used, name = np.unique(name, return_inverse=True)  # fio opens all that the log names
    return _Reads(
        [names[one] for one in used],
        (moments - moments[:1]) // _NS_PER_US + _FIRST_US,
        name,
        np.concatenate([offset, sector[rest] * SECTOR_BYTES])[together],
        np.concatenate([whole, size[rest]])[together],
    )


def _sound(table: pa.Table, block_io: Path) -> pa.Table:
    """The table, where its texts are some and each of its indices has one."""
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise _damaged(block_io, error) from error
    if table["device"].null_count:
        raise _damaged(block_io, "a request is of no device")
    return table


def _devices(column: pa.ChunkedArray) -> tuple[list[str], Integers]:
    """The names of devices, and the index of each row's, whether the table has texts as such or as indices."""
    column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = column.combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _of_model(files: Sequence[TracedFile], pieces: tuple[NDArray[Any], ...]) -> tuple[Integers, ...]:
    """The pieces of requests that are the model's: request, file, offset in it, and bytes, in whole blocks."""
    _, kind, *_ = pieces
    row, _, part, offset, size = (values[kind == MODEL] for values in pieces)
    numbers = {file.part: number for number, file in enumerate(files)}
    file = np.array([numbers.get(one, 0) for one in range(max(numbers, default=0) + 1)], dtype=np.int64)[part]
    lengths = np.array([file.bytes for file in files], dtype=np.int64)[file]
    half_block = np.where(offset + size == lengths, lengths % _BLOCK_BYTES, 0)  # cannot be read past the page cache
    return row, file, offset, size - half_block


def _node(device: str) -> str:
    """The device's node; udev keeps one by number for those of which only that is known."""
    return f"/dev/block/{device}" if ":" in device else f"/dev/{device}"


def _in_log(name: str) -> str:
    if any(letter.isspace() for letter in name) or len(name) > 255:
        raise TraceError(
            f"fio's log cannot name '{shown(name)}' (a space, or too long): give another directory by --models"
        )
    return name


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
