"""Holds the hypotheses of a configuration against the trials of a run.

A hypothesis is supported where it holds for the whole 95 % interval of what it compares, refuted where it holds for no
part of it, and undecided between. The interval is a bootstrap: the repetitions of each combination of factors are drawn
again with replacement, and both sides are computed from the same draw, so that trials that enter both count as pairs.
`min` and `max` are of the trials that were measured and are not drawn. Three repetitions of each combination that a
hypothesis speaks of are needed for a verdict (docs/statistics.md).
"""

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pagelab.analysis.bootstrap import MINIMUM_REPETITIONS, Interval, Numbers, drawn_again, percentile_interval
from pagelab.config.expectation import Aggregate, Expectation, has_value, parse_expectation
from pagelab.config.factors import key_of
from pagelab.config.schema import Hypothesis
from pagelab.store.record import TrialRecord

Outcome = Literal["supported", "refuted", "undecided"]

MOST_FURTHER_REPETITIONS = 100
_FUNCTIONS: dict[str, Callable[..., Any]] = {"median": np.median, "mean": np.mean, "min": np.min, "max": np.max}
_OF_THE_MEASURED = ("min", "max")
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Uncertain:
    """A value and its 95 % interval, absent where repetitions are too few for one."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a hypothesis.

    `left` and `right` are its sides, absent where no trial that counts has the values; a side that is a number has no
    interval. `ratio` is the left side over the right one, and `difference` the left side less the right one where a
    ratio makes no sense; both are absent where the right side is a number. `trials` is how many trials entered, and
    `left_out` how many more of the named factors there are, invalid. `more` says what more would decide, absent where
    it is decided.
    """

    claim: str
    expect: str
    outcome: Outcome = "undecided"
    left: Uncertain | None = None
    right: Uncertain | None = None
    ratio: Uncertain | None = None
    difference: Uncertain | None = None
    trials: int = 0
    left_out: int = 0
    more: str | None = None


def judge_hypotheses(
    hypotheses: Iterable[Hypothesis], trials: Sequence[TrialRecord], include_invalid: bool = False
) -> list[Verdict]:
    """Judge each hypothesis by the valid trials, or by all of them."""
    ordered = sorted(trials, key=lambda trial: trial.trial)
    counted = [_Trial(trial, trial.columns()) for trial in ordered if include_invalid or trial.validity.valid]
    left_out = [_Trial(trial, {}) for trial in ordered if not include_invalid and not trial.validity.valid]
    return [_judge(hypothesis, counted, left_out) for hypothesis in hypotheses]


@dataclass(frozen=True)
class _Trial:
    record: TrialRecord
    columns: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """Its combination of factors."""
        return key_of(self.record.factors)

    def is_named(self, side: Aggregate) -> bool:
        return all(has_value(self.record.factors, *pair) for pair in side.where)

    def value(self, side: Aggregate) -> float | None:
        value = self.columns.get(side.column)
        return float(value) if isinstance(value, int | float) else None

    def serves(self, sides: Sequence[Aggregate]) -> bool:
        """Whether some side names it, and it has a value for each that does."""
        named = [side for side in sides if self.is_named(side)]
        return bool(named) and all(self.value(side) is not None for side in named)


def _judge(hypothesis: Hypothesis, counted: Sequence[_Trial], left_out: Sequence[_Trial]) -> Verdict:
    expected = parse_expectation(hypothesis.expect)
    sides = [side for side in (expected.left, expected.right) if side is not None]
    entered = sorted((trial for trial in counted if trial.serves(sides)), key=lambda trial: trial.key)
    lost = [trial for trial in left_out if any(map(trial.is_named, sides))]
    repetitions = Counter(trial.key for trial in entered)
    repetitions.update(dict.fromkeys({trial.key for trial in lost} - {trial.key for trial in counted}, 0))
    missing = next(filter(None, (_missing(side, sides, entered, counted, lost) for side in sides)), None)
    if missing is None and min(repetitions.values()) < MINIMUM_REPETITIONS:
        missing = _too_few(repetitions)
    drawn = None if missing else drawn_again([count for count in repetitions.values() if count])
    left = _side(expected.left, 1.0, entered, drawn)
    right = _side(expected.right, expected.factor, entered, drawn)
    verdict = Verdict(
        hypothesis.claim,
        hypothesis.expect,
        left=None if left is None else left.uncertain,
        right=None if right is None else right.uncertain,
        trials=len(entered),
        left_out=len(lost),
        more=missing,
    )
    return verdict if left is None or right is None else _compared(verdict, expected, left, right, repetitions)


# --- the two sides ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Quantity:
    """A value, and what it is in each sample that was drawn again; without samples where these would say nothing."""

    value: float
    drawn: Numbers | None = None

    @property
    def uncertain(self) -> Uncertain:
        return Uncertain(self.value, None if self.drawn is None else percentile_interval(self.drawn))

    def against(self, other: "_Quantity", how: Callable[[Any, Any], Any]) -> "_Quantity":
        """What both give together, sample by sample."""
        if self.drawn is None or other.drawn is None:
            return _Quantity(how(self.value, other.value))
        return _Quantity(how(self.value, other.value), how(self.drawn, other.drawn))


def _side(
    side: Aggregate | None, factor: float, trials: Sequence[_Trial], drawn: NDArray[np.int64] | None
) -> _Quantity | None:
    """A side of a hypothesis, from trials that lie combination by combination; None where it names none of them."""
    if side is None:
        return _Quantity(factor)
    values = [trial.value(side) if trial.is_named(side) else None for trial in trials]
    places = [place for place, value in enumerate(values) if value is not None]
    if not places:
        return None
    function, of_trials = _FUNCTIONS[side.function], np.array(values, dtype=np.float64)
    value = factor * float(function(of_trials[places]))
    if drawn is None:
        return _Quantity(value)
    if side.function in _OF_THE_MEASURED:
        return _Quantity(value, np.full(len(drawn), value))
    return _Quantity(value, factor * function(of_trials[drawn[:, places]], axis=1))


def _compared(
    verdict: Verdict, expected: Expectation, left: _Quantity, right: _Quantity, repetitions: Counter[tuple[str, ...]]
) -> Verdict:
    """The verdict with what its sides are to each other, decided where the whole interval is on one side of the limit.

    A ratio is given where the right side is above 0 in every sample, else a difference.
    """
    if expected.right is None:
        found, limit = left.uncertain, right.value
    elif min(right.value, math.inf if right.drawn is None else right.drawn.min()) > 0:
        found, limit = left.against(right, operator.truediv).uncertain, 1.0
        verdict = replace(verdict, ratio=found)
    else:
        found, limit = left.against(right, operator.sub).uncertain, 0.0
        verdict = replace(verdict, difference=found)
    if found.interval is None:
        return verdict
    holds = [_OPERATORS[expected.operator](end, limit) for end in found.interval]
    if any(holds) and not all(holds):
        return replace(verdict, more=_further(found.value, found.interval, limit, min(repetitions.values())))
    return replace(verdict, outcome="supported" if all(holds) else "refuted")


# --- what more would decide -------------------------------------------------------------------------------------------


def _missing(
    side: Aggregate,
    sides: Sequence[Aggregate],
    entered: Sequence[_Trial],
    counted: Sequence[_Trial],
    lost: Sequence[_Trial],
) -> str | None:
    """What a side lacks for which no trial entered; None for one that has some."""
    if any(trial.is_named(side) for trial in entered):
        return None
    where = ", ".join(f"{name}={value}" for name, value in side.where) or "any factors"
    for trial in counted:
        if trial.is_named(side):
            column = next(one.column for one in sides if trial.is_named(one) and trial.value(one) is None)
            return f"a value of {column} for {where}, which no trial that counts has"
    if any(trial.is_named(side) for trial in lost):
        return f"valid trials with {where}: all there are, are invalid"
    return f"trials with {where}: the run has none"


def _too_few(repetitions: Counter[tuple[str, ...]]) -> str:
    more = MINIMUM_REPETITIONS - min(repetitions.values())
    noun = "repetition" if more == 1 else "repetitions"
    return f"{more} more {noun}: a verdict needs {MINIMUM_REPETITIONS} of each combination"


def _further(value: float, interval: Interval, limit: float, repetitions: int) -> str:
    """How many repetitions would take the limit out of the interval, if the value stayed where it is.

    An interval is as wide as one over the square root of the number of repetitions.
    """
    if value == limit:
        return "no number of repetitions: the limit lies where the value does"
    end = interval[0] if value > limit else interval[1]
    reach = (end - value) / (limit - value)
    further = repetitions * (reach * reach - 1)
    if further > MOST_FURTHER_REPETITIONS:
        return f"more than {MOST_FURTHER_REPETITIONS} further repetitions, so close is the limit"
    whole = max(1, math.ceil(further))
    return f"about {whole} more {'repetition' if whole == 1 else 'repetitions'} of each combination"
