"""Which blocks of the model each token touched, by the page faults of a trial.

A page that stays mapped is touched without a fault, so the touches are complete only where next to nothing could stay:
in a trial with none of the weights in RAM. `TokenTouches.bytes_per_token` says how complete they are.
"""

from dataclasses import dataclass

import numpy as np

from pagelab.analysis.access.order import ReadStream
from pagelab.analysis.access.reuse import block_accesses
from pagelab.analysis.access.spans import Spans
from pagelab.analysis.access.trace_tables import PageEvents
from pagelab.traces.arrays import Integers
from pagelab.traces.events import FAULT, MAP
from pagelab.units import KIB

BLOCK_BYTES = 64 * KIB  # as much as one fault maps of what is in the page cache (filemap_map_pages, mm/filemap.c)
MOST_TOUCHES = 100_000  # blocks are doubled in size until there are no more: bounds the time of simulations


@dataclass(frozen=True)
class TokenTouches:
    """The blocks that were touched while decoding, each once a token, in order; `ends` is where each token ends."""

    blocks: Integers
    ends: Integers
    block_bytes: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of the blocks that one token touched, on average; 0 where none did."""
        return len(self.blocks) * self.block_bytes / len(self.ends) if len(self.ends) else 0.0


def touches_of(pages: PageEvents, spans: Spans) -> TokenTouches:
    """The touches of the tokens after the first one; the parts of a model lie on one line, one behind the other."""
    touched = pages.taken((pages.event == FAULT) | (pages.event == MAP))
    part_bytes = 1 << int((touched.offset + touched.bytes).max(initial=0)).bit_length()  # a whole number of blocks
    each = [touched.within(span) for index, span in spans.tokens.items() if index > 0]
    streams = [ReadStream(np.zeros_like(one.part), one.part * part_bytes + one.offset, one.bytes) for one in each]
    size = BLOCK_BYTES
    found = [_once(stream, size) for stream in streams]
    while sum(map(len, found)) > MOST_TOUCHES:
        size *= 2
        found = [_once(stream, size) for stream in streams]
    ends = np.cumsum([len(blocks) for blocks in found], dtype=np.int64)
    return TokenTouches(np.concatenate([np.empty(0, dtype=np.int64), *found]), ends, size)


def _once(stream: ReadStream, block_bytes: int) -> Integers:
    """The blocks in the order of their first touch."""
    if not len(stream):
        return np.empty(0, dtype=np.int64)
    blocks = block_accesses(stream, block_bytes)
    _, first = np.unique(blocks, return_index=True)
    return blocks[np.sort(first)]
