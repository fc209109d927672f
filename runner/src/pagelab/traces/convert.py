"""From the raw files of a trace to the tables block_io.parquet and page_cache.parquet.

The same directory gives the same bytes of tables on every machine: nothing of the host, the clock or the path enters.
What is held in memory does not grow with the length of the trace.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pagelab.errors import TraceError
from pagelab.store.files import Owner
from pagelab.store.run_store import read_trace_record
from pagelab.store.trace_record import TraceRecord
from pagelab.traces.arrays import Columns
from pagelab.traces.blktrace_raw import BlktraceFile
from pagelab.traces.events import Devices, Kind
from pagelab.traces.merge import NextChunk, merged
from pagelab.traces.placement import DiskMap, Placement
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import Decoding
from pagelab.traces.tables import BLOCK_IO, PAGE_CACHE, Attribution, PageRows, RequestRows, table_writer
from pagelab.traces.tracefs_raw import TracefsFile, TracefsReader

_Output = tuple[Path, pa.Schema, Callable[[dict[Kind, Columns]], Iterator[pa.Table]]]

BLOCK_IO_FILE, PAGE_CACHE_FILE = "block_io.parquet", "page_cache.parquet"

_CHUNK_BYTES = 64 << 20  # of all files together
_LARGEST_CHUNK, _LEAST_CHUNK = 8 << 20, 512 << 10  # of one file: few enough for caches, enough to do much in one go


@dataclass(frozen=True)
class Converted:
    """What became of a trace.

    `events` counts the events of each kind that were found in the raw files, by their name in the kernel; `rows` those
    of each table that was written, by its file. `notes` say what is damaged or missing and what could not be
    attributed.
    """

    events: dict[str, int]
    rows: dict[str, int]
    notes: list[str]


def convert(trace_directory: Path, target_directory: Path, owner: Owner | None = None) -> Converted:
    """Write the tables of what a trace recorded.

    Args:
        trace_directory: holds trace.json and the raw files.
        target_directory: where the tables go; it has to exist.
        owner: uid and gid that the tables should belong to.

    Raises:
        StoreError: trace.json is missing or damaged, or a table cannot be written; nothing incomplete is left then.
        TraceError: a raw file is damaged, or the kernel's descriptions of its events in trace.json cannot be used.
    """
    record = read_trace_record(trace_directory)
    decoding = Decoding(Devices.of(record.devices), Problems(), _chunk_bytes(len(record.raw_files)))
    sources = raw_sources(trace_directory, record, decoding)
    attribution, disks = Attribution(Placement.of(record)), DiskMap(record.files)
    outputs: list[_Output] = []
    if "block" in record.profiles:
        requests = RequestRows(decoding, disks, attribution, record.origin_ns)
        outputs.append((target_directory / BLOCK_IO_FILE, BLOCK_IO, requests.tables))
    if "page" in record.profiles:
        pages = PageRows(attribution, record.origin_ns)
        outputs.append((target_directory / PAGE_CACHE_FILE, PAGE_CACHE, pages.tables))
    row_counts = _write(merged(sources), outputs, owner)
    not_attributed = list(disks.unknown) if "block" in record.profiles else []
    return Converted(decoding.counts, row_counts, decoding.problems.sentences() + not_attributed)


def import_blktrace(files: Sequence[Path], target_directory: Path, owner: Owner | None = None) -> Converted:
    """Write block_io.parquet of files that blktrace wrote, of any number of devices and CPUs, in any order.

    Of damaged files the whole records are read, and the notes of the result say what was damaged. Times count from the
    first record. Devices are called MAJOR:MINOR, since a file's name may be anything.

    Args:
        files: what blktrace wrote, compressed with zstd (`.zst`) or not.
        target_directory: where the table goes; it has to exist.
        owner: uid and gid that the table should belong to.

    Raises:
        TraceError: one of the files is not there, or holds no records of blktrace.
        StoreError: the table cannot be written.
    """
    paths = sorted(set(files), key=lambda path: (path.name, str(path)))
    decoding = Decoding(Devices(), Problems(own=False), _chunk_bytes(len(paths)))
    sources = [_opened(path, decoding) for path in paths]
    origin_ns = min((source.start_ns for source in sources if source.start_ns is not None), default=0)
    requests = RequestRows(decoding, DiskMap([]), Attribution(Placement([])), origin_ns)
    outputs: list[_Output] = [(target_directory / BLOCK_IO_FILE, BLOCK_IO, requests.tables)]
    row_counts = _write(merged([source.chunk for source in sources]), outputs, owner)
    return Converted(decoding.counts, row_counts, decoding.problems.sentences())


def _write(batches: Iterator[dict[Kind, Columns]], outputs: Sequence[_Output], owner: Owner | None) -> dict[str, int]:
    """Write the tables that are made of batches of events; answers the rows of each, by its file."""
    with ExitStack() as stack:
        writers = [stack.enter_context(table_writer(path, schema, owner)) for path, schema, _ in outputs]
        for batch in batches:
            for writer, (_, _, tables) in zip(writers, outputs, strict=True):
                for table in tables(batch):
                    writer.write(table)
    return {path.name: writer.rows for writer, (path, _, _) in zip(writers, outputs, strict=True)}


def raw_sources(directory: Path, record: TraceRecord, decoding: Decoding) -> list[NextChunk]:
    """A reader for each raw file. Where blktrace recorded too, the block events are its, and tracefs gives pages."""
    files = sorted(record.raw_files, key=lambda file: (file.recorder, file.device or "", file.cpu, file.name))
    by_blktrace = any(file.recorder == "blktrace" for file in files)
    reader = None
    sources: list[NextChunk] = []
    for file in files:
        if file.recorder == "blktrace":
            sources.append(BlktraceFile(directory / file.name, decoding).chunk)
        else:
            reader = reader or TracefsReader(record, decoding, blocks=not by_blktrace)
            sources.append(TracefsFile(directory / file.name, reader).chunk)
    return sources


def _opened(path: Path, decoding: Decoding) -> BlktraceFile:
    """A file to import, of which the first chunk was read."""
    if not path.is_file():
        raise TraceError(f"{path} is no file: name the files that blktrace wrote, DEVICE.blktrace.CPU")
    file = BlktraceFile(path, decoding)
    if not file.open() and path.stat().st_size > 0:
        raise TraceError(f"{path} holds no records of blktrace: name the files that it wrote, DEVICE.blktrace.CPU")
    return file


def _chunk_bytes(files: int) -> int:
    return min(max(_CHUNK_BYTES // max(files, 1), _LEAST_CHUNK), _LARGEST_CHUNK)
