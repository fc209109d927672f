"""Holds the hypotheses of a configuration against the trials of a run."""

import operator
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pagelab.config import Hypothesis, parse_config
from pagelab.errors import ConfigError
from pagelab.expectation import Aggregate, has_value, parse_expectation
from pagelab.record import TrialRecord, flatten
from pagelab.store import RunStore

_FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "mean": statistics.fmean,
    "min": min,
    "max": max,
}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Verdict:
    """What became of a hypothesis. `holds` is None where no valid trial has the values that it speaks of."""

    claim: str
    expect: str
    holds: bool | None
    left: float | None
    right: float | None


def read_verdicts(store: RunStore) -> list[Verdict]:
    """Judge the hypotheses of a stored run; none where its configuration is of another version of pagelab.

    Raises:
        StoreError: a file of the run is missing or damaged.
    """
    try:
        config = parse_config(store.read_config_text(), str(store.directory))
    except ConfigError:
        return []
    return judge_hypotheses(config.hypotheses, store.read_trials())


def judge_hypotheses(hypotheses: Iterable[Hypothesis], trials: Sequence[TrialRecord]) -> list[Verdict]:
    """Judge each hypothesis by the valid trials."""
    valid = [trial for trial in trials if trial.validity.valid]
    return [_judge(hypothesis, valid) for hypothesis in hypotheses]


def _judge(hypothesis: Hypothesis, trials: Sequence[TrialRecord]) -> Verdict:
    expected = parse_expectation(hypothesis.expect)
    left = _value(expected.left, trials)
    base = 1.0 if expected.right is None else _value(expected.right, trials)
    right = None if base is None else expected.factor * base
    holds = None if left is None or right is None else _OPERATORS[expected.operator](left, right)
    return Verdict(hypothesis.claim, hypothesis.expect, holds, left, right)


def _value(aggregate: Aggregate, trials: Sequence[TrialRecord]) -> float | None:
    chosen = [trial for trial in trials if all(has_value(trial.factors, *pair) for pair in aggregate.where)]
    found = [flatten(trial.document()).get(aggregate.column) for trial in chosen]
    values = [float(value) for value in found if isinstance(value, int | float)]
    return _FUNCTIONS[aggregate.function](values) if values else None
