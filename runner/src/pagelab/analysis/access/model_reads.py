"""What was read of the model's files, by requests of the disk or by pages that entered the page cache."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pagelab.analysis.access.order import ReadStream
from pagelab.analysis.access.trace_tables import BlockReads, PageEvents, TimedRows
from pagelab.traces.arrays import Integers, begins
from pagelab.traces.events import ADD

ReadSource = Literal["block", "page_cache"]
Order = Literal["issue", "completion", "page_cache"]


@dataclass(frozen=True)
class ModelReads(TimedRows):
    """Reads of the model's files by time; arrays of one length.

    `source` says what a read is. `block`: a request that brought bytes of the model; `time_ns` is its completion and
    `request_bytes` all of it. `page_cache`: pages that entered the cache one after the other, joined as the description
    of `joined_pages` says; `time_ns` is when the first one did. `moment_ns` is what the order of reads goes by.

    `stream.space` is the part of the model, `stream.start` the offset in it, `stream.bytes` counts the model's bytes.
    """

    source: ReadSource
    order: Order
    moment_ns: Integers
    stream: ReadStream
    request_bytes: Integers

    def ordered(self) -> ReadStream:
        """The reads in the order that they are judged in."""
        if not np.any(self.moment_ns[1:] < self.moment_ns[:-1]):
            return self.stream
        return self.stream.taken(np.argsort(self.moment_ns, kind="stable"))


def of_requests(reads: BlockReads) -> ModelReads:
    """The requests that brought bytes of the model."""
    kept = reads.taken(reads.model_bytes > 0)
    return ModelReads(
        kept.time_ns,
        "block",
        "issue" if reads.in_order_of_issue else "completion",
        kept.moments(),
        ReadStream(kept.part, kept.offset, kept.model_bytes, kept.ahead),
        kept.bytes,
    )


def joined_pages(events: PageEvents, readahead_bytes: int, bounds_ns: Integers) -> ModelReads:
    """Reads as the page cache saw them: pages that entered it one after the other, each where the last one ended.

    They are cut apart after every `readahead_bytes`, as readahead would read them, and where a window or a token begins
    (`bounds_ns`). Two requests that follow each other within that are one read here.
    """
    adds = events.taken(events.event == ADD)
    pages = ReadStream(adds.part, adds.offset, adds.bytes)
    if not len(pages):
        return ModelReads(adds.time_ns, "page_cache", "page_cache", adds.time_ns, pages, adds.bytes)
    apart = ~pages.follows | begins(np.searchsorted(bounds_ns, adds.time_ns, side="right"))
    first = np.flatnonzero(apart)
    sizes = np.diff(np.append(first, len(pages)))
    window = (pages.start - np.repeat(pages.start[first], sizes)) // max(readahead_bytes, 1)
    first = np.flatnonzero(apart | begins(window))
    last = np.append(first[1:], len(pages)) - 1
    joined = ReadStream(pages.space[first], pages.start[first], pages.end[last] - pages.start[first])
    return ModelReads(adds.time_ns[first], "page_cache", "page_cache", adds.time_ns[first], joined, joined.bytes)
