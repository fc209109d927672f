"""A thread that looks at counters some ten times a second, while a trial runs."""

import time
from collections.abc import Callable

import pyarrow as pa

from pagelab.host.repeater import Repeater

Reading = dict[str, int | None]


class Sampler(Repeater):
    """Calls `read` every `interval_seconds` and keeps what it answers; use it as a context.

    `read` answers one value a counter, None for what could not be read. It runs outside the pressured group.
    """

    def __init__(self, read: Callable[[], Reading], started_monotonic: float, interval_seconds: float = 0.1) -> None:
        super().__init__("sampler", self._sample, interval_seconds)
        self._read = read
        self._started = started_monotonic
        self._samples: list[tuple[float, Reading]] = []

    def _sample(self) -> None:
        self._samples.append((time.monotonic() - self._started, self._read()))

    def between(self, first_seconds: float, last_seconds: float, name: str) -> list[int]:
        """Values of one counter within a window of time since the start, without the unread ones."""
        values = [reading.get(name) for seconds, reading in self._samples if first_seconds <= seconds <= last_seconds]
        return [value for value in values if value is not None]

    def table(self) -> pa.Table:
        """All samples: `seconds` since the start of the process, then a nullable int64 column a counter."""
        names = dict.fromkeys(name for _, reading in self._samples for name in reading)
        columns: dict[str, pa.Array] = {"seconds": pa.array([s for s, _ in self._samples], pa.float64())}
        for name in names:
            columns[name] = pa.array([reading.get(name) for _, reading in self._samples], pa.int64())
        return pa.table(columns)
