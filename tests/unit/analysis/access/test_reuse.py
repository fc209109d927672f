"""Reuse distances and miss ratios on streams whose answers are known, and against a plain LRU stack."""

import numpy as np
import pytest
from example_trace import stream_of
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.access.model_reads import ModelReads
from pagelab.analysis.access.reuse import BLOCK_BYTES, MissCurve, block_accesses, miss_curve, reuse_of, stack_distances
from pagelab.units import MIB


def misses_at(curve: MissCurve, blocks: int) -> int:
    """The misses of a cache with room for so many blocks."""
    return int(curve.misses[np.searchsorted(curve.blocks, blocks, side="right") - 1])


def distances(*accesses: int) -> list[int]:
    return stack_distances(np.array(accesses, dtype=np.int64)).tolist()


def plain_stack(accesses: list[int]) -> list[int]:
    """Mattson's stack itself: the place of each block, counted from the most recent one."""
    stack: list[int] = []
    found = []
    for block in accesses:
        found.append(len(stack) - stack.index(block) if block in stack else 0)
        if block in stack:
            stack.remove(block)
        stack.append(block)
    return found


def plain_misses(accesses: list[int], room: int) -> int:
    """A cache that evicts the least recently used block."""
    cache: list[int] = []
    misses = 0
    for block in accesses:
        if block in cache:
            cache.remove(block)
        else:
            misses += 1
        cache = [*cache, block][-room:] if room else []
    return misses


def reads_of(reads: list[tuple[int, int, int]]) -> ModelReads:
    stream = stream_of(reads)
    moments = np.arange(len(stream))
    return ModelReads("block", "issue", moments, moments, stream, stream.bytes)


class TestDistances:
    def test_by_hand(self) -> None:
        assert distances(1, 2, 3, 1, 1, 3, 2) == [0, 0, 0, 3, 1, 2, 3]

    def test_nothing_and_one(self) -> None:
        assert distances() == []
        assert distances(7) == [0]

    @given(st.lists(st.integers(0, 12), max_size=80))
    def test_against_a_stack(self, accesses: list[int]) -> None:
        assert distances(*accesses) == plain_stack(accesses)

    @given(st.lists(st.integers(-(2**40), 2**40), max_size=30))
    def test_any_numbers(self, accesses: list[int]) -> None:
        assert distances(*accesses, *accesses) == plain_stack(accesses * 2)


class TestMissCurve:
    def test_a_cyclic_scan_misses_until_the_whole_loop_fits(self) -> None:
        curve = miss_curve(np.tile(np.arange(100), 10))
        assert [misses_at(curve, room) for room in (0, 1, 50, 99, 100, 1000)] == [1000, 1000, 1000, 1000, 100, 100]
        assert curve.cold == 100

    def test_the_same_half_twice(self) -> None:
        """Two passes over half of the blocks, and one over the other half between two of them."""
        half, other = np.arange(50), np.arange(50, 100)
        curve = miss_curve(np.concatenate((half, half, other, half)))
        assert [misses_at(curve, room) for room in (49, 50, 99, 100)] == [200, 150, 150, 100]

    def test_uniformly_random_accesses(self) -> None:
        """With N blocks and room for C an access misses with 1 - C/N."""
        accesses = np.random.default_rng(1).integers(0, 1000, 200_000)
        curve = miss_curve(accesses)
        for room in (100, 500, 900):
            ratio = (misses_at(curve, room) - curve.cold) / (curve.accesses - curve.cold)
            assert ratio == pytest.approx(1 - room / 1000, abs=0.01)

    @given(st.lists(st.integers(0, 8), max_size=60), st.integers(0, 10))
    def test_against_a_cache(self, accesses: list[int], room: int) -> None:
        curve = miss_curve(np.array(accesses, dtype=np.int64))
        assert misses_at(curve, room) == plain_misses(accesses, room)

    @given(st.lists(st.integers(0, 8), max_size=60))
    def test_more_room_never_misses_more(self, accesses: list[int]) -> None:
        curve = miss_curve(np.array(accesses, dtype=np.int64))
        assert np.all(np.diff(curve.misses) < 0)
        assert curve.misses[-1] == curve.cold == len(set(accesses))


class TestBlocks:
    def test_a_read_touches_every_block_it_has_a_byte_of(self) -> None:
        stream = stream_of([(0, 60, 50), (0, 100, 100), (0, 0, 1)])
        assert block_accesses(stream, 100).tolist() == [0, 1, 0]

    def test_pages_of_one_block_are_one_access(self) -> None:
        stream = stream_of([(0, place * 4096, 4096) for place in range(64)])
        assert block_accesses(stream, BLOCK_BYTES).tolist() == [0, 1, 2, 3]

    def test_parts_of_a_model_do_not_share_blocks(self) -> None:
        stream = stream_of([(0, 0, 100), (1, 0, 100), (0, 100, 100), (1, 100, 100)])
        assert len(set(block_accesses(stream, 100).tolist())) == 4


class TestTable:
    def test_two_passes(self) -> None:
        reads = [(0, place * MIB, MIB) for place in range(8)] * 2
        facts, table = reuse_of(reads_of(reads))
        assert facts == {
            "block_bytes": BLOCK_BYTES,
            "accesses": 256,
            "first_accesses": 128,
            "median_reuse_bytes": 8 * MIB,
        }
        assert table.to_pydict() == {
            "cache_bytes": [0, 8 * MIB],
            "misses": [256, 128],
            "miss_ratio": [1.0, 0.5],
            "reuse_miss_ratio": [1.0, 0.0],
        }

    def test_one_pass_has_no_reuse(self) -> None:
        facts, table = reuse_of(reads_of([(0, 0, MIB)]))
        assert "median_reuse_bytes" not in facts
        assert table["reuse_miss_ratio"].to_pylist() == [None]

    def test_nothing(self) -> None:
        facts, table = reuse_of(reads_of([]))
        assert facts == {}
        assert (table.num_rows, table.schema) == (0, reuse_of(None)[1].schema)

    def test_many_sizes_are_thinned_and_the_ends_stay(self) -> None:
        accesses = np.random.default_rng(2).integers(0, 3000, 20_000)
        _, table = reuse_of(reads_of([(0, int(block) * BLOCK_BYTES, BLOCK_BYTES) for block in accesses]))
        assert table.num_rows == 1024
        ratios = table["miss_ratio"].to_pylist()
        assert ratios == sorted(ratios, reverse=True)
        assert table["cache_bytes"].to_pylist()[0] == 0
        assert table["reuse_miss_ratio"].to_pylist()[-1] == 0.0

    def test_larger_blocks_where_there_are_too_many_accesses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pagelab.analysis.access.reuse.MOST_ACCESSES", 40)
        facts, table = reuse_of(reads_of([(0, place * MIB, MIB) for place in range(8)] * 2))
        assert facts["block_bytes"] == MIB
        assert table["cache_bytes"].to_pylist() == [0, 8 * MIB]
