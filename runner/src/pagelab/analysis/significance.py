"""Whether two samples of speeds differ: Welch's test on logarithms, Mann and Whitney's on ranks, Holm's correction.

Both tests are scipy's, which takes long to load, so only what compares runs imports this module. Holm's correction:
S. Holm, Scandinavian Journal of Statistics 6, 1979. What the tests find, and which of them decides:
docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pagelab.analysis.bootstrap import MINIMUM_REPETITIONS

SIGNIFICANCE = 0.01
_MOST_FOR_EXACT = 20


@dataclass(frozen=True)
class RateRatio:
    """A second sample of speeds over a first one.

    `value` is the ratio of the geometric means, `low` to `high` its 95 % interval, and `p_value` the chance of a ratio
    as far from 1 if there was no difference; not corrected for other comparisons.
    """

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class RankTest:
    """How a second sample ranks against a first one.

    `faster_share` is the share of all pairs, one value of each, in which the second is the greater one (of equal ones,
    half): the common-language effect size, 0.5 for no effect. `p_value` is not corrected for other comparisons.
    """

    faster_share: float
    p_value: float

    @property
    def delta(self) -> float:
        """Cliff's delta, from -1 (the second is always slower) to 1."""
        return 2 * self.faster_share - 1


def compare_rates(first: Sequence[float], second: Sequence[float]) -> RateRatio | None:
    """Hold two samples of speeds against each other by Welch's test on logarithms.

    Returns:
        None where a sample has under three values or one that is not above 0, or where neither has any spread.
    """
    if min(len(first), len(second)) < MINIMUM_REPETITIONS or min(*first, *second) <= 0:
        return None
    if max(first) == min(first) and max(second) == min(second):
        return None
    logarithms = np.log(first), np.log(second)
    found = stats.ttest_ind(logarithms[1], logarithms[0], equal_var=False)
    interval = found.confidence_interval(0.95)
    return RateRatio(
        value=math.exp(np.mean(logarithms[1]) - np.mean(logarithms[0])),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        p_value=float(found.pvalue),
    )


def compare_ranks(first: Sequence[float], second: Sequence[float]) -> RankTest:
    """Hold two samples against each other by the test of Mann and Whitney, exact for up to 20 values without ties."""
    ties = len({*first, *second}) < len(first) + len(second)
    exact = not ties and max(len(first), len(second)) <= _MOST_FOR_EXACT
    found = stats.mannwhitneyu(second, first, method="exact" if exact else "asymptotic")
    return RankTest(float(found.statistic) / (len(first) * len(second)), float(found.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
