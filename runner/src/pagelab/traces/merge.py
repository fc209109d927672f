"""The streams of several CPUs, each in the order of time, as one; what is held at a time is a chunk of each."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from pagelab.traces.events import Chunk, Columns, Kind, in_time, joined, rows
from pagelab.traces.time_order import SLACK_NS


class Source(Protocol):
    """What gives the events of one raw file."""

    def chunk(self) -> Chunk | None:
        """The next events, None at the end."""
        ...


def merged(sources: Sequence[Source]) -> Iterator[dict[Kind, Columns]]:
    """Batches of events in the order of time, within each and from one to the next.

    Events of equal time come in the order of the sources, so the result does not depend on the size of the chunks.
    """
    streams = [_Stream(source) for source in sources]
    while True:
        running = [stream for stream in streams if not stream.ended]
        if not running:
            break
        horizon = min(stream.through_ns for stream in running)
        yield _batch([stream.before(horizon) for stream in streams])
        for stream in running:
            if stream.through_ns <= horizon:
                stream.fill()
    yield _batch([stream.rest() for stream in streams])


def _batch(parts: Sequence[dict[Kind, Columns]]) -> dict[Kind, Columns]:
    return {kind: in_time(joined([part[kind] for part in parts if kind in part], kind)) for kind in Kind}


class _Stream:
    """What was read of a source and not yet given. Up to `through_ns`, not inclusive, nothing more will come."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._held: dict[Kind, Columns] = {}
        self.ended = False
        self.through_ns = 0
        self.fill()

    def fill(self) -> None:
        chunk = self._source.chunk()
        if chunk is None:
            self.ended = True
            return
        self.through_ns = chunk.through_ns - SLACK_NS
        for kind, columns in chunk.tables.items():
            self._held[kind] = in_time(joined([self._held.get(kind, kind.none()), columns], kind))

    def before(self, horizon: int) -> dict[Kind, Columns]:
        given = {}
        for kind, columns in self._held.items():
            cut = int(np.searchsorted(columns["time_ns"], horizon, side="left"))
            given[kind], self._held[kind] = rows(columns, slice(cut)), rows(columns, slice(cut, None))
        return given

    def rest(self) -> dict[Kind, Columns]:
        held, self._held = self._held, {}
        return held
