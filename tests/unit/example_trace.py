"""Tables of a trace as the conversion of its raw files writes them, for patterns whose answers are known.

The model: a header of 1 MiB, an embedding of 3 MiB, and two layers with 2 MiB of attention and 4 experts of 1 MiB each;
16 MiB in one file. Its process loads for a second, answers the prompt at 1.5 s, and decodes a token every half second
from there on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pagelab.analysis.access.order import ReadStream
from pagelab.store.files import write_json, write_table
from pagelab.store.record import Load, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.store.trace_record import TracedDevice, TracedExtent, TracedFile, TracedTensor, TraceRecord
from pagelab.units import MIB, NANOSECONDS, SECTOR_BYTES

HEADER = MIB
FILE_BYTES = 16 * MIB
EXPERTS = 4
LOADED, FIRST, STEP, TOKENS = 1.0, 1.5, 0.5, 5
DISK_OFFSET = 512 * MIB


@dataclass(frozen=True)
class Request:
    """A completed request; times in seconds, places in bytes of the model's file, or of the disk without one."""

    at: float
    offset: int
    bytes: int
    took: float | None = 0.001
    source: str | None = "model"
    operation: str = "read"
    device: str = "vda"
    error: int = 0


@dataclass(frozen=True)
class PageEvent:
    """An event of the model's pages."""

    at: float
    event: str
    offset: int
    bytes: int = 4096


def block_table(requests: Iterable[Request], placed: bool = True) -> pa.Table:
    rows = sorted(requests, key=lambda one: one.at)

    def texts(values: Iterable[str | None]) -> pa.Array:
        return pa.array(list(values), pa.string()).dictionary_encode()

    model = [one.source == "model" for one in rows]
    issued = [None if one.took is None else ns(one.at - one.took) for one in rows]
    disk = [one.offset + (DISK_OFFSET if placed and is_model else 0) for one, is_model in zip(rows, model, strict=True)]
    return pa.table(
        {
            "time_ns": pa.array([ns(one.at) for one in rows], pa.int64()),
            "issued_ns": pa.array(issued, pa.int64()),
            "device": texts(one.device for one in rows),
            "sector": pa.array([offset // SECTOR_BYTES for offset in disk], pa.int64()),
            "bytes": pa.array([one.bytes for one in rows], pa.int64()),
            "operation": texts(one.operation for one in rows),
            "readahead": pa.array([True] * len(rows)),
            "error": pa.array([one.error for one in rows], pa.int32()),
            "source": texts(one.source for one in rows) if placed else pa.nulls(len(rows)),
            "model_bytes": pa.array([one.bytes if is_model else 0 for one, is_model in zip(rows, model, strict=True)]),
            "file_part": pa.array([0 if is_model else None for is_model in model], pa.int8()),
            "file_offset_bytes": pa.array(
                [one.offset if is_model else None for one, is_model in zip(rows, model, strict=True)], pa.int64()
            ),
        }
    )


def page_table(events: Iterable[PageEvent]) -> pa.Table:
    rows = sorted(events, key=lambda one: one.at)
    return pa.table(
        {
            "time_ns": pa.array([ns(one.at) for one in rows], pa.int64()),
            "event": pa.array([one.event for one in rows], pa.string()).dictionary_encode(),
            "pid": pa.array([1] * len(rows), pa.int32()),
            "file_part": pa.array([0] * len(rows), pa.int8()),
            "file_offset_bytes": pa.array([one.offset for one in rows], pa.int64()),
            "bytes": pa.array([one.bytes for one in rows], pa.int64()),
        }
    )


def stream_of(reads: Iterable[tuple[int, int, int]]) -> ReadStream:
    """A stream of (space, start, bytes)."""
    table = np.array(list(reads), dtype=np.int64).reshape(-1, 3)
    return ReadStream(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())


def ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def trace_record(**changed: object) -> TraceRecord:
    tensors = [TracedTensor(name="token_embd.weight", tensor_class="embedding", offset=HEADER, bytes=3 * MIB)]
    for layer in range(2):
        start = 4 * MIB + layer * 6 * MIB
        names = (f"blk.{layer}.attn_q.weight", f"blk.{layer}.ffn_up_exps.weight")
        tensors += [
            TracedTensor(name=names[0], tensor_class="attention", layer=layer, offset=start, bytes=2 * MIB),
            TracedTensor(
                name=names[1],
                tensor_class="experts",
                layer=layer,
                offset=start + 2 * MIB,
                bytes=EXPERTS * MIB,
                experts=EXPERTS,
            ),
        ]
    extents = [TracedExtent(file_offset=0, disk_offset=DISK_OFFSET, bytes=FILE_BYTES)]
    values: dict[str, object] = {
        "recorder": "tracefs",
        "profiles": ["block", "page"],
        "issues": True,
        "pages": "all",
        "origin_ns": 0,
        "page_bytes": 4096,
        "readahead_bytes": MIB,
        "devices": [TracedDevice(name="vda", major=254, minor=0)],
        "files": [TracedFile(kind="model", path="m.gguf", bytes=FILE_BYTES, device="vda", extents=extents)],
        "tensors": tensors,
        "lost_events": 0,
    }
    return TraceRecord.model_validate(values | changed)


def tokens_table() -> pa.Table:
    return pa.table(
        {
            "token_index": pa.array(range(TOKENS), pa.int32()),
            "arrival_seconds": pa.array([FIRST + STEP * index for index in range(TOKENS)], pa.float64()),
            "latency_seconds": pa.array([None] + [STEP] * (TOKENS - 1), pa.float64()),
        }
    )


def traced(record: TrialRecord) -> TrialRecord:
    """The same trial with the load time of this module's process."""
    return record.model_copy(update={"load": Load(seconds=LOADED), "model_file_bytes": FILE_BYTES})


def add_trace(
    store: RunStore,
    number: int,
    requests: Iterable[Request] | None = None,
    events: Iterable[PageEvent] | None = None,
    **changed: object,
) -> None:
    """Put trace.json and the tables of a trial into a run; a table that is None was not recorded."""
    directory = store.trial_directory(number)
    (directory / "trace").mkdir(exist_ok=True)
    write_json(directory / "trace" / "trace.json", trace_record(**changed))
    store.write_trial_table(number, "tokens", tokens_table())
    if requests is not None:
        write_table(directory / "block_io.parquet", block_table(requests))
    if events is not None:
        write_table(directory / "page_cache.parquet", page_table(events))


def reads_in_order(begin: float, end: float, offset: int, size: int, request: int = MIB // 4) -> list[Request]:
    """Requests that follow each other over a piece of the file, evenly spread over a time."""
    count = size // request
    step = (end - begin) / count
    return [Request(begin + (place + 0.5) * step, offset + place * request, request) for place in range(count)]


def pages_in_order(begin: float, end: float, offset: int, size: int, event: str = "add") -> list[PageEvent]:
    count = size // 4096
    step = (end - begin) / count
    return [PageEvent(begin + (place + 0.5) * step, event, offset + place * 4096) for place in range(count)]


def trial_files(directory: Path) -> dict[str, bytes]:
    """Every file of a directory with its content."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def experts_read(layer: int, expert: int) -> tuple[int, int]:
    """Offset and bytes of one expert."""
    return 4 * MIB + layer * 6 * MIB + 2 * MIB + expert * MIB, MIB
