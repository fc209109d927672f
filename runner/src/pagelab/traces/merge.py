"""The streams of several CPUs, each in the order of time, as one; what is held at a time is a chunk of each."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pagelab.traces.arrays import Columns, in_time, joined, rows
from pagelab.traces.events import SLACK_NS, Chunk, Kind

NextChunk = Callable[[], Chunk | None]
"""Gives the next events of one raw file, None at its end."""


def merged(sources: Sequence[NextChunk]) -> Iterator[dict[Kind, Columns]]:
    """Batches of events in the order of time, within each and from one to the next.

    Events of equal time come in the order of the sources, so the result does not depend on the size of the chunks.
    """
    streams = [_Stream(source) for source in sources]
    while running := [stream for stream in streams if not stream.ended]:
        horizon = min(stream.through_ns for stream in running)
        yield _batch([stream.before(horizon) for stream in streams])
        for stream in running:
            if stream.through_ns <= horizon:
                stream.fill()
    yield _batch([stream.held for stream in streams])


def _batch(parts: Sequence[dict[Kind, Columns]]) -> dict[Kind, Columns]:
    return {kind: in_time(joined([kind.empty(), *(part[kind] for part in parts if kind in part)])) for kind in Kind}


class _Stream:
    """What was read of a source and not yet given. Up to `through_ns`, not inclusive, nothing more will come."""

    def __init__(self, source: NextChunk) -> None:
        self._source = source
        self.held: dict[Kind, Columns] = {}
        self.ended = False
        self.through_ns = 0
        self.fill()

    def fill(self) -> None:
        chunk = self._source()
        if chunk is None:
            self.ended = True
            return
        self.through_ns = chunk.through_ns - SLACK_NS
        for kind, columns in chunk.tables.items():
            self.held[kind] = in_time(joined([self.held.get(kind, kind.empty()), columns]))

    def before(self, horizon: int) -> dict[Kind, Columns]:
        given = {}
        for kind, columns in self.held.items():
            cut = int(np.searchsorted(columns["time_ns"], horizon, side="left"))
            given[kind], self.held[kind] = rows(columns, slice(cut)), rows(columns, slice(cut, None))
        return given
