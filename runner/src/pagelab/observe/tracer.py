"""The trace of one trial: which recorders this host allows, what they are told, and the description of the result."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pagelab.config.schema import TraceSettings
from pagelab.errors import HostError
from pagelab.host.journal import Journal
from pagelab.host.procfs import PAGE_BYTES, if_known
from pagelab.host.storage import Disk, disk_of, share_a_disk
from pagelab.host.swap import swap_places
from pagelab.host.tracefs import Instance, cannot_trace, tracefs
from pagelab.models.gguf_map import GgufMap
from pagelab.observe.blktrace import BlktraceRecorder, cannot_blktrace
from pagelab.observe.traced_files import FileIdentity, identify, model_files, swap_files, traced_devices, traced_tensors
from pagelab.observe.tracefs import TracefsRecorder
from pagelab.store.files import Owner, adopt, make_directory
from pagelab.store.record import Traced
from pagelab.store.run_store import write_trace_record
from pagelab.store.trace_record import PageLevel, TracedFile, TraceRecord
from pagelab.units import MIB

HOLD_BYTES = 64 * MIB  # compressed, kept in memory while the disk under test is also the one of the results


@dataclass(frozen=True)
class Choice:
    """How reads can be recorded here: blocks by which recorder, pages or not, and why not all that was asked for."""

    block: str | None = None
    pages: bool = False
    notes: list[str] = field(default_factory=list)


def choose(settings: TraceSettings, model_file: Path) -> Choice:
    """What of the wanted traces this host allows.

    Raises:
        HostError: a recorder that was asked for by its name does not work here.
    """
    if settings.block == "off" and settings.page_cache == "off":
        return Choice()
    closed = cannot_trace()
    notes = [] if closed is None else [closed]
    block: str | None = None
    try:
        block = _block_recorder(settings.block, model_file, closed)
    except HostError as error:
        if settings.block != "auto":
            raise
        notes += [] if str(error) in notes else [str(error)]
    return Choice(block, settings.page_cache != "off" and closed is None, notes)


def _block_recorder(wanted: str, model_file: Path, closed: str | None) -> str | None:
    """The recorder of blocks, None where none is wanted; raises HostError where none works."""
    if wanted == "off":
        return None
    devices = traced_devices([model_file])
    if wanted != "blktrace" and closed is None:
        return "tracefs"
    refused = closed if wanted == "tracefs" else next(filter(None, map(cannot_blktrace, devices)), None)
    if refused is not None:
        raise HostError(refused)
    return "blktrace"


NOTHING = Choice()


@dataclass
class Tracer:
    """Records the reads of one trial into a directory; use it as a context around the inference.

    Raises:
        HostError: on entry, where the host refuses what `choose` found possible.
    """

    settings: TraceSettings
    choice: Choice
    model: GgufMap
    disk: Disk
    journal: Journal
    directory: Path
    owner: Owner | None = None

    def __post_init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._recorders: list[TracefsRecorder | BlktraceRecorder] = []
        self._record: TraceRecord | None = None

    def __enter__(self) -> "Tracer":
        """Begin to record, as the last thing before the inference."""
        if self.choice.block is None and not self.choice.pages:
            return self
        make_directory(self.directory, self.owner)
        with contextlib.ExitStack() as opened:
            self._record = self._begin(opened)
            self._opened = opened.pop_all()
        return self

    def _begin(self, opened: contextlib.ExitStack) -> TraceRecord:
        devices = traced_devices(self.model.parts)
        place = if_known(disk_of, self.directory)  # memory, for one, is no disk
        same_disk = place is not None and share_a_disk(place, self.disk)
        hold = HOLD_BYTES if same_disk else MIB
        identities: dict[Path, FileIdentity] = {}
        instance: Instance | None = None
        if self.choice.pages or self.choice.block == "tracefs":
            instance = opened.enter_context(_instance(self.journal))
            if self.choice.pages:
                identities = {path: identify(instance, path) for path in self.model.parts}
        files = model_files(self.model, identities)
        level = self._page_level(files)
        if instance is not None:
            recorder = TracefsRecorder(instance, self.directory, hold, self.settings.most_bytes)
            if self.choice.block == "tracefs":
                recorder.add_block(devices, self.settings.issues)
            if level is not None:
                recorder.add_pages(list(identities.values()), level)
            self._recorders.append(recorder)
        if self.choice.block == "blktrace":
            self._recorders.append(BlktraceRecorder(self.directory, devices, self.settings.issues, hold))
        record = TraceRecord(
            recorder="blktrace" if self.choice.block == "blktrace" else "tracefs",
            profiles=[*(["block"] if self.choice.block else []), *(["page"] if self.choice.pages else [])],
            issues=self.settings.issues and self.choice.block is not None,
            pages=level,
            origin_ns=0,
            page_bytes=PAGE_BYTES,
            readahead_bytes=None if (kib := self.disk.readahead_kib()) is None else kib * 1024,
            devices=devices,
            files=files + swap_files(swap_places()),
            tensors=traced_tensors(self.model),
            same_disk=same_disk,
            notes=list(self.choice.notes),
        )
        for one in self._recorders:
            opened.enter_context(one)
        return record

    def _page_level(self, files: list[TracedFile]) -> PageLevel | None:
        """Which events of pages are recorded. An event for each page that enters takes a part of the speed."""
        wanted = self.settings.page_cache
        if not self.choice.pages or wanted == "off":
            return None
        if wanted != "auto":
            return wanted
        told_by_requests = self.choice.block is not None and all(file.extents is not None for file in files)
        return "faults" if told_by_requests else "entered"

    def __exit__(self, *_: object) -> None:
        """Stop recording; nothing is written yet."""
        self._opened.close()

    def finish(self, started_monotonic: float | None) -> Traced | None:
        """Write the raw files and their description, and say how the recording went; None where nothing was recorded.

        Args:
            started_monotonic: when the inference process was started, in seconds on CLOCK_MONOTONIC.

        Raises:
            StoreError: the disk refused.
        """
        record = self._record
        if record is None:
            return Traced(notes=self.choice.notes) if self.choice.notes else None
        record.origin_ns = round((started_monotonic or 0.0) * 1e9)
        for recorder in self._recorders:
            record.raw_files += recorder.finish()
            record.capped += recorder.capped
            if isinstance(recorder, TracefsRecorder):
                record.formats, record.header_page = recorder.formats, recorder.header_page
            else:
                record.notes += recorder.notes
        lost = [one.lost_events for one in self._recorders]
        record.lost_events = None if None in lost else sum(filter(None, lost))
        record.notes += ["the kernel does not say how many events were lost"] if None in lost else []
        record.recorder_cpu_seconds = sum(one.cpu_seconds for one in self._recorders)
        for file in record.raw_files:
            adopt(self.directory / file.name, self.owner)
        write_trace_record(self.directory, record, self.owner)
        return Traced(
            recorders=[one.name for one in self._recorders],
            profiles=list(record.profiles),
            lost_events=record.lost_events,
            capped=list(record.capped),
            same_disk=record.same_disk,
            raw_bytes=sum(one.bytes for one in record.raw_files),
            recorder_cpu_seconds=record.recorder_cpu_seconds,
            ended_early=next(filter(None, (one.ended_early for one in self._recorders)), None),
            notes=record.notes,
        )


@contextlib.contextmanager
def _instance(journal: Journal) -> Iterator[Instance]:
    """A trace instance of our own, journalled before it is made."""
    instance = Instance(tracefs())
    journal.note_trace_instance(instance.path.name)
    instance.create()
    try:
        yield instance
    finally:
        instance.remove()
