"""Whether two samples of speeds differ: Student's t, Welch's test on logarithms, and Holm's correction.

Welch's test: B. L. Welch, Biometrika 34, 1947, with Satterthwaite's degrees of freedom. Holm's correction: S. Holm,
Scandinavian Journal of Statistics 6, 1979. Student's t by the incomplete beta function (Abramowitz and Stegun 26.7.1),
its continued fraction (26.5.8) and Lentz's method. Formulas, and what the tests find: docs/statistics.md.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MINIMUM_REPETITIONS = 3
SIGNIFICANCE = 0.01
_UNCERTAINTY = 0.05  # of a 95 % interval


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


def compare_rates(first: Sequence[float], second: Sequence[float]) -> RateRatio | None:
    """Hold two samples of speeds against each other by Welch's test on logarithms.

    Returns:
        None where a sample has under three values or one that is not above 0, or where neither has any spread.
    """
    if min(len(first), len(second)) < MINIMUM_REPETITIONS or min(*first, *second) <= 0:
        return None
    logarithms = [[math.log(value) for value in sample] for sample in (first, second)]
    shares = [statistics.variance(sample) / len(sample) for sample in logarithms]
    if sum(shares) == 0:
        return None
    error = math.sqrt(sum(shares))
    parts = [share / sum(shares) for share in shares]  # of 1, so that no power of a small variance underflows
    freedom = 1 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, logarithms, strict=True))
    difference = statistics.fmean(logarithms[1]) - statistics.fmean(logarithms[0])
    half = student_t(freedom) * error
    return RateRatio(
        value=math.exp(difference),
        low=math.exp(difference - half),
        high=math.exp(difference + half),
        p_value=student_t_tails(difference / error, freedom),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


# --- Student's t ------------------------------------------------------------------------------------------------------


def student_t_tails(value: float, freedom: float) -> float:
    """The chance that Student's t is further from 0 than `value`, on either side."""
    return _incomplete_beta(freedom / (freedom + value * value), freedom / 2, 0.5)


def student_t(freedom: float, uncertainty: float = _UNCERTAINTY) -> float:
    """The value that Student's t exceeds, on either side, with the chance `uncertainty`."""
    low, high = 0.0, 1.0
    while student_t_tails(high, freedom) > uncertainty:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_tails(middle, freedom) > uncertainty else (low, middle)
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function; the fraction converges fast where x is below (a + 1) / (a + b + 2)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / (a * _beta_fraction(x, a, b))


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The value of 1 + d1 / (1 + d2 / (1 + …)), by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for index in range(1, 1000):
        m = index // 2
        if index % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
