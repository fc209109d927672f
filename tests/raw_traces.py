"""Raw traces with known content, as recorders leave them: pages of the ring buffer, and files of blktrace.

Page by page for tests that look at one thing, and millions of events at a time, written by numpy, for benchmarks.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pagelab.store.trace_record import (
    RawFile,
    TracedDevice,
    TracedExtent,
    TracedFile,
    TracedTensor,
    TraceRecord,
)

SAMPLE = Path(__file__).parent / "unit" / "data" / "tracefs_sample"
SAMPLE_RECORD = TraceRecord.model_validate(json.loads((SAMPLE / "trace.json").read_text()))
FORMATS = SAMPLE_RECORD.formats
HEADER_PAGE = SAMPLE_RECORD.header_page or ""
PAGE_BYTES, HEAD_BYTES = 4096, 16

MAJOR, MINOR, INODE = 254, 0, 77
DEVICE_NUMBER = MAJOR << 20 | MINOR
ISSUE, COMPLETE, ADD, DELETE, FAULT, MAP = 2104, 2107, 600, 601, 597, 598  # the numbers in FORMATS


def complete(sector: int, sectors: int, rwbs: str = "R", error: int = 0, device: int = DEVICE_NUMBER) -> bytes:
    """The record of a block_rq_complete."""
    head = struct.pack("<HBBi", COMPLETE, 0, 0, 1)
    return head + struct.pack("<IxxxxQIiH10sI", device, sector, sectors, error, 0, rwbs.encode(), 0)


def issue(sector: int, sectors: int, rwbs: str = "R", device: int = DEVICE_NUMBER) -> bytes:
    """The record of a block_rq_issue."""
    head = struct.pack("<HBBi", ISSUE, 0, 0, 1)
    fields = struct.pack("<IxxxxQIIH10s", device, sector, sectors, sectors * 512, 0, rwbs.encode())
    return head + fields + b"reader".ljust(16, b"\0") + bytes(8)


def page_event(
    number: int,
    index: int,
    order: int = 0,
    last_index: int = 0,
    inode: int = INODE,
    pid: int = 5,
    dev: int = DEVICE_NUMBER,
) -> bytes:
    """The record of a page-cache event of any kind."""
    head = struct.pack("<HBBi", number, 0, 0, pid)
    if number in (ADD, DELETE):
        return head + struct.pack("<QQQIBxxx", 1, inode, index, dev, order)
    return head + struct.pack("<QIxxxxQ", inode, dev, index) + (struct.pack("<Q", last_index) if number == MAP else b"")


@dataclass
class Page:
    """Builds one page of the ring buffer, event by event."""

    time_ns: int
    data: bytes = b""
    flags: int = 0
    behind: bytes = b""
    """What stands behind the data, such as the number of missing events."""

    def word(self, kind: int, delta: int, *words: int) -> "Page":
        """The head of an event, and words of 4 bytes behind it."""
        self.data += struct.pack(f"<{1 + len(words)}I", kind | delta << 5, *words)
        return self

    def event(self, record: bytes, delta: int = 0, long: bool = False) -> "Page":
        """An event with data, with its length in the head or in a word of its own."""
        record += bytes(-len(record) % 4)
        if long or len(record) > 112:
            self.word(0, delta, len(record) + 4)
        else:
            self.word(len(record) // 4, delta)
        self.data += record
        return self

    def discarded(self, size: int, delta: int) -> "Page":
        """An event that was thrown away: padding of `size` bytes behind its head."""
        self.word(29, delta, size)
        self.data += bytes(size - 4)
        return self

    def bytes(self, commit: int | None = None) -> bytes:
        """The whole page; `commit` replaces the length that it says it has."""
        word = (len(self.data) if commit is None else commit) | self.flags
        body = self.data + self.behind
        return struct.pack("<QQ", self.time_ns, word) + body + bytes(PAGE_BYTES - HEAD_BYTES - len(body))


def zstd(*frames: bytes) -> bytes:
    """Each of the given contents as a frame of its own, with a checksum of nothing, as pyarrow writes it."""
    return b"".join(pa.compress(frame, codec="zstd", asbytes=True) for frame in frames)


def record_of(names: Sequence[str], **changes: Any) -> TraceRecord:
    """A trace of a model of one file, 1 MiB with four tensors, that lies in two extents; and of a swap partition."""
    tensors = [
        TracedTensor(name="token_embd.weight", tensor_class="embedding", offset=4096, bytes=200_000),
        TracedTensor(name="blk.0.attn_q.weight", tensor_class="attention", layer=0, offset=204_800, bytes=100_000),
        TracedTensor(
            name="blk.0.ffn_up_exps.weight", tensor_class="experts", layer=0, offset=307_200, bytes=409_600, experts=4
        ),
        TracedTensor(name="output.weight", tensor_class="output", offset=716_800, bytes=331_000),
    ]
    extents = [
        TracedExtent(file_offset=0, disk_offset=1 << 30, bytes=512 << 10),
        TracedExtent(file_offset=512 << 10, disk_offset=3 << 30, bytes=512 << 10),
    ]
    model = TracedFile(
        kind="model",
        path="/m/m.gguf",
        bytes=1 << 20,
        inode=INODE,
        major=MAJOR,
        minor=MINOR,
        device="vda",
        extents=extents,
    )
    swap_extent = TracedExtent(file_offset=0, disk_offset=8 << 30, bytes=1 << 30)
    swap = TracedFile(kind="swap", path="/dev/vda2", bytes=1 << 30, device="vda", extents=[swap_extent])
    document = {
        "recorder": "tracefs",
        "profiles": ["block", "page"],
        "issues": True,
        "origin_ns": 0,
        "page_bytes": 4096,
        "devices": [TracedDevice(name="vda", major=MAJOR, minor=MINOR)],
        "files": [model, swap],
        "tensors": tensors,
        "formats": FORMATS,
        "header_page": HEADER_PAGE,
        "raw_files": [RawFile(name=name, recorder="tracefs", cpu=cpu, bytes=0) for cpu, name in enumerate(names)],
    }
    return TraceRecord(**(document | changes))


def write_trace(directory: Path, files: dict[str, bytes], /, **changes: Any) -> TraceRecord:
    """A directory with trace.json and raw files; answers what trace.json says."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    record = record_of(list(files), **changes)
    (directory / "trace.json").write_text(json.dumps(record.document()))
    return record


# --- blktrace ---------------------------------------------------------------------------------------------------------

READ, WRITE, FLUSH, COMMAND, NOTIFY, AHEAD, DISCARD = (1 << bit << 16 for bit in (0, 1, 2, 9, 10, 11, 13))
QUEUED, ISSUED, COMPLETED = 1, 7, 8
PROCESS_NOTE = 0 | NOTIFY


def blk_record(
    time_ns: int,
    sector: int,
    byte_count: int,
    action: int,
    payload: bytes = b"",
    error: int = 0,
    version: int = 7,
    order: str = "<",
    device: int = DEVICE_NUMBER,
    cpu: int = 0,
) -> bytes:
    """One record of blktrace with what follows it."""
    magic = 0x65617400 | version
    head = struct.pack(f"{order}IIQQI", magic, 1, time_ns, sector, byte_count)
    if version == 8:
        rest = struct.pack(f"{order}IQIIhH12x", 9, action, device, cpu, error, len(payload))
    else:
        rest = struct.pack(f"{order}IIIIhH", action, 9, device, cpu, error, len(payload))
    return head + rest + payload
