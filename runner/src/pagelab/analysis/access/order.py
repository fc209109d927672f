"""Whether reads follow each other in order: three rules for "sequential", run lengths and gaps (docs/access.md).

All of it is computed from one stream of reads (`ReadStream`), in whole numbers until the last division, so that the
result is the same on every machine.

Where only completions are known, requests that are in flight together may end in another order than they were issued.
With `by_completion`, a burst also goes on where one of the 64 bursts *after* it ended, if nothing else does; a run of
which more than half the steps from read to read would point back in the stream, as when a file is read backwards, loses
these links again. With tens of requests in flight some order is lost all the same, and the result is too low.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pagelab.traces.arrays import Integers, Mask, Rows, begins, position_type, sums
from pagelab.units import KIB

Places = NDArray[np.signedinteger]
"""Positions in an array; four bytes each where that is enough."""

STREAMS = 64  # bursts back that a run is looked for
NOTES_GAP_SECTORS = 256
DEFAULT_READAHEAD_BYTES = 128 * KIB  # VM_READAHEAD_PAGES of include/linux/pagemap.h: the kernel's own default
_AT_ONCE = 1 << 15  # reads compared at once: their numbers fit into a core's cache
_SPACE_BITS = 50  # files and disks of up to a pebibyte, 8192 of them


@dataclass(frozen=True)
class ReadStream(Rows):
    """Reads in the order that is judged: arrays of one length.

    `space` numbers what the offsets count in (a part of the model, a disk); `start` is the first byte's offset there
    and `bytes` the length, which is above 0. `ahead` says of each read whether it was readahead; None where that is not
    known, so that every one may have been.
    """

    space: Integers
    start: Integers
    bytes: Integers
    ahead: Mask | None = None

    @cached_property
    def end(self) -> Integers:
        """Offset of the first byte after each read."""
        return self.start + self.bytes

    @cached_property
    def follows(self) -> Mask:
        """Which reads start where the one before them ended, in the same space."""
        follows = ~begins(self.space)
        follows[1:] &= self.start[1:] == self.end[:-1]
        return follows

    @property
    def total_bytes(self) -> int:
        """Bytes of all reads."""
        return int(self.bytes.sum(dtype=np.int64))

    def by_space(self) -> "ReadStream":
        """The reads of one space together, else in their order."""
        if not len(self) or self.space.min() == self.space.max():
            return self
        return self.taken(np.argsort(self.space, kind="stable"))


# --- the rules that look at two neighbours ----------------------------------------------------------------------------


def notes_fraction(device: Integers, sector: Integers) -> float | None:
    """The notes' rule, over reads in order of completion.

    Args:
        device: number of each read's disk; gaps are those between the reads of one disk.
        sector: where each read starts, in sectors of 512 bytes.

    Returns:
        The share of gaps below 256 sectors, forwards or backwards; None without a gap.
    """
    stream = ReadStream(device, sector, sector).by_space()
    same = stream.space[1:] == stream.space[:-1]
    near = (np.abs(np.diff(stream.start)) < NOTES_GAP_SECTORS) & same
    return ratio(int(np.count_nonzero(near)), int(np.count_nonzero(same)))


def next_fraction(stream: ReadStream) -> float | None:
    """The share of reads after the first of their file or disk that start where the one before ended there."""
    stream = stream.by_space()
    return ratio(int(np.count_nonzero(stream.follows)), int(np.count_nonzero(~begins(stream.space))))


def ratio(part: float, whole: float) -> float | None:
    """The part over the whole; None where there is no whole."""
    return part / whole if whole else None


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """Reads joined to runs: `run_start` is, for each read, the offset at which its run starts; `lengths` in bytes."""

    stream: ReadStream
    run_start: Integers
    lengths: Integers

    def sequential_fraction(self, readahead_bytes: int) -> float | None:
        """The sound rule: the share of bytes beyond the first readahead window of their run; None without reads.

        Args:
            readahead_bytes: the largest window of the kernel's readahead (read_ahead_kb); 0 where there is none.
        """
        total = self.stream.total_bytes
        if not total:
            return None
        in_first = self.stream.end - self.run_start <= readahead_bytes
        if self.stream.ahead is not None:
            in_first &= self.stream.ahead
        in_first |= self.stream.start == self.run_start
        return (total - int(self.stream.bytes[in_first].sum(dtype=np.int64))) / total

    @property
    def count(self) -> int:
        """How many runs there are."""
        return len(self.lengths)

    @property
    def mean_bytes(self) -> float | None:
        """Mean length of a run."""
        return self.stream.total_bytes / self.count if self.count else None

    @property
    def median_bytes(self) -> float | None:
        """Median length of a run, each run counting once."""
        return float(np.median(self.lengths)) if self.count else None

    @property
    def n50_bytes(self) -> int | None:
        """The length of which half of all bytes lie in runs at least as long: a median weighted by bytes (N50)."""
        if not self.count:
            return None
        longest_first: Integers = np.sort(self.lengths)[::-1]
        return int(longest_first[np.searchsorted(2 * np.cumsum(longest_first), self.stream.total_bytes)])


def find_runs(stream: ReadStream, by_completion: bool = False) -> Runs:
    """Join reads to runs, as the module's description says.

    Args:
        stream: reads in order of issue, or of completion where that is all that is known.
        by_completion: the latter; joins too what was completed in a slightly different order.
    """
    if not len(stream):
        return Runs(stream, stream.start, stream.start)
    first = np.flatnonzero(~stream.follows)
    place = (stream.space << _SPACE_BITS) + stream.start
    starts = place[first]
    ends = _last_of_each(place, first) + _last_of_each(stream.bytes, first)
    before, after = _link(starts, ends)
    if by_completion:
        _link_reordered(starts, ends, before, after)
        _unlink_backwards(before, after, np.diff(np.append(first, len(stream))))
    head = _heads(before)
    run_start = stream.start[first][head]
    tails = after < 0
    lengths = (_last_of_each(stream.end, first) - run_start)[tails]
    sizes = np.diff(np.append(first, len(stream)))
    return Runs(stream, np.repeat(run_start, sizes), lengths)


def _last_of_each(values: Integers, first: Integers) -> Integers:
    """The value of the last read of each burst."""
    last: Integers = values[np.append(first[1:], len(values)) - 1]
    return last


def _link(starts: Integers, ends: Integers) -> tuple[Places, Places]:
    """For each burst the one that it goes on from, and the one that goes on from it; -1 where there is none.

    The nearest pairs are linked first. That gives each burst the latest one that is free when its turn comes, as taking
    the bursts in order would: what ends and what starts at one place are matched like brackets.
    """
    before: Places = np.full(len(starts), -1, dtype=position_type(len(starts)))
    after = before.copy()
    for low in range(0, len(starts), _AT_ONCE):
        high = min(low + _AT_ONCE, len(starts))
        for back in range(1, min(STREAMS, high - 1) + 1):
            begin = max(low, back)
            later = begin + np.flatnonzero(starts[begin:high] == ends[begin - back : high - back])
            if len(later):
                later = later[(before[later] < 0) & (after[later - back] < 0)]
                before[later], after[later - back] = later - back, later
    return before, after


def _link_reordered(starts: Integers, ends: Integers, before: Places, after: Places) -> None:
    """Link, in place, bursts that nothing goes on from, or that go on from nothing, to ones that came after them.

    What ends and what starts at one place stand side by side when sorted.
    """
    heads, tails = np.flatnonzero(before < 0), np.flatnonzero(after < 0)
    number = np.concatenate((tails, heads))
    is_head = np.repeat(np.array([False, True]), (len(tails), len(heads)))
    place = np.where(is_head, starts[number], ends[number])
    order = np.lexsort((number, place))
    number, is_head, place = number[order], is_head[order], place[order]
    ahead = np.diff(number)
    found = (place[1:] == place[:-1]) & is_head[:-1] & ~is_head[1:] & (ahead <= STREAMS)
    before[number[:-1][found]], after[number[1:][found]] = number[1:][found], number[:-1][found]


def _unlink_backwards(before: Places, after: Places, sizes: Integers) -> None:
    """Take back, in place, the links to later bursts of runs that go back at most steps from read to read."""
    head = _heads(before)
    reordered = before > np.arange(len(before))
    steps = sums(head, sizes, len(before))
    backwards = np.bincount(head[reordered], minlength=len(before))
    wrong = reordered & (2 * backwards > steps - 1)[head]
    after[before[wrong]] = -1
    before[wrong] = -1


def _heads(before: Places) -> Places:
    """The first burst of each burst's run, by following links two, four, eight … steps at a time."""
    head = np.where(before < 0, np.arange(len(before), dtype=before.dtype), before)
    moving = np.flatnonzero(before >= 0).astype(before.dtype)
    while len(moving):
        here = head[moving]
        further = head[here]
        changed = further != here
        head[moving] = further
        moving = moving[changed]
    return head


# --- sizes and gaps ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """How many values lie from `low` up to, not including, `high`, and what they sum up to."""

    low: int
    high: int
    count: int
    total: int


def histogram(values: Integers) -> list[Bin]:
    """Count positive whole numbers by powers of two: bins from 2^k to 2^(k+1), without the empty ones."""
    exponents = np.frexp(values.astype(np.float64))[1] - 1  # exact below 2^53
    counts = np.bincount(exponents) if len(values) else np.zeros(0, dtype=np.int64)
    totals = sums(exponents, values, len(counts))
    return [
        Bin(1 << power, 1 << (power + 1), int(counts[power]), int(totals[power]))
        for power in np.flatnonzero(counts).tolist()
    ]


@dataclass(frozen=True)
class Gaps:
    """From the end of each read to the start of the next of the same file or disk, in bytes.

    `adjacent` have no gap, `forward` leap over bytes, `backward` go back; the latter two by the length of the leap. The
    fractions are shares of all gaps, None without any.
    """

    count: int
    adjacent: int
    forward: list[Bin]
    backward: list[Bin]
    forward_fraction: float | None
    backward_fraction: float | None


def find_gaps(stream: ReadStream) -> Gaps:
    """The gaps between neighbours of a stream, each file or disk for itself."""
    stream = stream.by_space()
    gaps = (stream.start[1:] - stream.end[:-1])[~begins(stream.space)[1:]]
    forward, backward = gaps[gaps > 0], -gaps[gaps < 0]
    count, adjacent = len(gaps), len(gaps) - len(forward) - len(backward)
    shares = ratio(len(forward), count), ratio(len(backward), count)
    return Gaps(count, adjacent, histogram(forward), histogram(backward), *shares)
