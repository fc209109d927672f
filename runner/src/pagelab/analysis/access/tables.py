"""The tables that a trial's trace is summed up in: by token, by tensor, layer and expert, and over time.

Bytes of a read that spans several tensors or experts count for each by what it has of it. Sizes are bytes, and a window
that is not known has nulls.
"""

from collections.abc import Callable
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
        **{name: _part_table(placement, parts, spans, name) for name in _GROUPINGS},
    }


# --- over time --------------------------------------------------------------------------------------------------------


def throughput_table(blocks: BlockReads | None, model: ModelReads | None) -> pa.Table:
    """Bytes read in each tenth of a second, from the first with a read to the last: `begin_seconds` and bytes.

    `read_bytes` and `swap_bytes` are of the disk and null where it was not traced.
    """
    found: dict[str, tuple[Integers, Integers] | None] = dict.fromkeys(("read_bytes", "model_bytes", "swap_bytes"))
    if blocks is not None:
        swapped = blocks.taken(blocks.source == SWAP)
        found |= {"read_bytes": (blocks.time_ns, blocks.bytes), "swap_bytes": (swapped.time_ns, swapped.bytes)}
    if model is not None:
        found["model_bytes"] = model.time_ns, model.stream.bytes
    moments = [one[0] for one in found.values() if one is not None and len(one[0])]
    first = min((int(times.min()) // BIN_NS for times in moments), default=0)
    count = max((int(times.max()) // BIN_NS + 1 - first for times in moments), default=0)
    columns: dict[str, Any] = {"begin_seconds": pa.array((first + np.arange(count)) / BINS_A_SECOND, pa.float64())}
    for name, one in found.items():
        columns[name] = _null(count) if one is None else pa.array(sums(one[0] // BIN_NS - first, one[1], count))
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
        _null(count),
    )
    columns |= {"mapped_bytes": _null(count), "read_amplification": _null(count, pa.float64())}
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
    tokens = [(model.within(span), pages.within(span)) for span in spans.tokens.values()]
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
    cumulative = np.append(0, np.cumsum(values, dtype=np.int64))
    return np.diff(cumulative[places])[:, 0]


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


_Key = Callable[[Slice], tuple[Any, ...] | None]
# What the slices of a group have in common (None: a slice is in no group), and the names and types of these columns.
_GROUPINGS: dict[str, tuple[_Key, dict[str, Any]]] = {
    "access_tensors": (
        lambda one: (one.tensor, one.tensor_class, one.layer, one.part),
        {"tensor": pa.string(), "tensor_class": pa.string(), "layer": pa.int32(), "file_part": pa.int32()},
    ),
    "access_layers": (
        lambda one: (one.layer, one.tensor_class),
        {"layer": pa.int32(), "tensor_class": pa.string()},
    ),
    "access_experts": (
        lambda one: None if one.expert is None else (one.layer, one.expert),
        {"layer": pa.int32(), "expert": pa.int32()},
    ),
}


@dataclass(frozen=True)
class _Groups:
    """Slices in groups: the number of each slice's group, -1 where it is in none, and how many groups there are."""

    of_slice: Integers
    count: int

    def sums(self, values: Integers, slices: Integers | slice = slice(None)) -> Integers:
        """The sum of values that belong to slices, all by default, for each group."""
        group = self.of_slice[slices]
        return sums(group[group >= 0], values[group >= 0], self.count)

    def different(self, numbers: Integers, slices: Integers) -> Integers:
        """How many different numbers belong to slices of each group."""
        group, span = self.of_slice[slices], group_count(numbers)
        pairs = np.unique((group * span + numbers)[group >= 0])
        return np.bincount(pairs // max(span, 1), minlength=self.count)


def _part_table(placement: Placement, windows: list[_Pieces | None], spans: Spans, grouping: str) -> pa.Table:
    """A row for each group of slices, in order of the file.

    `bytes` of the weights, what each window read of them, and for decode: `decode_reads` that touched them,
    `decode_distinct_bytes`, `reread_factor` (bytes read over distinct bytes), `coverage_fraction` (distinct bytes over
    bytes) and `decode_tokens`, in how many tokens any of it was read.
    """
    key_of, key_columns = _GROUPINGS[grouping]
    keys: dict[tuple[Any, ...], int] = {}
    numbers = [-1 if key is None else keys.setdefault(key, len(keys)) for key in map(key_of, placement.slices)]
    groups = _Groups(np.array(numbers, dtype=np.int64), len(keys))
    held = groups.sums(placement.bytes)
    columns: dict[str, Any] = {
        name: pa.array([key[place] for key in keys], kind) for place, (name, kind) in enumerate(key_columns.items())
    }
    columns["bytes"] = pa.array(held)
    for window, pieces in zip(WINDOWS, windows, strict=True):
        read = _null(len(keys)) if pieces is None else pa.array(groups.sums(pieces.bytes, pieces.slice))
        columns[f"{window}_read_bytes"] = read
    decode = windows[-1]
    if decode is None:
        columns |= dict.fromkeys(("decode_reads", "decode_distinct_bytes", "decode_tokens"), _null(len(keys)))
        columns |= dict.fromkeys(("reread_factor", "coverage_fraction"), _null(len(keys), pa.float64()))
        return pa.table(columns)
    token = np.searchsorted(spans.arrivals_ns, decode.time_ns, side="right")
    distinct = groups.sums(decode.distinct_bytes)
    columns["decode_reads"] = pa.array(groups.different(decode.row, decode.slice))
    columns["decode_distinct_bytes"] = pa.array(distinct)
    columns["decode_tokens"] = pa.array(groups.different(token, decode.slice))
    columns["reread_factor"] = _ratios(groups.sums(decode.bytes, decode.slice), distinct)
    columns["coverage_fraction"] = _ratios(distinct, held)
    return pa.table(columns)


def _null(count: int, kind: Any = None) -> Any:
    return pa.nulls(count, kind or pa.int64())


def _ratios(part: Integers, whole: Integers) -> Any:
    return pa.array(np.divide(part, whole, where=whole > 0, out=np.zeros(len(whole))), mask=whole <= 0)
