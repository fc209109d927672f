"""What a page fault mapped: more than its page where the page cache holds the file in large folios.

A fault that finds its page in the page cache maps up to 16 pages around it (filemap_map_pages in mm/filemap.c), or the
whole folio where that is as large as an entry of the page middle directory (filemap_map_pmd); one that had to wait for
the page maps as much of its folio as it can (finish_fault in mm/memory.c, since Linux 6.18; before, one page). The
events tell the first page and no folio; its size is known from when it entered the page cache. Not every folio that
was mapped at once has an event, so what was mapped is a lower bound where folios are large.
"""

from dataclasses import replace

import numpy as np

from pagelab.analysis.access.trace_tables import PageEvents
from pagelab.traces.arrays import Integers, begins
from pagelab.traces.events import ADD, FAULT, MAP

PMD_BYTES = 2 << 20  # x86-64, and 64-bit Arm with pages of 4 KiB


def with_whole_folios(pages: PageEvents) -> PageEvents:
    """The same events, those of mapping extended to the folio that they fell into.

    A folio is the last one that entered the page cache at the nearest place at or before the event's; sizes that
    changed while recording are taken as they were last.
    """
    start, size = _folios(pages)
    if not len(start):
        return pages
    place = _line(pages)
    nearest = np.maximum(np.searchsorted(start, place, side="right") - 1, 0)
    inside = (start[nearest] <= place) & (place < start[nearest] + size[nearest])
    whole = (pages.event == FAULT) | ((pages.event == MAP) & (size[nearest] >= PMD_BYTES))
    extended = inside & whole & (size[nearest] > pages.bytes)
    begin = start[nearest] - (place - pages.offset)  # back from the line of all parts to the file's own offsets
    return replace(
        pages,
        offset=np.where(extended, begin, pages.offset),
        bytes=np.where(extended, size[nearest], pages.bytes),
    )


def _line(pages: PageEvents) -> Integers:
    """Offsets of all parts on one line, the parts one after the other."""
    span = int((pages.offset + pages.bytes).max(initial=0)) + PMD_BYTES
    return pages.part * span + pages.offset


def _folios(pages: PageEvents) -> tuple[Integers, Integers]:
    """Where folios began and how large they were last, by place."""
    added = np.flatnonzero(pages.event == ADD)[::-1]  # the latest first: events are in the order of time
    added = added[np.argsort(_line(pages)[added], kind="stable")]
    place, size = _line(pages)[added], pages.bytes[added]
    latest = begins(place)
    return place[latest], size[latest]
