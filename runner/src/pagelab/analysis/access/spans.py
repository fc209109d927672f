"""The times of a trial that its reads are told apart by: three windows, and one span for each token.

Times are nanoseconds since the start of the inference process. A span holds its begin and not its end, so that spans
which follow each other share no event. What is recorded before the process starts, or after the last token, is in the
window `all` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pagelab.store.record import WINDOWS, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.traces.arrays import Integers
from pagelab.units import NANOSECONDS

ALL = "all"
_FIRST_MOMENT, _LAST_MOMENT = -(2**62), 2**62


@dataclass(frozen=True)
class Span:
    """From `begin_ns` up to, not including, `end_ns`."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float | None:
        """Its length; None where it has no bounds of its own."""
        if self.begin_ns == _FIRST_MOMENT or self.end_ns == _LAST_MOMENT:
            return None
        return (self.end_ns - self.begin_ns) / NANOSECONDS

    def of(self, times_ns: Integers) -> slice:
        """Where the times of the span stand among times that ascend."""
        low, high = np.searchsorted(times_ns, (self.begin_ns, self.end_ns))
        return slice(int(low), int(high))


EVERYTHING = Span(_FIRST_MOMENT, _LAST_MOMENT)


@dataclass(frozen=True)
class Spans:
    """The windows of a trial by their names, and the moments between which its tokens were generated.

    `arrivals_ns` are those of all tokens, the first of which ends the prompt; `loaded_ns` is None where it is unknown.
    A window whose bounds are unknown is absent from `windows`; `all` is always there.
    """

    windows: dict[str, Span]
    arrivals_ns: Integers
    loaded_ns: int | None

    @property
    def tokens(self) -> dict[int, Span]:
        """The span of each token by its index: from the token before it; that of the first is the prompt window."""
        found = {0: self.windows["prompt"]} if "prompt" in self.windows else {}
        return found | {index: Span(*ends) for index, ends in enumerate(pairwise(self.arrivals_ns.tolist()), 1)}

    @property
    def bounds_ns(self) -> Integers:
        """Every moment at which a window or a token begins or ends."""
        loaded = [] if self.loaded_ns is None else [self.loaded_ns]
        return np.unique(np.array([0, *loaded, *self.arrivals_ns], dtype=np.int64))


def spans_of(load_seconds: float | None, arrival_seconds: Sequence[float]) -> Spans:
    """The spans of a trial.

    Args:
        load_seconds: when the model was loaded, since the start of the process.
        arrival_seconds: of the generated tokens, ascending, since the same moment.
    """
    loaded = None if load_seconds is None else round(load_seconds * NANOSECONDS)
    arrivals = np.array([round(moment * NANOSECONDS) for moment in arrival_seconds], dtype=np.int64)
    load, prompt, decode = WINDOWS
    windows = {}
    if loaded is not None:
        windows[load] = Span(0, loaded)
    if loaded is not None and len(arrivals) and loaded <= arrivals[0]:
        windows[prompt] = Span(loaded, int(arrivals[0]))
    if len(arrivals) > 1:
        windows[decode] = Span(int(arrivals[0]), int(arrivals[-1]))
    return Spans(windows | {ALL: EVERYTHING}, arrivals, loaded)


def spans_of_trial(store: RunStore, record: TrialRecord) -> Spans:
    """The spans of a finished trial, by its record and its table of tokens; without that, no token has one."""
    table = store.read_trial_table(record.trial, "tokens")
    if table is None or "arrival_seconds" not in table.column_names:
        return spans_of(record.load.seconds, [])
    return spans_of(record.load.seconds, [at for at in table["arrival_seconds"].to_pylist() if at is not None])
