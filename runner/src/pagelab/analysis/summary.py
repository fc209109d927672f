"""What a run's trials say together: one table with a row a trial, and one aggregate for each combination of factors.

Formulas, over the valid repetitions of one combination:

- median, minimum and maximum as they are; nothing is rounded or trimmed.
- standard deviation `s`: of the sample, `sqrt(sum((x - mean)^2) / (n - 1))`, from three repetitions on.
- interval: 95 % for the geometric mean, by Student's t on logarithms: `exp(m ± t(0.975, n - 1) * s / sqrt(n))` with m
  and s of the logarithms, from three repetitions on. Speeds vary by factors, and a bound below 0 would say nothing.
- slowdown: `median(baseline) / median(limited)` of the decode tokens per second. Its spread is the least and the
  greatest ratio over all pairs of one baseline and one limited repetition, `min(baseline) / max(limited)` to
  `max(baseline) / min(limited)`. The baseline is the same model with resident 1.0 and otherwise equal factors. Since a
  baseline is under no pressure, one of another kind of pressure serves where there is none of the same.
- warnings about the repetitions: see `analysis.repeatability`.
- bytes per token: bytes read during decode over the tokens of decode, trial by trial, before the median is taken.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pagelab.analysis import repeatability
from pagelab.analysis.significance import MINIMUM_REPETITIONS, student_t
from pagelab.config.factors import Factors
from pagelab.store.record import TrialRecord, flatten

if TYPE_CHECKING:  # pyarrow takes a moment to load, and aggregates do without it
    import pyarrow as pa

BASELINE_RESIDENT = 1.0


@dataclass(frozen=True)
class Spread:
    """Repetitions of one quantity. `deviation` and `interval` are absent below three of them."""

    values: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many repetitions have the value."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The middle value, or the mean of the two middle ones."""
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        """The least value."""
        return min(self.values)

    @property
    def maximum(self) -> float:
        """The greatest value."""
        return max(self.values)

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the sample."""
        return statistics.stdev(self.values) if self.count >= MINIMUM_REPETITIONS else None

    @property
    def relative_deviation(self) -> float | None:
        """The standard deviation over the mean."""
        return self.deviation / abs(self.mean) if self.deviation is not None and self.mean else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the geometric mean; absent too where a value is not above 0."""
        if self.count < MINIMUM_REPETITIONS or self.minimum <= 0:
            return None
        logarithms = [math.log(value) for value in self.values]
        half = student_t(self.count - 1) * statistics.stdev(logarithms) / math.sqrt(self.count)
        middle = statistics.fmean(logarithms)
        return math.exp(middle - half), math.exp(middle + half)


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with the least and greatest ratio over all pairs of repetitions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregate:
    """The trials of one combination of factors; a quantity that no counted trial has is None."""

    factors: Factors
    weights_bytes: int
    trials: int
    valid: int
    tokens_per_second: Spread | None
    time_to_first_token_seconds: Spread | None
    read_bytes_per_token: Spread | None
    """From the model file and from swap together."""
    model_bytes_per_token: Spread | None
    swap_bytes_per_token: Spread | None
    other_bytes_per_token: Spread | None
    read_bytes_per_second: Spread | None
    achieved_fraction: Spread | None
    fraction_of_bound: Spread | None
    limit_effective: tuple[bool, ...]
    """One entry for each counted trial that says whether its pressure was felt."""
    slowdown: Ratio | None
    warnings: tuple[str, ...]

    @property
    def is_baseline(self) -> bool:
        """Whether nothing presses the model out of RAM."""
        return self.factors.resident == BASELINE_RESIDENT

    @property
    def read_share_of_weights(self) -> float | None:
        """Median bytes read for each token over the bytes of the weights."""
        return self.read_bytes_per_token.median / self.weights_bytes if self.read_bytes_per_token else None


# --- a row a trial ----------------------------------------------------------------------------------------------------


def summary_table(trials: Iterable[TrialRecord]) -> "pa.Table":
    """One row a trial, by number; the columns are the dotted names of trial.json.

    Columns and their types follow from the record's shape alone, so that they are the same for every run. A factor that
    is a number or the word `default` is a text. Absent values are null.
    """
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}
    rows = [flatten(trial.document()) for trial in sorted(trials, key=lambda trial: trial.trial)]
    columns = {}
    for name, kind in _columns(TrialRecord):
        values = [row.get(name) for row in rows]
        if kind == "str":
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, types.get(kind, pa.string()))
    return pa.table(columns)


def _columns(shape: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and kind (int, float, bool, list, str) of every plain value in a record."""
    for name, field in shape.model_fields.items():
        kinds = set(_plain_types(field.annotation)) - {NoneType}
        kind = kinds.pop() if len(kinds) == 1 else str
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _columns(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind.__name__


def _plain_types(annotation: Any) -> Iterator[type]:  # an annotation has no narrower type
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _plain_types(part)
    elif origin is Literal:
        yield from (type(value) for value in get_args(annotation))
    else:
        yield origin or annotation


# --- a row for each combination of factors ----------------------------------------------------------------------------


def aggregate(trials: Iterable[TrialRecord], include_invalid: bool = False) -> list[Aggregate]:
    """Aggregate the repetitions of each combination of factors.

    Args:
        trials: finished trials, in any order.
        include_invalid: count invalid trials too; they are else only counted in `trials`.

    Returns:
        One aggregate for each combination, grouped by everything but the resident share (model first) and with that
        share descending inside a group, so that a baseline stands above what is compared to it.
    """
    found = combinations(trials, include_invalid)
    counted = [trial for _, group in found for trial in group]
    return [_aggregate_one(group, some, _baseline(group[0], counted)) for group, some in found]


def combinations(
    trials: Iterable[TrialRecord], include_invalid: bool = False
) -> list[tuple[list[TrialRecord], list[TrialRecord]]]:
    """The trials of each combination of factors, all of them and those that count, in the order of `aggregate`."""
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda trial: trial.trial):
        groups.setdefault(_key(trial.factors), []).append(trial)
    ordered = sorted(groups.values(), key=lambda group: _place(group[0].factors))
    return [(group, [trial for trial in group if include_invalid or trial.validity.valid]) for group in ordered]


def _place(factors: Factors) -> tuple[tuple[str, ...], float]:
    return _key(factors, without=("resident",)), -factors.resident


def _key(factors: Factors, without: Sequence[str] = ()) -> tuple[str, ...]:
    return tuple(str(value) for name, value in factors if name not in without)


def _baseline(limited: TrialRecord, counted: Sequence[TrialRecord]) -> Spread | None:
    """Decode rates of the baseline that a trial is compared to, of the same kind of pressure where there is one."""
    want = _key(limited.factors, without=("resident", "pressure"))
    candidates = [
        trial
        for trial in counted
        if trial.factors.resident == BASELINE_RESIDENT and _key(trial.factors, without=("resident", "pressure")) == want
    ]
    same = [trial for trial in candidates if trial.factors.pressure == limited.factors.pressure]
    return _rates(same) or _rates(candidates)


def _numbered(trials: Iterable[TrialRecord]) -> list[repeatability.NumberedRate]:
    rates = ((trial.trial, trial.decode.tokens_per_second) for trial in trials)
    return [(number, rate) for number, rate in rates if rate is not None]


def _rates(trials: Iterable[TrialRecord]) -> Spread | None:
    return spread_of(trial.decode.tokens_per_second for trial in trials)


def _aggregate_one(group: Sequence[TrialRecord], counted: Sequence[TrialRecord], baseline: Spread | None) -> Aggregate:
    rates = _rates(counted)
    effective = (trial.limit.effective for trial in counted)
    return Aggregate(
        factors=group[0].factors,
        weights_bytes=group[0].weights_bytes,
        trials=len(group),
        valid=sum(trial.validity.valid for trial in group),
        tokens_per_second=rates,
        time_to_first_token_seconds=spread_of(trial.time_to_first_token_seconds for trial in counted),
        read_bytes_per_token=spread_of(per_token(trial, _read_bytes(trial)) for trial in counted),
        model_bytes_per_token=spread_of(per_token(trial, trial.reads.decode.model_bytes) for trial in counted),
        swap_bytes_per_token=spread_of(per_token(trial, trial.reads.decode.swap_bytes) for trial in counted),
        other_bytes_per_token=spread_of(per_token(trial, trial.reads.decode.other_bytes) for trial in counted),
        read_bytes_per_second=spread_of(trial.throughput.read_bytes_per_second for trial in counted),
        achieved_fraction=spread_of(trial.residency.achieved_fraction for trial in counted),
        fraction_of_bound=spread_of(trial.bound.fraction_of_bound for trial in counted),
        limit_effective=tuple(value for value in effective if value is not None),
        slowdown=_slowdown(baseline, rates),
        warnings=tuple(repeatability.warnings(_numbered(counted))),
    )


def _read_bytes(trial: TrialRecord) -> int | None:
    reads = trial.reads.decode
    return None if reads.model_bytes is None or reads.swap_bytes is None else reads.model_bytes + reads.swap_bytes


def per_token(trial: TrialRecord, count: int | None) -> float | None:
    """A count of decode over its tokens."""
    return count / trial.decode.tokens if count is not None and trial.decode.tokens else None


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """The values that are there, None where there is none."""
    present = tuple(value for value in values if value is not None)
    return Spread(present) if present else None


def _slowdown(baseline: Spread | None, limited: Spread | None) -> Ratio | None:
    if baseline is None or limited is None or limited.minimum <= 0:
        return None
    return Ratio(
        value=baseline.median / limited.median,
        low=baseline.minimum / limited.maximum,
        high=baseline.maximum / limited.minimum,
    )
