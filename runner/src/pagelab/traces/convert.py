"""From the raw files of a trace to the tables block_io.parquet and page_cache.parquet.

The same directory gives the same bytes of tables on every machine: nothing of the host, the clock or the path enters.
What is held in memory does not grow with the length of the trace.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pagelab.errors import TraceError
from pagelab.store.files import Owner
from pagelab.store.run_store import read_trace_record
from pagelab.store.trace_record import TraceRecord
from pagelab.traces.arrays import Columns, rows
from pagelab.traces.blktrace_raw import BlktraceFile
from pagelab.traces.events import Devices, Kind
from pagelab.traces.merge import NextChunk, merged
from pagelab.traces.pairing import IssueMatcher
from pagelab.traces.placement import DiskMap, Placement
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import RawStream
from pagelab.traces.tables import (
    BLOCK_IO,
    PAGE_CACHE,
    Attribution,
    Requests,
    TableWriter,
    page_cache_table,
    table_writer,
)
from pagelab.traces.tracefs_raw import TracefsFile, TracefsReader

BLOCK_IO_FILE, PAGE_CACHE_FILE = "block_io.parquet", "page_cache.parquet"

_BATCH_ROWS = 1 << 18  # that are made into a table at a time
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
    problems, devices, counts = Problems(), Devices.of(record.devices), dict[str, int]()
    sources = raw_sources(trace_directory, record, devices, counts, problems)
    attribution = Attribution(Placement.of(record))
    disks = DiskMap.of(record)
    requests = Requests(devices, disks, attribution, record.origin_ns)
    with ExitStack() as stack:
        output = _Output(IssueMatcher(problems))
        if "block" in record.profiles:
            output.blocks = stack.enter_context(table_writer(target_directory / BLOCK_IO_FILE, BLOCK_IO, owner))
        if "page" in record.profiles:
            output.pages = stack.enter_context(table_writer(target_directory / PAGE_CACHE_FILE, PAGE_CACHE, owner))
        for batch in merged(sources):
            output.write_blocks(batch, requests)
            output.write_pages(batch, record.origin_ns, attribution)
    not_attributed = list(disks.unknown) if output.blocks else []
    return Converted(counts, output.rows(), problems.sentences() + not_attributed)


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
    problems, devices, counts = Problems(own=False), Devices(), dict[str, int]()
    paths = sorted(set(files), key=lambda path: (path.name, str(path)))
    sources = [_opened(path, devices, counts, problems, _chunk_bytes(len(paths))) for path in paths]
    begins = [source.start_ns for source in sources if source.start_ns is not None]
    requests = Requests(devices, DiskMap([]), Attribution(Placement([])), min(begins, default=0))
    with table_writer(target_directory / BLOCK_IO_FILE, BLOCK_IO, owner) as blocks:
        output = _Output(IssueMatcher(problems), blocks)
        for batch in merged([source.chunk for source in sources]):
            output.write_blocks(batch, requests)
    return Converted(counts, output.rows(), problems.sentences())


class _Output:
    """Takes batches of events, in the order of time, to the tables that are open."""

    def __init__(self, matcher: IssueMatcher, blocks: TableWriter | None = None) -> None:
        self._matcher = matcher
        self.blocks = blocks
        self.pages: TableWriter | None = None

    def write_blocks(self, batch: dict[Kind, Columns], requests: Requests) -> None:
        """Add the completions of a batch to block_io."""
        completions = batch[Kind.COMPLETE]
        if self.blocks is None:
            return
        issued_ns, known = self._matcher.match(batch[Kind.ISSUE], completions)
        for part in _parts(len(issued_ns)):
            self.blocks.write(requests.table(rows(completions, part), issued_ns[part], known[part]))

    def write_pages(self, batch: dict[Kind, Columns], origin_ns: int, attribution: Attribution) -> None:
        """Add the page-cache events of a batch to page_cache."""
        events = batch[Kind.PAGE]
        if self.pages is None:
            return
        for part in _parts(len(events["time_ns"])):
            self.pages.write(page_cache_table(rows(events, part), origin_ns, attribution))

    def rows(self) -> dict[str, int]:
        """The rows of each table that is open, by its file."""
        tables = {BLOCK_IO_FILE: self.blocks, PAGE_CACHE_FILE: self.pages}
        return {name: table.rows for name, table in tables.items() if table is not None}


def _parts(count: int) -> Iterator[slice]:
    return (slice(first, first + _BATCH_ROWS) for first in range(0, count, _BATCH_ROWS))


def _chunk_bytes(files: int) -> int:
    return min(max(_CHUNK_BYTES // max(files, 1), _LEAST_CHUNK), _LARGEST_CHUNK)


def raw_sources(
    directory: Path, record: TraceRecord, devices: Devices, counts: dict[str, int], problems: Problems
) -> list[NextChunk]:
    """A reader for each raw file. Where blktrace recorded too, the block events are its, and tracefs gives pages."""
    files = sorted(record.raw_files, key=lambda file: (file.recorder, file.device or "", file.cpu, file.name))
    chunk_bytes = _chunk_bytes(len(files))
    by_blktrace = any(file.recorder == "blktrace" for file in files)
    reader = None
    sources: list[NextChunk] = []
    for file in files:
        stream = RawStream(directory / file.name, problems)
        if file.recorder == "blktrace":
            sources.append(BlktraceFile(stream, devices, counts, problems, chunk_bytes).chunk)
        else:
            reader = reader or TracefsReader(record, devices, counts, blocks=not by_blktrace)
            sources.append(TracefsFile(stream, reader, problems, chunk_bytes).chunk)
    return sources


def _opened(path: Path, devices: Devices, counts: dict[str, int], problems: Problems, chunk_bytes: int) -> BlktraceFile:
    """A file to import, of which the first chunk was read."""
    if not path.is_file():
        raise TraceError(f"{path} is no file: name the files that blktrace wrote, DEVICE.blktrace.CPU")
    file = BlktraceFile(RawStream(path, problems), devices, counts, problems, chunk_bytes)
    if not file.open() and path.stat().st_size > 0:
        raise TraceError(f"{path} holds no records of blktrace: name the files that it wrote, DEVICE.blktrace.CPU")
    return file
