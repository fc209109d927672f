"""How many reads are under way, against counting at every moment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagelab.analysis.access import device_queue
from pagelab.analysis.access.device_queue import depth_facts
from pagelab.analysis.access.spans import EVERYTHING, Span
from pagelab.analysis.access.trace_tables import BlockReads

READS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=30)


def reads(pairs: list[tuple[int, int]]) -> BlockReads:
    """Reads of (issued, time under way), by time of completion."""
    ends = sorted((issued + length, issued) for issued, length in pairs)
    issued, end = (np.array([pair[at] for pair in ends], dtype=np.int64) for at in (1, 0))
    nothing: NDArray[np.int64] = np.zeros(len(ends), dtype=np.int64)
    return BlockReads(end, issued, *(nothing for _ in range(7)), nothing != 0)


@pytest.mark.parametrize("at_once", [1, 3, 1 << 16])
@given(READS, st.one_of(st.none(), st.tuples(st.integers(0, 80), st.integers(1, 80))))
def test_depth_is_what_counting_at_every_moment_gives(
    at_once: int, pairs: list[tuple[int, int]], window: tuple[int, int] | None
) -> None:
    first, last = min(issued for issued, _ in pairs), max(sum(pair) for pair in pairs)
    begin, end = (first, last) if window is None else (window[0], sum(window))
    depths = [sum(issued <= now < issued + length for issued, length in pairs) for now in range(begin, end)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_queue, "_AT_ONCE", at_once)
        found = depth_facts(reads(pairs), EVERYTHING if window is None else Span(begin, end))
    if not depths:
        assert found == {}
        return
    assert found["queue_depth_mean"] == sum(depths) / len(depths)
    busy = sorted(filter(None, depths))
    assert found["busy_fraction"] == len(busy) / len(depths)
    assert found.get("queue_depth_max") == (busy[-1] if busy else None)
    for percent in (50, 90, 99):
        rank = -(-percent * len(busy) // 100) - 1
        assert found.get(f"queue_depth_p{percent}") == (busy[rank] if busy else None)
