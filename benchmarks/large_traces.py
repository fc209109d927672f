"""Raw traces of millions of events, with known content: what recorders leave of an inference that reads its model.

Requests of 128 KiB run through regions of the model in an order without pattern, as chosen experts do; each is issued
on one CPU and completes on the next. The pages that they bring enter the page cache in folios of 16 KiB, and others
leave it. Everything follows from the number of events, so a trace is the same on every machine.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "tests"))

import raw_traces as raw  # noqa: E402 - from the directory above
from pagelab.store.trace_record import RawFile, TracedExtent, TracedFile, TracedTensor, TraceRecord  # noqa: E402

GIB, MIB, PAGE = 1 << 30, 1 << 20, 4096
MODEL_BYTES = 12 * GIB
REQUEST_BYTES, FOLIO_ORDER = 128 << 10, 2
REGION_BYTES = 8 * MIB
LAYERS, EXPERTS = 24, 32

# Events on each page of the ring buffer, about as often as in a recording of page faults and readahead.
MIXED = {raw.ISSUE: 4, raw.COMPLETE: 4, raw.ADD: 34, raw.DELETE: 34, raw.FAULT: 4, raw.MAP: 8}
BLOCK = {raw.ISSUE: 31, raw.COMPLETE: 31}
_LAG_PAGES = 4  # from the issue of a request to its completion
_PAGE_NS = 300_000
_PAGES_AT_ONCE = 2048


def disk_offset(file_offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the model lies: extents of 128 MiB, with as much of something else between them."""
    extent = 128 * MIB
    return 16 * GIB + file_offset // extent * 2 * extent + file_offset % extent


def request_offset(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in the model the request of a number begins."""
    a_region = REGION_BYTES // REQUEST_BYTES
    region = number // a_region * 2_654_435_761 % (MODEL_BYTES // REGION_BYTES)
    return region * REGION_BYTES + number % a_region * REQUEST_BYTES


def tensors() -> list[TracedTensor]:
    """A mixture of experts: 24 layers of 32 experts in three tensors, and attention."""
    found, offset = [], 64 * PAGE
    sizes = {"attn_q": 8, "attn_k": 2, "attn_v": 2, "attn_output": 8}
    experts = dict.fromkeys(("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"), 5 * EXPERTS)
    for layer in range(LAYERS):
        for name, mebibytes in (sizes | experts).items():
            is_expert = name in experts
            found.append(
                TracedTensor(
                    name=f"blk.{layer}.{name}.weight",
                    tensor_class="experts" if is_expert else "attention",
                    layer=layer,
                    offset=offset,
                    bytes=mebibytes * MIB,
                    experts=EXPERTS if is_expert else 0,
                )
            )
            offset += mebibytes * MIB
    return found


def write_ring_buffers(directory: Path, events: int, counts: dict[int, int], cpus: int = 2) -> int:
    """Write a trace of at least `events` events; answers how many it has."""
    pages = -(-events // (sum(counts.values()) * cpus))
    names = [f"cpu{cpu}.raw.zst" for cpu in range(cpus)]
    for cpu, name in enumerate(names):
        with pa.CompressedOutputStream(str(directory / name), "zstd") as stream:
            for first in range(0, pages, _PAGES_AT_ONCE):
                numbers = np.arange(first, min(first + _PAGES_AT_ONCE, pages))
                stream.write(_some_pages(numbers, cpu, cpus, counts))
    (directory / "trace.json").write_text(json.dumps(_record(names, pages * PAGE).document()))
    return pages * cpus * sum(counts.values())


def _record(names: list[str], raw_bytes: int) -> TraceRecord:
    extent = 128 * MIB
    places = np.arange(0, MODEL_BYTES, extent)
    extents = [
        TracedExtent(file_offset=at, disk_offset=on_disk, bytes=extent)
        for at, on_disk in zip(places.tolist(), disk_offset(places).tolist(), strict=True)
    ]
    model = TracedFile(
        kind="model",
        path="/models/large.gguf",
        bytes=MODEL_BYTES,
        inode=raw.INODE,
        major=raw.MAJOR,
        minor=raw.MINOR,
        device="vda",
        extents=extents,
    )
    files = [RawFile(name=name, recorder="tracefs", cpu=cpu, bytes=raw_bytes) for cpu, name in enumerate(names)]
    return raw.record_of(names).model_copy(update={"files": [model], "tensors": tensors(), "raw_files": files})


_BARE = {
    raw.ISSUE: raw.issue(0, REQUEST_BYTES // 512, "RA"),
    raw.COMPLETE: raw.complete(0, REQUEST_BYTES // 512, "RA"),
    raw.ADD: raw.page_event(raw.ADD, 0, FOLIO_ORDER),
    raw.DELETE: raw.page_event(raw.DELETE, 0, FOLIO_ORDER),
    raw.FAULT: raw.page_event(raw.FAULT, 0),
    raw.MAP: raw.page_event(raw.MAP, 0),
}
# The words of 4 bytes, from the start of a record, that hold its place: a sector, or the index of a page.
_PLACE = {raw.ISSUE: 4, raw.COMPLETE: 4, raw.ADD: 6, raw.DELETE: 6, raw.FAULT: 6, raw.MAP: 6}
_LAST_INDEX = 8


def _some_pages(pages: NDArray[np.int64], cpu: int, cpus: int, counts: dict[int, int]) -> bytes:
    """Pages of one CPU by their numbers, all with the same sequence of events."""
    random = np.random.default_rng([int(pages[0]), cpu])
    kinds = np.random.default_rng(1).permutation(np.repeat(list(counts), list(counts.values())))
    words = np.zeros((len(pages), PAGE // 4), dtype=np.uint32)
    words[:, :2] = (1_000_000_000 + pages * _PAGE_NS + cpu * 37).view(np.uint32).reshape(-1, 2)
    deltas = random.integers(200, 3_000, (len(pages), len(kinds)), dtype=np.uint32)
    seen = dict.fromkeys(counts, 0)
    at = 4
    for slot, kind in enumerate(kinds.tolist()):
        record = np.frombuffer(_BARE[kind] + bytes(-len(_BARE[kind]) % 4), dtype=np.uint32)
        words[:, at] = np.uint32(len(record)) | deltas[:, slot] << np.uint32(5)
        words[:, at + 1 : at + 1 + len(record)] = record
        place = at + 1 + _PLACE[kind]
        words[:, place : place + 2] = _places(kind, pages, cpu, cpus, seen[kind], counts).view(np.uint32).reshape(-1, 2)
        if kind == raw.MAP:
            last = _places(kind, pages, cpu, cpus, seen[kind], counts) + 15
            words[:, at + 1 + _LAST_INDEX : at + 3 + _LAST_INDEX] = last.view(np.uint32).reshape(-1, 2)
        seen[kind] += 1
        at += 1 + len(record)
    words[:, 2] = (at - 4) * 4
    return words.tobytes()


def _places(
    kind: int, pages: NDArray[np.int64], cpu: int, cpus: int, nth: int, counts: dict[int, int]
) -> NDArray[np.int64]:
    """Sector or page index of the n-th event of a kind on each page."""
    requests = counts[raw.ISSUE]
    if kind == raw.ISSUE:
        return disk_offset(request_offset((pages * requests + nth) * cpus + cpu)) // 512
    if kind == raw.COMPLETE:
        earlier = np.maximum(pages - _LAG_PAGES, 0)
        return disk_offset(request_offset((earlier * requests + nth) * cpus + (cpu + 1) % cpus)) // 512
    folios = REQUEST_BYTES // (PAGE << FOLIO_ORDER)
    request = request_offset((pages * requests + nth // folios) * cpus + cpu) // PAGE
    if kind == raw.DELETE:
        request = request_offset((pages * requests + nth // folios) * cpus + cpu + 99_991) // PAGE
    return request + nth % folios * (1 << FOLIO_ORDER)


# --- blktrace ---------------------------------------------------------------------------------------------------------

_ACTIONS = (1, 4, 9, 12, 7, 8)  # queued, request allocated, plugged, inserted, issued, completed
_BLK_HEAD = np.dtype(
    [
        ("magic", "<u4"),
        ("sequence", "<u4"),
        ("time", "<u8"),
        ("sector", "<u8"),
        ("bytes", "<u4"),
        ("action", "<u4"),
        ("pid", "<u4"),
        ("device", "<u4"),
        ("cpu", "<u4"),
        ("error", "<u2"),
        ("pdu_len", "<u2"),
    ]
)


def write_blktrace(directory: Path, records: int, cpus: int = 2) -> tuple[list[Path], int]:
    """Write the files of blktrace with all it records of each request; answers the files and the number of records.

    At the start of each file, and before every thousandth request, stands a note of a process's name.
    """
    requests = records // (len(_ACTIONS) * cpus)
    paths = [directory / f"vda.blktrace.{cpu}" for cpu in range(cpus)]
    for cpu, path in enumerate(paths):
        with path.open("wb") as stream:
            for block in _blktrace_blocks(requests, cpu, cpus):
                stream.write(block)
    return paths, requests * len(_ACTIONS) * cpus


def _blktrace_blocks(requests: int, cpu: int, cpus: int) -> Iterator[bytes]:
    for first in range(0, requests, 1000):
        number = np.arange(first, min(first + 1000, requests))
        block = np.zeros((len(number), len(_ACTIONS)), dtype=_BLK_HEAD)
        block["magic"], block["pid"], block["cpu"], block["device"] = 0x65617407, 500, cpu, raw.DEVICE_NUMBER
        block["bytes"] = REQUEST_BYTES
        block["action"] = np.array(_ACTIONS) | (raw.READ | raw.AHEAD)
        # Queued to issued at once; completed a while after the next requests were issued.
        start = 1_000_000_000 + number[:, None] * 20_000 + cpu * 37
        block["time"] = start + np.array([0, 300, 600, 900, 1_500, 19_000])
        place = disk_offset(request_offset(number * cpus + cpu)) // 512
        earlier = disk_offset(request_offset(np.maximum(number - 8, 0) * cpus + cpu)) // 512
        block["sector"] = place[:, None]
        block["sector"][:, -1] = earlier
        block["sequence"] = 1 + number[:, None] * len(_ACTIONS) + np.arange(len(_ACTIONS))  # of this CPU
        note = raw.blk_record(int(block["time"][0, 0]), 0, 0, raw.PROCESS_NOTE, b"reader".ljust(16, b"\0"), cpu=cpu)
        yield note + block.tobytes()
