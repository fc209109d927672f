"""Caches that decide differently what stays: known sequences, and that nothing is better than the best."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.access.replacement import Policy, misses
from pagelab.analysis.access.reuse import miss_curve
from pagelab.analysis.bound import cyclic_random_miss_fraction

# Of the textbooks (Silberschatz and others, Operating System Concepts, page replacement, the first 13 references), with
# room for 3: 9 misses by LRU, and 7 at best where what was read has to be kept. Here it need not be: 4 is used once.
TEXTBOOK = np.array([7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2])
STREAMS = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(np.array)


def count(accesses: np.ndarray, capacity: int, policy: Policy) -> int:
    return int(misses(accesses, capacity, policy).sum())


def test_a_sequence_from_the_textbook() -> None:
    assert count(TEXTBOOK, 3, "best") == 6
    assert count(TEXTBOOK, 3, "lru") == 9


@given(STREAMS, st.integers(1, 12))
def test_lru_is_what_stack_distances_say(accesses: np.ndarray, capacity: int) -> None:
    curve = miss_curve(accesses)
    at = int(np.searchsorted(curve.blocks, capacity, side="right")) - 1
    assert count(accesses, capacity, "lru") == curve.misses[at]


@given(STREAMS, st.integers(1, 12))
def test_nothing_is_better_than_the_best(accesses: np.ndarray, capacity: int) -> None:
    best = count(accesses, capacity, "best")
    assert len(np.unique(accesses)) <= best <= min(count(accesses, capacity, one) for one in ("random", "lru"))


@given(STREAMS)
def test_with_room_for_all_only_first_accesses_miss(accesses: np.ndarray) -> None:
    assert {count(accesses, 10, policy) for policy in ("best", "random", "lru")} == {len(np.unique(accesses))}


def test_without_room_all_miss() -> None:
    assert misses(TEXTBOOK, 0, "best").tolist() == [1] * len(TEXTBOOK)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
def test_turns_are_missed_as_the_formulas_say(share: float) -> None:
    blocks, turns = 400, 40
    accesses = np.tile(np.arange(blocks), turns)
    seen = {
        policy: misses(accesses, round(share * blocks), policy)[10 * blocks :].mean()
        for policy in ("best", "random", "lru")
    }
    assert seen["lru"] == 1
    assert seen["random"] == pytest.approx(cyclic_random_miss_fraction(share), abs=0.02)
    assert seen["best"] == pytest.approx(1 - share, abs=0.01)
