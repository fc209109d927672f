"""A fault in a large folio maps more than its page."""

import numpy as np

from pagelab.analysis.access.folios import PMD_BYTES, with_whole_folios
from pagelab.analysis.access.trace_tables import PageEvents
from pagelab.traces.events import ADD, FAULT, MAP

PAGE = 4096
AROUND = 16 * PAGE


def events(*rows: tuple[int, int, int, int]) -> PageEvents:
    """Rows of (event, part, offset, bytes), in the order of time."""
    event, part, offset, size = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return PageEvents(np.arange(len(rows), dtype=np.int64), event, part, offset, size)


def mapped(pages: PageEvents) -> list[tuple[int, int]]:
    found = with_whole_folios(pages)
    return [(int(offset), int(size)) for offset, size in zip(found.offset, found.bytes, strict=True)]


def test_a_fault_maps_the_folio_that_it_fell_into() -> None:
    folio = (ADD, 0, 4 * PAGE, 4 * PAGE)
    assert mapped(events(folio, (FAULT, 0, 6 * PAGE, PAGE)))[1] == (4 * PAGE, 4 * PAGE)
    assert mapped(events(folio, (FAULT, 0, 8 * PAGE, PAGE)))[1] == (8 * PAGE, PAGE), "the page behind it"


def test_mapping_around_a_fault_stays_within_small_folios() -> None:
    small = events((ADD, 0, 0, 64 * PAGE), (MAP, 0, 16 * PAGE, AROUND))
    assert mapped(small)[1] == (16 * PAGE, AROUND)
    large = events((ADD, 0, 0, PMD_BYTES), (MAP, 0, 16 * PAGE, AROUND))
    assert mapped(large)[1] == (0, PMD_BYTES)


def test_parts_of_a_model_are_told_apart() -> None:
    found = mapped(events((ADD, 0, 0, PMD_BYTES), (ADD, 1, 0, PAGE), (FAULT, 1, 0, PAGE), (FAULT, 0, PAGE, PAGE)))
    assert found[2:] == [(0, PAGE), (0, PMD_BYTES)]


def test_a_size_that_changed_is_taken_as_it_was_last() -> None:
    assert mapped(events((ADD, 0, 0, PMD_BYTES), (ADD, 0, 0, 2 * PAGE), (FAULT, 0, PAGE, PAGE)))[2] == (0, 2 * PAGE)


def test_without_pages_that_entered_nothing_is_extended() -> None:
    assert mapped(events((FAULT, 0, PAGE, PAGE))) == [(PAGE, PAGE)]
