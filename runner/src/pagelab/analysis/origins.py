"""Where the bytes of decoding came from, by counters that know nothing of each other (`sources` of trial.json).

Over the trials of one combination that count: bytes of each counter over the tokens of decode, trial by trial, and the
share of what was read by which the counters of one origin disagree (see `record.Sources`). A counter that no trial has
is left out, so that runs from before there was one have no origins at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pagelab.analysis.summary import Spread, combinations, per_token, spread_of
from pagelab.config.factors import Factors
from pagelab.store.record import Record, Sources, TrialRecord

Counter = tuple[str, str]
"""An origin (model, swap, other) and the name of one of its counters, such as `refault_bytes`."""

_SUFFIX = "_bytes"


@dataclass(frozen=True)
class Origins:
    """One combination: bytes per token by each counter, and the disagreement (a fraction) for each origin."""

    factors: Factors
    weights_bytes: int
    bytes_per_token: dict[Counter, Spread]
    disagreement: dict[str, Spread]


def origins(trials: Iterable[TrialRecord], include_invalid: bool = False) -> list[Origins]:
    """One entry for each combination of factors, in the order of the summary; empty where nothing was recorded."""
    found = [_origins(group, counted) for group, counted in combinations(trials, include_invalid)]
    return found if any(one.bytes_per_token for one in found) else []


def counters(found: Iterable[Origins]) -> list[Counter]:
    """The counters that any combination has, in the order of the record."""
    present = {counter for one in found for counter in one.bytes_per_token}
    return [counter for counter in _all_counters() if counter in present]


def _all_counters() -> list[Counter]:
    shapes = {origin: type(getattr(Sources(), origin)) for origin in Sources.model_fields}
    return [(origin, name) for origin, shape in shapes.items() for name in _names(shape)]


def _names(shape: type[Record]) -> list[str]:
    return [name for name in shape.model_fields if name.endswith(_SUFFIX)]


def _origins(group: Sequence[TrialRecord], counted: Sequence[TrialRecord]) -> Origins:
    by_token = {
        (origin, name): spread_of(per_token(trial, getattr(getattr(trial.sources, origin), name)) for trial in counted)
        for origin, name in _all_counters()
    }
    apart = {
        origin: spread_of(getattr(trial.sources, origin).disagreement_fraction for trial in counted)
        for origin in Sources.model_fields
    }
    return Origins(
        factors=group[0].factors,
        weights_bytes=group[0].weights_bytes,
        bytes_per_token={counter: spread for counter, spread in by_token.items() if spread is not None},
        disagreement={origin: spread for origin, spread in apart.items() if spread is not None},
    )
