"""Access patterns of a run: what each combination of factors read while decoding, and in which order.

A spread is over the trials of a combination that count and have a trace. What cannot be put into one number for several
repetitions (tables by layer and expert, the map of the file, the miss-ratio curve) is that of one of them, the
representative: the traced repetition of median decode speed, of two in the middle the slower one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pagelab.analysis.summary import Spread, combinations, per_token, spread_of
from pagelab.store.record import Factors, TrialRecord
from pagelab.store.run_store import RunStore

Row = Mapping[str, Any]
"""A row of one of the tables of `analysis.access_tables`, `analysis.access_map` or `analysis.reuse`."""

TABLES = {
    "access_layers": {"layer", "tensor_class", "bytes", "decode_read_bytes", "reread_factor"},
    "access_experts": {"layer", "expert", "bytes", "decode_read_bytes", "decode_tokens"},
    "access_map": {"begin_seconds", "seconds", "offset_bytes", "bytes", "tensor_class"},
    "reuse": {"cache_bytes", "miss_ratio"},
}
"""The tables that are read, with the columns that are looked at."""

_HEADLINES = (
    "sequential_fraction",
    "sequential_fraction_notes",
    "sequential_fraction_next",
    "mean_read_bytes",
    "n50_run_bytes",
    "reread_factor",
    "coverage_fraction",
    "read_amplification_per_token",
    "latency_p50_seconds",
    "latency_p99_seconds",
    "queue_depth_mean",
)


@dataclass(frozen=True)
class Pattern:
    """One combination of factors that has traced trials.

    `spreads` has an entry for each quantity that any of them has: the names of `record.Access`, and
    `model_bytes_per_token`. `sources` and `orders` are what the model's reads were counted from and ordered by.
    `tables` are those of the trial `representative`, empty where one was not written; `tokens` its decoded tokens.
    """

    factors: Factors
    weights_bytes: int
    spreads: dict[str, Spread]
    sources: tuple[str, ...]
    orders: tuple[str, ...]
    representative: int
    tokens: int | None
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def patterns(trials: Iterable[TrialRecord], include_invalid: bool = False) -> list[Pattern]:
    """One entry, without tables, for each combination with a trial that counts and knows of its reads of the model."""
    found = []
    for _, counted in combinations(trials, include_invalid):
        traced = [trial for trial in counted if trial.access.model_bytes is not None]
        if traced:
            found.append(_pattern(traced))
    return found


def read_patterns(store: RunStore, trials: Iterable[TrialRecord], include_invalid: bool = False) -> list[Pattern]:
    """The same with the tables of the representatives; a table of another shape is left out.

    Raises:
        StoreError: a table is damaged.
    """
    return [
        replace(one, tables={name: _rows(store, one.representative, name) for name in TABLES})
        for one in patterns(trials, include_invalid)
    ]


def _rows(store: RunStore, number: int, name: str) -> list[Row]:
    table = store.read_trial_table(number, name)
    if table is None or not set(table.column_names) >= TABLES[name]:
        return []
    rows: list[Row] = table.to_pylist()
    return rows


def _pattern(traced: Sequence[TrialRecord]) -> Pattern:
    spreads = {name: spread_of(getattr(trial.access, name) for trial in traced) for name in _HEADLINES}
    spreads["model_bytes_per_token"] = spread_of(per_token(trial, trial.access.model_bytes) for trial in traced)
    representative = _representative(traced)
    return Pattern(
        factors=traced[0].factors,
        weights_bytes=traced[0].weights_bytes,
        spreads={name: spread for name, spread in spreads.items() if spread is not None},
        sources=_different(trial.access.model_bytes_source for trial in traced),
        orders=_different(trial.access.order for trial in traced),
        representative=representative.trial,
        tokens=representative.decode.tokens,
    )


def _different(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))


def _representative(traced: Sequence[TrialRecord]) -> TrialRecord:
    ranked = sorted(traced, key=lambda trial: (trial.decode.tokens_per_second or 0.0, trial.trial))
    return ranked[(len(ranked) - 1) // 2]


@dataclass(frozen=True)
class ReadPart:
    """What decoding read of some tensors: bytes for each token, and the bytes of these tensors."""

    read_bytes_per_token: float
    size_bytes: int

    @property
    def share(self) -> float:
        """How often a token read all of it."""
        return self.read_bytes_per_token / self.size_bytes


def read_by(pattern: Pattern, column: str) -> dict[Any, ReadPart]:
    """What was read of each kind of tensor (`tensor_class`) or layer, in the order of the file; empty where unknown."""
    read: dict[Any, int] = {}
    size: dict[Any, int] = {}
    for row in pattern.tables.get("access_layers", ()):
        if row[column] is not None and row["decode_read_bytes"] is not None:
            read[row[column]] = read.get(row[column], 0) + row["decode_read_bytes"]
            size[row[column]] = size.get(row[column], 0) + row["bytes"]
    if not pattern.tokens:
        return {}
    return {key: ReadPart(read[key] / pattern.tokens, size[key]) for key in read if size[key]}


def expert_use(pattern: Pattern) -> dict[int, list[float]]:
    """For each layer with experts, the shares of the tokens for which each was read, the most used one first."""
    shares: dict[int, list[float]] = {}
    if pattern.tokens:
        for row in pattern.tables.get("access_experts", ()):
            if row["layer"] is not None and row["decode_tokens"] is not None:
                shares.setdefault(row["layer"], []).append(row["decode_tokens"] / pattern.tokens)
    return {layer: sorted(values, reverse=True) for layer, values in sorted(shares.items())}
