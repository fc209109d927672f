"""Sets of bytes: ranges joined where they overlap, and how many bytes they cover."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_NUMBER_BITS = 63


@dataclass(frozen=True)
class Ranges:
    """Ranges of bytes in numbered groups (a part of the model, a token): `start` belongs to a range, `end` does not."""

    group: Numbers
    start: Numbers
    end: Numbers

    @property
    def bytes(self) -> Numbers:
        """The length of each range."""
        return self.end - self.start

    @property
    def total_bytes(self) -> int:
        """The lengths of all ranges together."""
        return int(self.bytes.sum(dtype=np.int64))


def union(group: Numbers, start: Numbers, end: Numbers) -> Ranges:
    """Join ranges of one group that overlap or touch.

    Args:
        group: number of each range's group, from 0.
        start, end: ranges of any order; those without a byte are left out.

    Returns:
        Disjoint ranges by group and start, which cover the same bytes.
    """
    kept = end > start
    if not kept.all():
        group, start, end = group[kept], start[kept], end[kept]
    if not len(start):
        return Ranges(group, start, end)
    span = int(end.max()) + 1  # one line for all groups, with a place between them that no range holds
    starts, ends = _by_start(group * span + start, end - start)
    first = np.ones(len(starts), dtype=np.bool_)
    first[1:] = starts[1:] > ends[:-1]
    begins, reach = starts[first], ends[np.append(first[1:], True)]
    group = begins // span
    return Ranges(group, begins - group * span, reach - group * span)


def _by_start(start: Numbers, length: Numbers) -> tuple[Numbers, Numbers]:
    """The starts in their order, and how far the ranges up to each reach.

    Start and length go into one number where they fit: two columns sorted at once, in the time of one. The stable sort
    is the one that gains from order, and most reads are in order, since readahead makes them.
    """
    bits = int(length.max()).bit_length()
    if int(start.max()).bit_length() + bits > _NUMBER_BITS:
        # A gap is where as many ranges have ended as have begun; which end is which range's does not matter for that.
        return np.sort(start, kind="stable"), np.sort(start + length, kind="stable")
    both = np.sort(start << bits | length, kind="stable")
    start = both >> bits
    return start, np.maximum.accumulate(start + (both & ((1 << bits) - 1)))


def covered_bytes(group: Numbers, start: Numbers, end: Numbers, groups: int) -> Numbers:
    """How many different bytes the ranges of each group cover, for groups 0 to `groups` - 1."""
    joined = union(group, start, end)
    return sums(joined.group, joined.bytes, groups)


def shared_bytes(one: Ranges, other: Ranges, groups: int) -> Numbers:
    """How many different bytes ranges of one set and of another both cover, for groups 0 to `groups` - 1."""
    group, start, end = (
        np.concatenate((getattr(one, name), getattr(other, name))) for name in ("group", "start", "end")
    )
    alone = sum(covered_bytes(some.group, some.start, some.end, groups) for some in (one, other))
    common: Numbers = alone - covered_bytes(group, start, end, groups)
    return common


def sums(group: Numbers, values: Numbers, groups: int) -> Numbers:
    """The sum of the values of each group, in whole numbers."""
    totals = np.zeros(groups, dtype=np.int64)
    np.add.at(totals, group, values)
    return totals
