"""Sets of bytes: ranges joined where they overlap, and how many bytes they cover."""

from dataclasses import dataclass

import numpy as np

from pagelab.traces.arrays import Integers, Rows, sorted_pairs, sums


@dataclass(frozen=True)
class Ranges(Rows):
    """Ranges of bytes in numbered groups (a part of the model, a token): `start` belongs to a range, `end` does not."""

    group: Integers
    start: Integers
    end: Integers

    @property
    def bytes(self) -> Integers:
        """The length of each range."""
        return self.end - self.start

    @property
    def total_bytes(self) -> int:
        """The lengths of all ranges together."""
        return int(self.bytes.sum(dtype=np.int64))


def union(group: Integers, start: Integers, end: Integers) -> Ranges:
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
    starts, lengths = sorted_pairs(group * span + start, end - start)
    ends = np.maximum.accumulate(starts + lengths)  # how far the ranges up to each reach
    first = np.append(True, starts[1:] > ends[:-1])
    begin, reach = starts[first], ends[np.append(first[1:], True)]
    group = begin // span
    return Ranges(group, begin - group * span, reach - group * span)


def covered_bytes(group: Integers, start: Integers, end: Integers, groups: int) -> Integers:
    """How many different bytes the ranges of each group cover, for groups 0 to `groups` - 1."""
    joined = union(group, start, end)
    return sums(joined.group, joined.bytes, groups)


def shared_bytes(one: Ranges, other: Ranges, groups: int) -> Integers:
    """How many different bytes ranges of one set and of another both cover, for groups 0 to `groups` - 1."""
    group, start, end = (
        np.concatenate((getattr(one, name), getattr(other, name))) for name in ("group", "start", "end")
    )
    alone = sum(covered_bytes(some.group, some.start, some.end, groups) for some in (one, other))
    common: Integers = alone - covered_bytes(group, start, end, groups)
    return common
