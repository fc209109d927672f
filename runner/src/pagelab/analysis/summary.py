"""What a run's trials say together: the repetitions of each combination of factors.

Formulas are in docs/statistics.md. Bytes per token are bytes read during decode over the tokens of decode, trial by
trial, before the median is taken.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

from scipy.special import stdtrit

from pagelab.analysis import repeatability
from pagelab.analysis.bootstrap import MINIMUM_REPETITIONS, Interval, median_interval, median_ratio_interval
from pagelab.config.factors import Factors, key_of, order_of
from pagelab.store.record import TrialRecord

BASELINE_RESIDENT = 1.0


@dataclass(frozen=True)
class Spread:
    """Repetitions of one quantity. `deviation` and intervals are absent below three of them."""

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

    @cached_property
    def median_interval(self) -> Interval | None:
        """The 95 % interval of the median, by the bootstrap."""
        return median_interval(self.values)

    @property
    def mean_interval(self) -> Interval | None:
        """The 95 % interval of the geometric mean, by Student's t; absent too where a value is not above 0."""
        if self.count < MINIMUM_REPETITIONS or self.minimum <= 0:
            return None
        logarithms = [math.log(value) for value in self.values]
        half = float(stdtrit(self.count - 1, 0.975)) * statistics.stdev(logarithms) / math.sqrt(self.count)
        middle = statistics.fmean(logarithms)
        return math.exp(middle - half), math.exp(middle + half)


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with its 95 % interval, absent where one of them has under three repetitions."""

    value: float
    interval: Interval | None = None

    @property
    def inverse(self) -> "Ratio":
        """The ratio the other way round."""
        return Ratio(1 / self.value, self.interval and (1 / self.interval[1], 1 / self.interval[0]))


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """The values that are there, None where there is none."""
    present = tuple(value for value in values if value is not None)
    return Spread(present) if present else None


@dataclass(frozen=True)
class Combination:
    """The trials of one combination of factors; its numbers are those of `counted`.

    A column is a dotted name of trial.json. A quantity that no counted trial has is None.
    """

    trials: tuple[TrialRecord, ...]
    counted: tuple[TrialRecord, ...]
    baseline: Spread | None
    """The decode rates of the baseline that this one is compared to."""

    @property
    def factors(self) -> Factors:
        """What all its trials set."""
        return self.trials[0].factors

    @property
    def weights_bytes(self) -> int:
        """The size of the model's weights."""
        return self.trials[0].weights_bytes

    @property
    def is_baseline(self) -> bool:
        """Whether nothing presses the model out of RAM."""
        return self.factors.resident == BASELINE_RESIDENT

    @property
    def valid(self) -> int:
        """How many of its trials are valid."""
        return sum(trial.validity.valid for trial in self.trials)

    def spread(self, column: str) -> Spread | None:
        """The values of a column."""
        return spread_of(map(attrgetter(column), self.counted))

    def per_token(self, column: str) -> Spread | None:
        """The values of a column that counts something of decode, over the tokens of decode."""
        return spread_of(_per_token(trial, attrgetter(column)(trial)) for trial in self.counted)

    @cached_property
    def tokens_per_second(self) -> Spread | None:
        """The decode rates."""
        return self.spread("decode.tokens_per_second")

    @cached_property
    def read_bytes_per_token(self) -> Spread | None:
        """Bytes read from the model file and from swap together."""
        return spread_of(_per_token(trial, _read_bytes(trial)) for trial in self.counted)

    @property
    def read_share_of_weights(self) -> float | None:
        """Median bytes read for each token over the bytes of the weights."""
        return self.read_bytes_per_token.median / self.weights_bytes if self.read_bytes_per_token else None

    @cached_property
    def slowdown(self) -> Ratio | None:
        """How much slower than the baseline it decodes."""
        baseline, limited = self.baseline, self.tokens_per_second
        if baseline is None or limited is None or min(baseline.minimum, limited.minimum) <= 0:
            return None
        return Ratio(baseline.median / limited.median, median_ratio_interval(baseline.values, limited.values))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the repetitions."""
        rates = ((trial.trial, trial.decode.tokens_per_second) for trial in self.counted)
        return tuple(repeatability.warnings([(number, rate) for number, rate in rates if rate is not None]))


def combinations(trials: Iterable[TrialRecord], include_invalid: bool = False) -> list[Combination]:
    """Group trials by their factors.

    Args:
        trials: finished trials, in any order.
        include_invalid: count invalid trials too.

    Returns:
        The combinations by everything but the resident share (model first), and with that share descending inside, so
        that a baseline stands above what is compared to it.
    """
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda trial: trial.trial):
        groups.setdefault(key_of(trial.factors), []).append(trial)
    ordered = sorted(
        groups.values(), key=lambda group: (order_of(group[0].factors, "resident"), -group[0].factors.resident)
    )
    counted = [[trial for trial in group if include_invalid or trial.validity.valid] for group in ordered]
    baselines = [trial for some in counted for trial in some if trial.factors.resident == BASELINE_RESIDENT]
    return [
        Combination(tuple(group), tuple(some), _baseline(group[0].factors, baselines))
        for group, some in zip(ordered, counted, strict=True)
    ]


def _baseline(limited: Factors, baselines: Sequence[TrialRecord]) -> Spread | None:
    """Decode rates of the baseline that a combination is compared to, of the same pressure where there is one."""
    want = key_of(limited, "resident", "pressure")
    candidates = [trial for trial in baselines if key_of(trial.factors, "resident", "pressure") == want]
    same = [trial for trial in candidates if trial.factors.pressure == limited.pressure]
    return _rates(same) or _rates(candidates)


def _rates(trials: Iterable[TrialRecord]) -> Spread | None:
    return spread_of(trial.decode.tokens_per_second for trial in trials)


def _read_bytes(trial: TrialRecord) -> int | None:
    reads = trial.reads.decode
    return None if reads.model_bytes is None or reads.swap_bytes is None else reads.model_bytes + reads.swap_bytes


def _per_token(trial: TrialRecord, count: int | None) -> float | None:
    return count / trial.decode.tokens if count is not None and trial.decode.tokens else None
