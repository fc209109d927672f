"""What caches of a given size would have missed, had they decided otherwise what stays: by a trial's own accesses.

Three ways: the best possible one, which drops what is used again last (L. A. Belady, IBM Systems Journal 5(2), 1966);
a block drawn at random; and the least recently used one.
"""

import heapq
import random
from typing import Literal

import numpy as np

from pagelab.analysis.access.reuse import FIRST, stack_distances
from pagelab.traces.arrays import Integers

Policy = Literal["best", "random", "lru"]
POLICIES: tuple[Policy, ...] = ("best", "random", "lru")
_SEED = 1


def misses(accesses: Integers, capacity_blocks: int, policy: Policy) -> Integers:
    """Whether each access misses (1) or not (0), in a cache that is empty at first.

    Args:
        accesses: numbers of the accessed blocks, in order.
        capacity_blocks: how many blocks there is room for.
        policy: how the block is chosen that makes room.
    """
    if capacity_blocks <= 0:
        return np.ones(len(accesses), dtype=np.int64)
    if policy == "lru":
        distances = stack_distances(accesses)
        return np.where((distances == FIRST) | (distances > capacity_blocks), 1, 0)
    simulate = _best if policy == "best" else _random
    return np.array(simulate(accesses.tolist(), capacity_blocks), dtype=np.int64)


def _next_uses(accesses: list[int]) -> list[int]:
    """For each access, when its block is accessed again; the number of accesses where it never is."""
    after, following = [0] * len(accesses), dict[int, int]()
    for index in range(len(accesses) - 1, -1, -1):
        after[index] = following.get(accesses[index], len(accesses))
        following[accesses[index]] = index
    return after


def _best(accesses: list[int], capacity: int) -> list[int]:
    """A block that is used again later than all that are kept is not kept at all."""
    after, found = _next_uses(accesses), []
    next_use: dict[int, int] = {}  # of the blocks that are kept
    latest: list[tuple[int, int]] = []  # with the latest first; holds entries of the past, too
    for index, block in enumerate(accesses):
        found.append(int(block not in next_use))
        next_use[block] = after[index]
        heapq.heappush(latest, (-after[index], block))
        if len(next_use) > capacity:
            while next_use.get(latest[0][1]) != -latest[0][0]:
                heapq.heappop(latest)
            del next_use[heapq.heappop(latest)[1]]
    return found


def _random(accesses: list[int], capacity: int) -> list[int]:
    draw, found = random.Random(_SEED), []  # noqa: S311 - a simulation that can be repeated, no secret
    kept: list[int] = []
    place: dict[int, int] = {}
    for block in accesses:
        found.append(int(block not in place))
        if block in place:
            continue
        if len(kept) < capacity:
            place[block] = len(kept)
            kept.append(block)
            continue
        victim = draw.randrange(capacity)
        del place[kept[victim]]
        kept[victim], place[block] = block, victim
    return found
