"""The access pattern of a trial: what was read, in which order, in which sizes, how often again.

Computed from the tables of a trial's trace alone (block_io.parquet, page_cache.parquet, tokens.parquet, trace.json),
for each window and for the whole recording. Every number is explained, with its formula, in docs/access.md; the rules
for "sequential" are in `order`. Counting is in whole numbers up to the last division, so the same tables give
the same bytes of results on every machine.

What the model's numbers (all but `reads`, `read_bytes`, swap and others, queue and latency) are counted from is said by
`model_bytes_source`: `block`, requests of the disk placed in the model's files by their extents; or `page_cache`, where
the file system does not say where its files lie or the disk was not traced.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pagelab.analysis.access import order
from pagelab.analysis.access import tables as access_tables
from pagelab.analysis.access.device_queue import depth_facts, latency_facts
from pagelab.analysis.access.folios import with_whole_folios
from pagelab.analysis.access.model_reads import ModelReads, joined_pages, of_requests
from pagelab.analysis.access.offset_map import access_map_table
from pagelab.analysis.access.ranges import covered_bytes
from pagelab.analysis.access.reuse import reuse_of
from pagelab.analysis.access.spans import EVERYTHING, Span, Spans, spans_of_trial
from pagelab.analysis.access.trace_tables import BlockReads, PageEvents, read_block_reads, read_page_events
from pagelab.store.record import SCHEMA_VERSION, Access, TrialRecord
from pagelab.store.run_store import RunStore, read_trace_record
from pagelab.store.trace_record import PageLevel, TraceRecord
from pagelab.traces.arrays import Integers, group_count
from pagelab.traces.events import ADD, DELETE, SWAP
from pagelab.traces.placement import Placement
from pagelab.units import SECTOR_BYTES

Facts = dict[str, Any]
"""Names and values as JSON has them; what is not known is left out."""

BLOCK_IO, PAGE_CACHE = "block_io", "page_cache"


@dataclass(frozen=True)
class TracedReads:
    """What a trial's trace holds, as arrays; None where it was not recorded, or cannot be told."""

    blocks: BlockReads | None
    pages: PageEvents | None
    model: ModelReads | None
    model_file_bytes: int
    readahead_bytes: int
    swap_is_known: bool
    page_level: PageLevel | None


def analyse_trial(store: RunStore, record: TrialRecord, notes: Sequence[str] = ()) -> Access:
    """Compute the access pattern of a traced trial and write its derived files.

    Writes access.json and access_tokens, access_layers, access_experts, access_tensors, access_throughput, access_map
    and reuse .parquet into the trial's directory.

    Args:
        store: the run.
        record: the trial; its `access` is not looked at.
        notes: what could not be read of the raw files, for access.json.

    Returns:
        The headlines of the decode window, for trial.json.

    Raises:
        StoreError: trace.json or a table is missing, damaged, or lacks a column.
    """
    trace = read_trace_record(store.trace_directory(record.trial))
    spans = spans_of_trial(store, record)
    traced = _read_traced(store, record.trial, trace, spans)
    windows = {name: window_facts(traced, span) for name, span in spans.windows.items()}
    _add_per_token_amplification(windows, traced, spans)
    reuse, curve = reuse_of(None if traced.model is None else _decoded(traced.model, spans))
    document = _document(trace, traced, windows, reuse) | ({"notes": list(notes)} if notes else {})
    placement = Placement.of(trace)
    tables = {
        **access_tables.tables_of(traced.blocks, traced.pages, traced.model, spans, placement),
        "access_map": access_map_table(traced.model, spans, placement, _part_bytes(trace)),
        "reuse": curve,
    }
    for name, table in tables.items():
        store.write_trial_table(record.trial, name, table)
    store.write_trial_json(record.trial, "access", document)
    return _headlines(document, record.decode.tokens)


def access_of_block_io(path: Path, readahead_bytes: int | None = None) -> Facts:
    """The access pattern of a table of which only disks and sectors are known, as an imported recording is.

    Every number is over all completed reads of all devices, and every offset is one on the disk.

    Args:
        path: block_io.parquet.
        readahead_bytes: read_ahead_kb of the disk, where it is known; else the kernel's default of 128 KiB is assumed
            and said in the result.

    Raises:
        StoreError: the table is missing, damaged, or lacks a column.
    """
    reads = read_block_reads(path, placed=False)
    window = order.DEFAULT_READAHEAD_BYTES if readahead_bytes is None else readahead_bytes
    by_issue = reads.in_order_of_issue
    stream = order.ReadStream(reads.device, reads.sector * SECTOR_BYTES, reads.bytes, reads.ahead)
    if by_issue:
        stream = stream.taken(np.argsort(reads.moments(), kind="stable"))
    facts = {
        "schema_version": SCHEMA_VERSION,
        "offsets": "device",
        "order": "issue" if by_issue else "completion",
        "readahead_bytes": window,
        "readahead_assumed": readahead_bytes is None,
        "reads": len(reads),
        "read_bytes": stream.total_bytes,
        **_sizes(reads.bytes),
        **_order_facts(stream, window, not by_issue),
        "sequential_fraction_notes": order.notes_fraction(reads.device, reads.sector),
        **_reread(stream),
        **latency_facts(reads),
        **depth_facts(reads, EVERYTHING),
    }
    return _known(facts)


# --- one window -------------------------------------------------------------------------------------------------------


def window_facts(traced: TracedReads, span: Span) -> Facts:
    """Everything that is counted in one window of a trial."""
    facts: Facts = {"seconds": span.seconds}
    if traced.blocks is not None:
        facts |= _block_facts(traced.blocks, span, traced.swap_is_known)
    model = None if traced.model is None else traced.model.within(span)
    if model is not None:
        facts |= _model_facts(model, traced)
    if model is not None and model.source == "block" and traced.swap_is_known:
        facts["other_bytes"] = facts["read_bytes"] - facts["model_bytes"] - facts["swap_bytes"]
    if traced.pages is not None:
        facts |= _page_facts(traced.pages.within(span), model, traced.page_level)
    return _known(facts)


def _block_facts(blocks: BlockReads, span: Span, swap_is_known: bool) -> Facts:
    reads = blocks.within(span)
    begun = blocks.time_ns if blocks.issued_ns is None else blocks.issued_ns
    under_way = blocks.taken((blocks.time_ns > span.begin_ns) & (begun < span.end_ns))
    return {
        "reads": len(reads),
        "read_bytes": int(reads.bytes.sum()),
        "swap_bytes": int(reads.bytes[reads.source == SWAP].sum()) if swap_is_known else None,
        "sequential_fraction_notes": order.notes_fraction(reads.device, reads.sector),
        **latency_facts(reads),
        **depth_facts(under_way, span),
    }


def _model_facts(reads: ModelReads, traced: TracedReads) -> Facts:
    stream = reads.ordered()
    distinct = _reread(stream)
    return {
        "model_reads": len(reads),
        "model_bytes": stream.total_bytes,
        **_sizes(reads.request_bytes),
        **_order_facts(stream, traced.readahead_bytes, reads.order == "completion"),
        **distinct,
        "coverage_fraction": order.ratio(distinct["distinct_bytes"], traced.model_file_bytes),
    }


def _page_facts(pages: PageEvents, model: ModelReads | None, level: PageLevel | None) -> Facts:
    mapped = 0 if model is None else access_tables.mapped_bytes(model, pages)
    return {
        "page_added_bytes": int(pages.bytes[pages.event == ADD].sum()) if level in ("entered", "all") else None,
        "page_deleted_bytes": int(pages.bytes[pages.event == DELETE].sum()) if level == "all" else None,
        "mapped_bytes": mapped or None,
        "read_amplification": None if model is None else order.ratio(model.stream.total_bytes, mapped),
    }


def _sizes(sizes: Integers) -> Facts:
    if not len(sizes):
        return {"read_sizes": []}
    bins = order.histogram(sizes)
    return {
        "mean_read_bytes": int(sizes.sum()) / len(sizes),
        "median_read_bytes": float(np.median(sizes)),
        "read_sizes": [
            {"from_bytes": one.low, "below_bytes": one.high, "reads": one.count, "read_bytes": one.total}
            for one in bins
        ],
    }


def _order_facts(stream: order.ReadStream, readahead_bytes: int, by_completion: bool) -> Facts:
    runs, gaps = order.find_runs(stream, by_completion), order.find_gaps(stream)
    return {
        "sequential_fraction": runs.sequential_fraction(readahead_bytes),
        "sequential_fraction_next": order.next_fraction(stream),
        "runs": runs.count,
        "mean_run_bytes": runs.mean_bytes,
        "median_run_bytes": runs.median_bytes,
        "n50_run_bytes": runs.n50_bytes,
        "forward_fraction": gaps.forward_fraction,
        "backward_fraction": gaps.backward_fraction,
        "gaps": {"adjacent": gaps.adjacent, "forward": _bins(gaps.forward), "backward": _bins(gaps.backward)},
    }


def _bins(bins: Iterable[order.Bin]) -> list[Facts]:
    return [{"from_bytes": one.low, "below_bytes": one.high, "gaps": one.count} for one in bins]


def _reread(stream: order.ReadStream) -> Facts:
    distinct = int(covered_bytes(stream.space, stream.start, stream.end, group_count(stream.space)).sum())
    return {"distinct_bytes": distinct, "reread_factor": order.ratio(stream.total_bytes, distinct)}


def _known(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if value is not None}


# --- a trial ----------------------------------------------------------------------------------------------------------


def _read_traced(store: RunStore, number: int, trace: TraceRecord, spans: Spans) -> TracedReads:
    """The tables that there are; requests tell of the model where all of its files are found on a disk."""
    block_path, page_path = (store.trial_table_path(number, name) for name in (BLOCK_IO, PAGE_CACHE))
    blocks = read_block_reads(block_path) if block_path.is_file() else None
    whole = "page" in trace.profiles and "page" not in trace.capped
    pages = with_whole_folios(read_page_events(page_path)) if whole and page_path.is_file() else None
    readahead = order.DEFAULT_READAHEAD_BYTES if trace.readahead_bytes is None else trace.readahead_bytes
    files = [file for file in trace.files if file.kind == "model"]
    swap_is_known = all(file.extents is not None for file in trace.files if file.kind == "swap")
    model = None
    if blocks is not None and files and all(file.extents is not None for file in files):
        model = of_requests(blocks)
    elif pages is not None and trace.pages != "faults":
        model = joined_pages(pages, readahead, spans.bounds_ns)
    size = sum(file.bytes for file in files)
    return TracedReads(blocks, pages, model, size, readahead, swap_is_known, trace.pages)


def _part_bytes(trace: TraceRecord) -> list[int]:
    """The sizes of the model's parts, by their numbers."""
    sizes = {file.part: file.bytes for file in trace.files if file.kind == "model"}
    return [sizes.get(part, 0) for part in range(max(sizes, default=-1) + 1)]


def _decoded(reads: ModelReads, spans: Spans) -> ModelReads:
    decode = spans.windows.get("decode")
    return reads.within(EVERYTHING if decode is None else decode)


def _add_per_token_amplification(windows: dict[str, Facts], traced: TracedReads, spans: Spans) -> None:
    """Read amplification with each token for itself: bytes read over bytes mapped, both summed over tokens."""
    if "decode" not in windows or traced.model is None or traced.pages is None:
        return
    read = windows["decode"]["model_bytes"]
    mapped = sum(
        access_tables.mapped_bytes(traced.model.within(span), traced.pages.within(span))
        for index, span in spans.tokens.items()
        if index > 0
    )
    if mapped:
        windows["decode"]["read_amplification_per_token"] = read / mapped


def _document(trace: TraceRecord, traced: TracedReads, windows: dict[str, Facts], reuse: Facts) -> Facts:
    """access.json."""
    facts = {
        "schema_version": SCHEMA_VERSION,
        "recorder": trace.recorder,
        "lost_events": trace.lost_events,
        "model_bytes_source": None if traced.model is None else traced.model.source,
        "order": None if traced.model is None else traced.model.order,
        "offsets": "file",
        "readahead_bytes": traced.readahead_bytes,
        "readahead_assumed": trace.readahead_bytes is None,
        "model_file_bytes": traced.model_file_bytes,
        "windows": windows,
        "reuse": reuse or None,
    }
    return _known(facts)


def _headlines(document: Facts, tokens: int | None) -> Access:
    """What trial.json says of the decode window, which generated a number of tokens."""
    decode = document["windows"].get("decode", {})
    if tokens and "model_bytes" in decode:
        decode = decode | {"model_bytes_per_token": decode["model_bytes"] / tokens}
    common = {name: document[name] for name in ("model_bytes_source", "order") if name in document}
    return Access.model_validate(common | {name: decode[name] for name in Access.model_fields if name in decode})
