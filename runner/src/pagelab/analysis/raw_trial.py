"""What a trial left on disk before anything was computed from it, read back."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from pagelab.errors import StoreError
from pagelab.inference.log import parse_timings
from pagelab.store.files import read_table
from pagelab.store.observation import ObservedInference, Snapshot
from pagelab.store.record import EngineTimings
from pagelab.store.run_store import RunStore


@dataclass(frozen=True)
class Samples:
    """The sampler's readings: `seconds` since the start of the process, and a column a counter, None where unread."""

    seconds: list[float]
    columns: dict[str, list[int | None]]

    def between(self, first_seconds: float, last_seconds: float, name: str) -> list[int]:
        """Values of one counter within a window of time, without the unread ones; empty for an unknown counter."""
        readings = zip(self.seconds, self.columns.get(name, []), strict=False)
        return [value for at, value in readings if first_seconds <= at <= last_seconds and value is not None]


@dataclass(frozen=True)
class RawInference:
    """One inference as it was recorded: boundaries, arrivals of the tokens in seconds, samples, and the log."""

    seen: ObservedInference
    page_bytes: int
    token_seconds: list[float]
    samples: Samples | None
    log: str

    @cached_property
    def engine(self) -> EngineTimings:
        """llama.cpp's own timings."""
        return parse_timings(self.log)

    @property
    def decode_boundaries(self) -> tuple[Snapshot, Snapshot] | None:
        """The counters at the first and at the last token; None where one of them was not reached."""
        first, last = self.seen.at_first_token, self.seen.at_last_token
        return None if first is None or last is None else (first, last)


def read_inference(store: RunStore, number: int, seen: ObservedInference, page_bytes: int) -> RawInference:
    """Read the files of a trial's inference.

    Raises:
        StoreError: one of them is missing or damaged.
    """
    samples = store.read_trial_table(number, "samples")
    return RawInference(
        seen=seen,
        page_bytes=page_bytes,
        token_seconds=_arrivals(store.trial_table_path(number, "tokens")),
        samples=None if samples is None else _samples(samples, store.trial_table_path(number, "samples")),
        log=store.read_trial_text(number, "llama.log"),
    )


def _arrivals(path: Path) -> list[float]:
    found: list[float | None] = read_table(path, ["arrival_seconds"])["arrival_seconds"].to_pylist()
    seconds = [at for at in found if at is not None and math.isfinite(at)]
    if len(seconds) < len(found) or any(later < earlier for earlier, later in pairwise([0.0, *seconds])):
        raise StoreError(f"{path} has tokens that came before those before them: restore it from a copy, or run again")
    return seconds


def _samples(table: pa.Table, path: Path) -> Samples:
    kinds = {field.name: field.type for field in table.schema}
    if kinds.pop("seconds", None) != pa.float64() or not all(map(pa.types.is_integer, kinds.values())):
        raise StoreError(f"{path} does not hold samples: restore it from a copy, or run again")
    columns = table.to_pydict()
    return Samples(columns.pop("seconds"), columns)
