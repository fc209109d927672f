"""Holds the hypotheses of a configuration against the trials of a run."""

import operator
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pagelab.config.expectation import Aggregate, has_value, parse_expectation
from pagelab.config.schema import Hypothesis
from pagelab.store.record import TrialRecord

_FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "mean": statistics.fmean,
    "min": min,
    "max": max,
}
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Verdict:
    """What became of a hypothesis. `holds` is None where no trial that counts has the values that it speaks of.

    `trials` is how many trials of the named factors entered it, and `left_out` how many more there are, invalid.
    """

    claim: str
    expect: str
    holds: bool | None
    left: float | None
    right: float | None
    trials: int = 0
    left_out: int = 0


def judge_hypotheses(
    hypotheses: Iterable[Hypothesis], trials: Sequence[TrialRecord], include_invalid: bool = False
) -> list[Verdict]:
    """Judge each hypothesis by the valid trials, or by all of them."""
    counted = [trial for trial in trials if include_invalid or trial.validity.valid]
    left_out = [trial for trial in trials if not include_invalid and not trial.validity.valid]
    return [_judge(hypothesis, counted, left_out) for hypothesis in hypotheses]


def _judge(hypothesis: Hypothesis, trials: Sequence[TrialRecord], left_out: Sequence[TrialRecord]) -> Verdict:
    expected = parse_expectation(hypothesis.expect)
    left = _value(expected.left, trials)
    base = 1.0 if expected.right is None else _value(expected.right, trials)
    right = None if base is None else expected.factor * base
    holds = None if left is None or right is None else _OPERATORS[expected.operator](left, right)
    sides = [side for side in (expected.left, expected.right) if side is not None]
    counts = [sum(any(_is_named(trial, side) for side in sides) for trial in some) for some in (trials, left_out)]
    return Verdict(hypothesis.claim, hypothesis.expect, holds, left, right, *counts)


def _is_named(trial: TrialRecord, aggregate: Aggregate) -> bool:
    return all(has_value(trial.factors, *pair) for pair in aggregate.where)


def _value(aggregate: Aggregate, trials: Sequence[TrialRecord]) -> float | None:
    chosen = [trial for trial in trials if _is_named(trial, aggregate)]
    found = [trial.columns().get(aggregate.column) for trial in chosen]
    values = [float(value) for value in found if isinstance(value, int | float)]
    return _FUNCTIONS[aggregate.function](values) if values else None
