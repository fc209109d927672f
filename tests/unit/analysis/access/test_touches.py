"""Which blocks each token touched."""

import numpy as np

from pagelab.analysis.access.spans import spans_of
from pagelab.analysis.access.touches import BLOCK_BYTES, touches_of
from pagelab.analysis.access.trace_tables import PageEvents
from pagelab.traces.events import ADD, FAULT, MAP

SECOND = 10**9


def events(*rows: tuple[float, int, int, int, int]) -> PageEvents:
    """Of (seconds, event, part, block, blocks)."""
    columns = [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]
    seconds, event, part, block, count = columns
    whole = [event, part, block * BLOCK_BYTES, count * BLOCK_BYTES]
    return PageEvents((seconds * SECOND).astype(np.int64), *(one.astype(np.int64) for one in whole))


def test_each_block_counts_once_a_token() -> None:
    pages = events(
        (0.5, FAULT, 0, 7, 1),  # of the prompt
        (1.1, FAULT, 0, 2, 2),
        (1.2, MAP, 0, 3, 1),  # again
        (1.3, ADD, 0, 9, 1),  # read, and not touched
        (1.4, FAULT, 1, 2, 1),  # the same place in another part
        (2.1, FAULT, 0, 2, 1),
    )
    found = touches_of(pages, spans_of(0.2, [1.0, 2.0, 3.0]))
    assert found.block_bytes == BLOCK_BYTES
    assert found.ends.tolist() == [3, 4]
    first, second, other_part, again = found.blocks.tolist()
    assert second == first + 1
    assert again == first
    assert other_part not in (first, second)
    assert found.bytes_per_token == 2 * BLOCK_BYTES


def test_a_block_of_another_part_is_the_same_one_for_every_token() -> None:
    pages = events((1.1, FAULT, 1, 2, 1), (1.2, FAULT, 0, 900, 1), (2.1, FAULT, 1, 2, 1))
    first, _, again = touches_of(pages, spans_of(0.2, [1.0, 2.0, 3.0])).blocks.tolist()
    assert first == again, "also where the tokens touched other places beside it"


def test_without_faults_nothing_was_touched() -> None:
    found = touches_of(events((1.5, ADD, 0, 1, 1)), spans_of(0.2, [1.0, 2.0]))
    assert found.ends.tolist() == [0]
    assert found.bytes_per_token == 0
