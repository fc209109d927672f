"""How soon weights are read again, and what a cache of a given size with LRU eviction would have had to read.

The stack distance of an access is the number of different blocks that were accessed since the last access to the same
one, this block included (R. L. Mattson and others, "Evaluation techniques for storage hierarchies", IBM Systems
Journal 9(2), 1970). A cache with room for C blocks that evicts the least recently used one holds the block of an access
exactly if its distance is at most C, so one pass gives the misses of every size. First accesses miss in every cache.
What the curve says, and what not: docs/access.md.

The stream: reads in order, cut into blocks of `block_bytes`; what reads touch one block one directly after the other
are one access, since requests and pages end anywhere in a block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pagelab.analysis.access.model_reads import ModelReads
from pagelab.analysis.access.order import ReadStream
from pagelab.traces.arrays import Integers, Mask, begins, counted_from, group_count, position_type
from pagelab.units import KIB

BLOCK_BYTES = 64 * KIB
MOST_ACCESSES = 8_000_000  # blocks are doubled in size until there are no more: bounds time and memory
MOST_POINTS = 1024
_SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ("cache_bytes", "misses")]
    + [(name, pa.float64()) for name in ("miss_ratio", "reuse_miss_ratio")]
)
FIRST = 0  # a distance that no access has: there was none before it


@dataclass(frozen=True)
class MissCurve:
    """Misses of an LRU cache by its size: with room for `blocks[i]` blocks `misses[i]` of the accesses miss.

    `blocks` ascends from 0; between two sizes the misses are those of the smaller one. `accesses` are all of them,
    `cold` those that were the first to their block.
    """

    blocks: Integers
    misses: Integers
    accesses: int
    cold: int


def stack_distances(accesses: Integers) -> Integers:
    """The stack distance of each access, 0 for the first access to a block.

    Args:
        accesses: numbers of the accessed blocks, in order; any whole numbers.

    With p(i) the last access before i to the same block, the different blocks accessed between the two are those j in
    between with p(j) < p(i), whose number is #{j < i: p(j) < p(i)} - (p(i) + 1), because every j up to p(i) has p(j) <
    p(i). The count of earlier smaller values is taken for all i at once, bit by bit (`_smaller_before`).
    """
    previous = _previous(accesses)
    again = previous >= 0
    rank = _ranks(previous, again)
    distance = _smaller_before(rank) - previous
    distance[~again] = FIRST
    return distance


def _previous(accesses: Integers) -> Integers:
    """The position of the last access to the same block before each access, -1 where there is none."""
    previous = np.full(len(accesses), -1, dtype=np.int64)
    order = np.argsort(accesses, kind="stable")
    same = accesses[order[1:]] == accesses[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _ranks(previous: Integers, again: Mask) -> Integers:
    """Each access's place if all were sorted by `previous`: a permutation, those without one first and in order."""
    cold = int(np.count_nonzero(~again))
    is_previous = np.zeros(len(previous), dtype=np.bool_)
    is_previous[previous[again]] = True
    place = np.cumsum(is_previous) - 1
    rank = np.empty(len(previous), dtype=np.int64)
    rank[again] = cold + place[previous[again]]
    rank[~again] = np.arange(cold)
    return rank


def _smaller_before(values: Integers) -> Integers:
    """For each entry of a permutation of 0 … n - 1, how many entries before it are smaller.

    The entries are sorted by their upper bits, stably, one more bit in each pass, as in a wavelet tree. All entries
    that share the bits so far stand together, in their first order, from the place that is their common bits followed
    by zeros. An entry whose next bit is 1 gains those of its group that stand before it and have a 0 there.
    """
    count = len(values)
    kind = position_type(count)
    found: NDArray[np.signedinteger] = np.zeros(count, dtype=kind)
    current: NDArray[np.signedinteger] = values.astype(kind)  # the entries in their order so far
    zeros: NDArray[np.signedinteger] = np.zeros(count + 1, dtype=kind)
    for bit in range(max(count - 1, 0).bit_length() - 1, -1, -1):
        ones = (current >> bit & 1).astype(np.bool_)
        np.cumsum(~ones, out=zeros[1:])
        group = current >> (bit + 1) << (bit + 1)
        before = zeros[:-1] - zeros[group]
        found[current[ones]] += before[ones]
        place = group + before
        place[ones] = np.flatnonzero(ones) + zeros[np.minimum(group[ones] + (2 << bit), count)] - zeros[:-1][ones]
        current[place] = current.copy()
    return found[values].astype(np.int64)


def miss_curve(accesses: Integers) -> MissCurve:
    """The misses of an LRU cache of every size at which they change."""
    distances = stack_distances(accesses)
    at = np.bincount(distances) if len(distances) else np.zeros(1, dtype=np.int64)
    cold = int(at[FIRST])
    at[FIRST] = 0
    misses = len(accesses) - np.cumsum(at)
    changes = np.flatnonzero(np.append(True, np.diff(misses) != 0))
    return MissCurve(changes, misses[changes], len(accesses), cold)


def block_accesses(stream: ReadStream, block_bytes: int) -> Integers:
    """The blocks that reads touch, in order; one after the other to the same block is one access."""
    first, last = stream.start // block_bytes, (stream.end - 1) // block_bytes
    _, blocks = counted_from(first + stream.space * group_count(last), last - first + 1)
    return blocks[begins(blocks)]


def reuse_of(reads: ModelReads | None) -> tuple[dict[str, Any], pa.Table]:
    """The reuse of a window's reads.

    Returns:
        Facts for access.json (`block_bytes`, `accesses`, `first_accesses`, `median_reuse_bytes`; empty without reads)
        and the table reuse.parquet: `cache_bytes` from 0 on, `misses`, `miss_ratio` (over all accesses) and
        `reuse_miss_ratio` (over accesses to blocks that had been accessed before; null without any). Above 1024 sizes
        the table keeps so many, evenly spread.
    """
    if reads is None or not len(reads):
        return {}, _SCHEMA.empty_table()
    stream = reads.ordered()
    size = _block_bytes(stream)
    curve = _thinned(miss_curve(block_accesses(stream, size)))
    again = curve.accesses - curve.cold
    warm = pa.array((curve.misses - curve.cold) / again) if again else pa.nulls(len(curve.misses), pa.float64())
    columns = (curve.blocks * size, curve.misses, curve.misses / curve.accesses, warm)
    facts = {"block_bytes": size, "accesses": curve.accesses, "first_accesses": curve.cold}
    if again:
        half = np.flatnonzero(2 * (curve.misses - curve.cold) <= again)[0]
        facts["median_reuse_bytes"] = int(curve.blocks[half]) * size
    return facts, pa.table([pa.array(values) for values in columns], schema=_SCHEMA)


def _block_bytes(stream: ReadStream) -> int:
    """The size of a block: the usual one, or doubled until there are not too many accesses."""
    size = BLOCK_BYTES
    while stream.total_bytes // size + len(stream) > MOST_ACCESSES and size < stream.total_bytes:
        size *= 2
    return size


def _thinned(curve: MissCurve) -> MissCurve:
    if len(curve.blocks) <= MOST_POINTS:
        return curve
    kept = np.arange(MOST_POINTS) * (len(curve.blocks) - 1) // (MOST_POINTS - 1)
    return MissCurve(curve.blocks[kept], curve.misses[kept], curve.accesses, curve.cold)
