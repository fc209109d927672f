"""The tables that a trial's trace is summed up in: by token, by tensor, layer and expert, and over time.

Bytes of a read that spans several tensors or experts count for each by what it has of it. Sizes are bytes, and a window
that is not known has nulls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pagelab.analysis.access.model_reads import ModelReads
from pagelab.analysis.access.ranges import Ranges, shared_bytes, union
from pagelab.analysis.access.spans import Spans
from pagelab.analysis.access.trace_tables import BlockReads, PageEvents
from pagelab.store.record import WINDOWS
from pagelab.traces.arrays import Integers, counted_from, group_count, sums
from pagelab.traces.events import FAULT, MAP, SWAP
from pagelab.traces.placement import Placement, Slice
from pagelab.units import NANOSECONDS

BIN_NS = NANOSECONDS // 10
BINS_A_SECOND = NANOSECONDS // BIN_NS
_DECODE = WINDOWS[-1]


def tables_of(
    blocks: BlockReads | None,
    pages: PageEvents | None,
    model: ModelReads | None,
    spans: Spans,
    placement: Placement,
) -> dict[str, pa.Table]:
    """Every table by its name; columns do not depend on what was traced."""
    parts = [_Pieces.of(model, spans, placement, window) for window in WINDOWS]
    return {
        "access_throughput": throughput_table(blocks, model),
        "access_tokens": token_table(blocks, pages, model, spans),
        "access_tensors": _part_table(placement, parts, spans, _TENSOR),
        "access_layers": _part_table(placement, parts, spans, _LAYER),
        "access_experts": _part_table(placement, parts, spans, _EXPERT),
    }


# --- over time --------------------------------------------------------------------------------------------------------


def throughput_table(blocks: BlockReads | None, model: ModelReads | None) -> pa.Table:
    """Bytes read in each tenth of a second, from the first with a read to the last: `begin_seconds` and bytes.

    `read_bytes` and `swap_bytes` are of the disk and null where it was not traced.
    """
    streams = {"read_bytes": (None, None), "model_bytes": (None, None), "swap_bytes": (None, None)}
    found: dict[str, tuple[Integers, Integers]] = {}
    if blocks is not None:
        swapped = blocks.source == SWAP
        found["read_bytes"] = blocks.time_ns, blocks.bytes
        found["swap_bytes"] = blocks.time_ns[swapped], blocks.bytes[swapped]
    if model is not None:
        found["model_bytes"] = model.time_ns, model.stream.bytes
    moments = [times for times, _ in found.values() if len(times)]
    first = min((int(times.min()) // BIN_NS for times in moments), default=0)
    count = max((int(times.max()) // BIN_NS + 1 - first for times in moments), default=0)
    columns: dict[str, Any] = {"begin_seconds": pa.array((first + np.arange(count)) / BINS_A_SECOND, pa.float64())}
    for name in streams:
        columns[name] = (
            pa.array(sums(found[name][0] // BIN_NS - first, found[name][1], count))
            if name in found
            else pa.nulls(count, pa.int64())
        )
    return pa.table(columns)


# --- by token ---------------------------------------------------------------------------------------------------------


def token_table(
    blocks: BlockReads | None, pages: PageEvents | None, model: ModelReads | None, spans: Spans
) -> pa.Table:
    """A row a token: what was read from the token before it until it came; for the first, since the model was loaded.

    `distinct_bytes` are different bytes of the model, `new_bytes` those that no token since the second had read before:
    of the first token, which comes with the prompt, they are null. `mapped_bytes` are as in the function of that name,
    and `read_amplification` is model_bytes over them.
    """
    tokens = spans.tokens
    bounds = np.array([(span.begin_ns, span.end_ns) for span in tokens.values()], dtype=np.int64).reshape(-1, 2)
    count = len(tokens)
    columns: dict[str, Any] = {
        "token_index": pa.array(list(tokens), pa.int32()),
        "seconds": pa.array((bounds[:, 1] - bounds[:, 0]) / NANOSECONDS),
    }
    columns |= dict.fromkeys(
        ("reads", "read_bytes", "swap_bytes", "model_reads", "model_bytes", "distinct_bytes", "new_bytes"),
        pa.nulls(count, pa.int64()),
    )
    columns |= {"mapped_bytes": pa.nulls(count, pa.int64()), "read_amplification": pa.nulls(count, pa.float64())}
    if blocks is not None:
        places = np.searchsorted(blocks.time_ns, bounds)
        columns["reads"] = pa.array(places[:, 1] - places[:, 0])
        columns["read_bytes"] = pa.array(_between(blocks.bytes, places))
        columns["swap_bytes"] = pa.array(_between(np.where(blocks.source == SWAP, blocks.bytes, 0), places))
    if model is not None:
        columns |= _model_columns(model, bounds, list(tokens))
    if model is not None and pages is not None:
        columns |= _mapped_columns(model, pages, spans)
    return pa.table(columns)


def _mapped_columns(model: ModelReads, pages: PageEvents, spans: Spans) -> dict[str, Any]:
    tokens = [(model.within(span), pages.taken(span.of(pages.time_ns))) for span in spans.tokens.values()]
    mapped = np.array([mapped_bytes(*token) for token in tokens], dtype=np.int64)
    read = np.array([reads.stream.total_bytes for reads, _ in tokens], dtype=np.int64)
    return {"mapped_bytes": pa.array(mapped), "read_amplification": _ratios(read, mapped)}


def mapped_bytes(reads: ModelReads, pages: PageEvents) -> int:
    """Different bytes of the model that were read and that the process mapped, by events `map` and `fault`.

    A `map` event tells of the whole range around a fault in which pages that were in the cache were mapped (up to
    64 KiB, mm/filemap.c), not of which these were; so what of the range was not read counts for nothing.
    """
    touched = pages.taken((pages.event == MAP) | (pages.event == FAULT))
    read = Ranges(reads.stream.space, reads.stream.start, reads.stream.end)
    mapped = Ranges(touched.part, touched.offset, touched.offset + touched.bytes)
    return int(shared_bytes(read, mapped, max(group_count(read.group), group_count(mapped.group))).sum())


def _between(values: Integers, places: Integers) -> Integers:
    """The sum of the values from each place up to, not including, another."""
    cumulative = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(values, dtype=np.int64)))
    found: Integers = cumulative[places[:, 1]] - cumulative[places[:, 0]]
    return found


def _model_columns(model: ModelReads, bounds: Integers, tokens: list[int]) -> dict[str, Any]:
    places = np.searchsorted(model.time_ns, bounds)
    token, row = counted_from(places[:, 0], places[:, 1] - places[:, 0])
    read = model.stream.taken(row)
    joined = union(token * group_count(read.space) + read.space, read.start, read.end)
    spaces = max(group_count(read.space), 1)
    new = _new_bytes(joined, spaces, [number for number, index in enumerate(tokens) if index > 0])
    return {
        "model_reads": pa.array(places[:, 1] - places[:, 0]),
        "model_bytes": pa.array(_between(model.stream.bytes, places)),
        "distinct_bytes": pa.array(sums(joined.group // spaces, joined.bytes, len(tokens))),
        "new_bytes": pa.array([new.get(number) for number in range(len(tokens))], pa.int64()),
    }


def _new_bytes(joined: Ranges, spaces: int, tokens: list[int]) -> dict[int, int]:
    """For each of some tokens, in order, the bytes of its ranges that those before it do not hold."""
    seen = Ranges(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    known, new = 0, {}
    token = joined.group // spaces
    for number in tokens:
        low, high = np.searchsorted(token, (number, number + 1))
        group = np.concatenate((seen.group, joined.group[low:high] % spaces))
        start = np.concatenate((seen.start, joined.start[low:high]))
        seen = union(group, start, np.concatenate((seen.end, joined.end[low:high])))
        new[number], known = seen.total_bytes - known, seen.total_bytes
    return new


# --- by tensor, layer and expert --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pieces:
    """What was read of each slice of the model in one window.

    `row`, `slice` and `bytes` tell of every piece of a read that lies in one slice; `time_ns` is the read's.
    `distinct_bytes` has one number for each slice.
    """

    row: Integers
    slice: Integers
    bytes: Integers
    time_ns: Integers
    distinct_bytes: Integers

    @classmethod
    def of(cls, model: ModelReads | None, spans: Spans, placement: Placement, window: str) -> "_Pieces | None":
        if model is None or window not in spans.windows:
            return None
        reads = model.within(spans.windows[window])
        stream = reads.stream
        row, index, shared = placement.split(stream.space, stream.start, stream.bytes)
        joined = union(stream.space, stream.start, stream.end)
        _, place, covered = placement.split(joined.group, joined.start, joined.bytes)
        distinct = sums(place, covered, len(placement.slices))
        return cls(row, index, shared, reads.time_ns[row], distinct)


@dataclass(frozen=True)
class _Grouping:
    """How slices are grouped: what a slice's group is called (None: in none), and its columns with their types."""

    key: Callable[[Slice], tuple[Any, ...] | None]
    columns: Mapping[str, str]


_TENSOR = _Grouping(
    lambda one: (one.tensor, one.tensor_class, one.layer, one.part),
    {"tensor": "string", "tensor_class": "string", "layer": "int32", "file_part": "int32"},
)
_LAYER = _Grouping(lambda one: (one.layer, one.tensor_class), {"layer": "int32", "tensor_class": "string"})
_EXPERT = _Grouping(
    lambda one: None if one.expert is None else (one.layer, one.expert), {"layer": "int32", "expert": "int32"}
)


def _part_table(placement: Placement, windows: list[_Pieces | None], spans: Spans, grouping: _Grouping) -> pa.Table:
    """A row for each group of slices, in order of the file.

    `bytes` of the weights, what each window read of them, and for decode: `decode_reads` that touched them,
    `decode_distinct_bytes`, `reread_factor` (bytes read over distinct bytes), `coverage_fraction` (distinct bytes over
    bytes) and `decode_tokens`, in how many tokens any of it was read.
    """
    groups: dict[tuple[Any, ...], int] = {}
    number_of = np.full(len(placement.slices) + 1, -1, dtype=np.int64)
    for place, one in enumerate(placement.slices):
        key = grouping.key(one)
        if key is not None:
            number_of[place] = groups.setdefault(key, len(groups))
    held = number_of[:-1] >= 0
    sizes = np.array([one.bytes for one in placement.slices], dtype=np.int64)
    totals = sums(number_of[:-1][held], sizes[held], len(groups))
    types = {"string": pa.string(), "int32": pa.int32()}
    columns: dict[str, Any] = {
        name: pa.array([key[place] for key in groups], types[kind])
        for place, (name, kind) in enumerate(grouping.columns.items())
    }
    columns["bytes"] = pa.array(totals)
    for window, pieces in zip(WINDOWS, windows, strict=True):
        columns[f"{window}_read_bytes"] = _read_bytes(pieces, number_of, len(groups))
    columns |= _decode_columns(windows[-1], number_of, totals, spans)
    return pa.table(columns)


def _read_bytes(pieces: _Pieces | None, number_of: Integers, count: int) -> Any:
    if pieces is None:
        return pa.nulls(count, pa.int64())
    group = number_of[pieces.slice]
    held = group >= 0
    return pa.array(sums(group[held], pieces.bytes[held], count))


def _decode_columns(pieces: _Pieces | None, number_of: Integers, totals: Integers, spans: Spans) -> dict[str, Any]:
    count = len(totals)
    counts = ("decode_reads", "decode_distinct_bytes", "decode_tokens")
    if pieces is None:
        ratios = dict.fromkeys(("reread_factor", "coverage_fraction"), pa.nulls(count, pa.float64()))
        return dict.fromkeys(counts, pa.nulls(count, pa.int64())) | ratios
    group = number_of[pieces.slice]
    held = group >= 0
    group = group[held]
    token = np.searchsorted(spans.arrivals_ns, pieces.time_ns[held], side="right")
    inside = number_of[:-1] >= 0
    distinct = sums(number_of[:-1][inside], pieces.distinct_bytes[inside], count)
    read = sums(group, pieces.bytes[held], count)
    return {
        "decode_reads": pa.array(_pairs(group, pieces.row[held], count)),
        "decode_distinct_bytes": pa.array(distinct),
        "decode_tokens": pa.array(_pairs(group, token, count)),
        "reread_factor": _ratios(read, distinct),
        "coverage_fraction": _ratios(distinct, totals),
    }


def _pairs(group: Integers, number: Integers, count: int) -> Integers:
    """How many different numbers occur with each group."""
    span = group_count(number)
    different = np.unique(group * span + number) // max(span, 1)
    return np.bincount(different, minlength=count)


def _ratios(part: Integers, whole: Integers) -> Any:
    return pa.array(np.divide(part, whole, where=whole > 0, out=np.zeros(len(whole))), mask=whole <= 0)
