"""Where in the model's files decoding read, and when: a coarse grid of the first tokens, for a figure.

The files of a model stand one after the other, cut into OFFSET_BINS equal pieces; the time from the first token to the
ninth (or the last, where there are fewer) is cut into TIME_BINS equal pieces.
"""

import numpy as np
import pyarrow as pa

from pagelab.analysis.access.model_reads import ModelReads
from pagelab.analysis.access.spans import Span, Spans
from pagelab.traces.arrays import Integers, counted_from, sums
from pagelab.traces.placement import Placement
from pagelab.units import NANOSECONDS

TOKENS = 8
TIME_BINS = 96
OFFSET_BINS = 64


def access_map_table(model: ModelReads | None, spans: Spans, placement: Placement, part_bytes: list[int]) -> pa.Table:
    """A row for each cell of the grid in which anything was read.

    `begin_seconds` and `seconds` (since the start of the process) and `offset_bytes` and `bytes` (from the start of the
    first file) bound the cell; `tensor_class` is that of most bytes in this piece of the files, null where no tensor
    is; `read_bytes` is what was read of it.

    Args:
        model: reads of the model; without any, or without a second token, the table is empty.
        spans: the trial's tokens.
        placement: where tensors lie.
        part_bytes: sizes of the model's files, by part.
    """
    height = -(-sum(part_bytes) // OFFSET_BINS)
    span = _shown(spans)
    if model is None or span is None or height <= 0:
        times, pieces, read = (np.zeros(0, dtype=np.int64),) * 3
        width = 1
    else:
        width = -(-(span.end_ns - span.begin_ns) // TIME_BINS)
        times, pieces, read = _cells(model.within(span), span, width, height, part_bytes)
    classes = _classes(placement, part_bytes, max(height, 1))
    begin = 0 if span is None else span.begin_ns
    return pa.table(
        {
            "begin_seconds": pa.array((begin + times * width) / NANOSECONDS, pa.float64()),
            "seconds": pa.array(np.full(len(times), width / NANOSECONDS)),
            "offset_bytes": pa.array(pieces * height),
            "bytes": pa.array(np.full(len(times), height, dtype=np.int64)),
            "tensor_class": pa.array([classes.get(int(piece)) for piece in pieces], pa.string()),
            "read_bytes": pa.array(read),
        }
    )


def _shown(spans: Spans) -> Span | None:
    arrivals = spans.arrivals_ns[: TOKENS + 1]
    if len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
        return None
    return Span(int(arrivals[0]), int(arrivals[-1]))


def _cells(
    reads: ModelReads, span: Span, width: int, height: int, part_bytes: list[int]
) -> tuple[Integers, Integers, Integers]:
    """Time, piece of the files and bytes of every cell with a read, by time and piece."""
    start = reads.stream.start + _bases(part_bytes)[reads.stream.space]
    time = (reads.time_ns - span.begin_ns) // width
    row, piece, shared = _cut(start, reads.stream.bytes, height)
    totals = sums(time[row] * OFFSET_BINS + piece, shared, TIME_BINS * OFFSET_BINS)
    cells = np.flatnonzero(totals)
    return cells // OFFSET_BINS, cells % OFFSET_BINS, totals[cells]


def _bases(part_bytes: list[int]) -> Integers:
    """Where each part starts when all stand one after the other."""
    return np.concatenate(([0], np.cumsum(part_bytes)))[:-1].astype(np.int64)


def _cut(start: Integers, size: Integers, height: int) -> tuple[Integers, Integers, Integers]:
    """Ranges cut where pieces of `height` bytes meet: row of the range, number of the piece, and bytes in it."""
    first, last = start // height, (start + size - 1) // height
    row, piece = counted_from(first, last - first + 1)
    low, high = np.maximum(start[row], piece * height), np.minimum((start + size)[row], (piece + 1) * height)
    return row, np.minimum(piece, OFFSET_BINS - 1), high - low


def _classes(placement: Placement, part_bytes: list[int], height: int) -> dict[int, str]:
    """The class of tensor that has most bytes in each piece of the files; the first of several with as many."""
    if not placement.slices or not part_bytes:
        return {}
    names = sorted({one.tensor_class for one in placement.slices})
    number = np.array([names.index(one.tensor_class) for one in placement.slices], dtype=np.int64)
    row, piece, shared = _cut(placement.offset + _bases(part_bytes)[placement.part], placement.bytes, height)
    totals = sums(piece * len(names) + number[row], shared, OFFSET_BINS * len(names)).reshape(OFFSET_BINS, len(names))
    return {int(place): str(names[int(np.argmax(totals[place]))]) for place in np.flatnonzero(totals.sum(axis=1))}
