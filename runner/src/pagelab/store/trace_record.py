"""The shape of trace.json, which lies beside the raw files of a trace and holds all that reading them needs.

    trials/NNN/trace/
      trace.json
      cpu0.raw.zst …             tracefs: sub-buffers of one CPU as the kernel wrote them, one after the other, zstd
      vda.blktrace.0.zst …       blktrace: its own file of one device and CPU, zstd

A trace can be read on another machine than the one that recorded it: where the model and the swap lay on the disk and
in the file is in trace.json, and so are the kernel's descriptions of its events.
"""

from typing import Annotated, Literal

from pydantic import Field

from pagelab.models.tensors import LARGEST_NUMBER, TensorClass
from pagelab.store.record import Natural, Record

TRACE_VERSION = 1
Recorder = Literal["tracefs", "blktrace"]
Profile = Literal["block", "page"]
PageLevel = Literal["faults", "entered", "all"]

# What no file, disk or clock reaches; what is computed with these fits into 64 bits.
FILE_BITS = 46
"""A part of a model is smaller than 2^46 bytes (64 TiB)."""
PartNumber = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
InFile = Annotated[int, Field(ge=0, lt=1 << FILE_BITS)]
OnDisk = Annotated[int, Field(ge=0, lt=1 << 52)]
Nanoseconds = Annotated[int, Field(gt=-(1 << 62), lt=1 << 62)]
PageBytes = Annotated[int, Field(ge=512, le=1 << 24)]
DeviceNumber = Annotated[int, Field(ge=0, lt=1 << 32)]


class RawFile(Record):
    """One raw file: its name in the trace's directory, the CPU that wrote it, and its bytes before compression."""

    name: Annotated[str, Field(pattern=r"^[^./\x00][^/\x00]*$")]
    recorder: Recorder
    cpu: PartNumber
    bytes: Natural
    device: str | None = None


class TracedDevice(Record):
    """A whole disk (or a loop device), as the events name it."""

    name: str
    major: DeviceNumber
    minor: DeviceNumber


class TracedExtent(Record):
    """A piece of a file that lies in one piece on a disk; `disk_offset` counts from the start of the whole disk."""

    file_offset: InFile
    disk_offset: OnDisk
    bytes: OnDisk


class TracedFile(Record):
    """A file whose reads are told apart: a part of the model, or a swap area.

    `inode`, `major` and `minor` are what page-cache events say of it, which on some file systems is not what stat(2)
    says. `extents` is None where the file system does not tell where the file lies; `without_extents` then says why.
    A swap partition is one extent. `device` is the name of the TracedDevice that the extents count on.
    """

    kind: Literal["model", "swap"]
    part: PartNumber = 0
    path: str
    bytes: OnDisk
    inode: int | None = Field(default=None, ge=0, lt=1 << 64)
    major: DeviceNumber | None = None
    minor: DeviceNumber | None = None
    device: str | None = None
    extents: list[TracedExtent] | None = None
    without_extents: str | None = None


class TracedTensor(Record):
    """A tensor of the model: `bytes` bytes from `offset` of file `part`.

    One with experts holds `experts` equal slices in order, the first of which is expert `first_expert`; 0 without.
    """

    name: str
    tensor_class: TensorClass
    layer: PartNumber | None = None
    part: PartNumber = 0
    offset: InFile
    bytes: InFile
    experts: PartNumber = 0
    first_expert: PartNumber = 0


class TraceRecord(Record):
    """trace.json: what was recorded, how, and what is needed to read it.

    `origin_ns` is the start of the inference process on the clock of the events (CLOCK_MONOTONIC in nanoseconds; for
    blktrace, whose clock is its own, the same moment on that clock). `profiles`: `block` has completions, and issues
    where `issues` is true; `page` has page faults on the model's files, pages of them that enter the page cache where
    `pages` is `entered` or `all`, and pages that leave it where it is `all`.
    `formats` maps `system/event` to the kernel's description of the event (tracefs). `lost_events` were counted by the
    kernel; None where the recorder cannot count them. `capped` are the profiles whose recording ended before the
    inference did, because the raw files had reached their largest size. `same_disk` says that the raw files were
    written to the model's disk.
    """

    schema_version: int = TRACE_VERSION
    recorder: Recorder
    profiles: list[Profile]
    issues: bool = False
    pages: PageLevel | None = None
    origin_ns: Nanoseconds
    page_bytes: PageBytes
    readahead_bytes: Natural | None = None
    devices: list[TracedDevice] = Field(default_factory=list)
    files: list[TracedFile] = Field(default_factory=list)
    tensors: list[TracedTensor] = Field(default_factory=list)
    formats: dict[str, str] = Field(default_factory=dict)
    header_page: str | None = None
    raw_files: list[RawFile] = Field(default_factory=list)
    lost_events: Natural | None = None
    capped: list[Profile] = Field(default_factory=list)
    same_disk: bool = False
    recorder_cpu_seconds: float | None = None
    notes: list[str] = Field(default_factory=list)
