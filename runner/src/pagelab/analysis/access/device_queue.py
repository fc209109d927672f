"""How long reads took and how many were under way at once, from the moments of issue and completion."""

import numpy as np

from pagelab.analysis.access.spans import EVERYTHING, Span
from pagelab.analysis.access.trace_tables import BlockReads
from pagelab.traces.arrays import Integers
from pagelab.units import NANOSECONDS

PERCENTILES = (50, 90, 99)
_AT_ONCE = 1 << 16  # moments: their numbers fit into a core's cache


def latency_facts(reads: BlockReads) -> dict[str, float]:
    """Percentiles of the time from the last issue of a read to its completion, in seconds; empty without any.

    A percentile p is the least time that p % of the reads did not exceed (nearest rank), so it is always one that
    occurred.
    """
    issued, completed = reads.times_with_issue()
    if not len(issued):
        return {}
    times = np.sort(completed - issued)
    ranks = {f"latency_p{percent}_seconds": -(-percent * len(times) // 100) - 1 for percent in PERCENTILES}
    ranks["latency_max_seconds"] = len(times) - 1
    return {name: int(times[rank]) / NANOSECONDS for name, rank in ranks.items()}


def depth_facts(reads: BlockReads, span: Span) -> dict[str, float]:
    """How many reads were under way, weighted by time; empty where no issue is known.

    `queue_depth_mean` is the mean over the span, times without a read among it, `busy_fraction` the share of the span
    with at least one. The percentiles are over the busy time. A span without bounds is that from the first issue to the
    last completion. A read that was under way at an end of the span counts for the time that lies in it.
    """
    begin, end = reads.times_with_issue()
    if not len(begin):
        return {}
    if span is EVERYTHING:
        span = Span(int(begin.min()), int(end.max()))
    else:
        begin, end = np.clip(begin, span.begin_ns, span.end_ns), np.clip(end, span.begin_ns, span.end_ns)
    length = span.end_ns - span.begin_ns
    return _facts(_time_at_depth(begin, end), length) if length > 0 else {}


def _time_at_depth(begin: Integers, end: Integers) -> Integers:
    """Nanoseconds during which 0, 1, 2 … reads were under way, between the first begin and the last end."""
    origin = int(begin.min())
    # With what happens in the last bit, so that they sort as plain numbers, and begins before ends of one moment.
    moments = np.concatenate((begin, end))
    moments -= origin
    moments <<= 1
    moments[len(begin) :] |= 1
    moments.sort(kind="stable")  # fast, since begins and ends are nearly in order already
    depth, time_at = 0, np.zeros(1, dtype=np.int64)
    for first in range(0, len(moments) - 1, _AT_ONCE):
        some = moments[first : first + _AT_ONCE + 1]
        depths = depth + np.cumsum(1 - 2 * (some[:-1] & 1))
        depth = int(depths[-1])
        times = np.bincount(depths, weights=np.diff(some >> 1), minlength=len(time_at)).astype(np.int64)  # exact
        times[: len(time_at)] += time_at
        time_at = times
    return time_at


def _facts(time_at: Integers, length: int) -> dict[str, float]:
    busy = int(time_at[1:].sum())
    facts = {
        "busy_fraction": busy / length,
        "queue_depth_mean": int((time_at * np.arange(len(time_at))).sum()) / length,
    }
    if busy:
        cumulative = 100 * np.cumsum(time_at[1:])
        for percent in PERCENTILES:
            facts[f"queue_depth_p{percent}"] = 1 + int(np.searchsorted(cumulative, percent * busy))
        facts["queue_depth_max"] = int(np.flatnonzero(time_at)[-1])
    return facts
