"""Whether two samples of speeds differ: Student's t, Welch's test on logarithms, and Holm's correction.

Formulas:

- Student's t: the chance of a value further from 0 than t is `I(v / (v + t^2); v / 2, 1 / 2)` for v degrees of freedom
  (Abramowitz and Stegun 26.7.1), I being the regularized incomplete beta function, by its continued fraction (26.5.8)
  and Lentz's method.
- Welch's test (B. L. Welch, Biometrika 34, 1947) on natural logarithms, since speeds vary by factors. With mean m,
  variance v and number n of each sample's logarithms: `t = (m2 - m1) / e`, `e = sqrt(v1 / n1 + v2 / n2)`, with
  `e^4 / ((v1 / n1)^2 / (n1 - 1) + (v2 / n2)^2 / (n2 - 1))` degrees of freedom (Satterthwaite). The ratio is that of the
  geometric means, `exp(m2 - m1)`, and its 95 % interval `exp(m2 - m1 ± t(0.975) * e)`.
- Holm's correction for several tests at once (S. Holm, Scandinavian Journal of Statistics 6, 1979): the smallest of k
  p-values is multiplied by k, the next by k - 1 and so on, and none falls below the one before it.

A rank or permutation test needs no such assumptions but cannot be significant with few repetitions: of the 20 ways to
divide three and three, the most extreme has p = 0.1.

Significant is p < 0.01 after correction, not 0.05: of 20 comparisons of equal things, two or more come out as
different with a chance of 26 % at 0.05 and of 2 % at 0.01 (binomial). The interval is the usual 95 % one, for one row.

What this finds, by simulation with normal logarithms (20,000 pairs each; tests/unit/analysis/test_a_against_a.py
repeats it on a smaller scale): of equal pairs 0.6, 0.7 and 1.0 % are called different with 3, 5 and 10 repetitions of
each. Where speeds are bimodal, three repetitions are too few for this: 3 % of equal pairs. A second sample that takes
10 % longer for each token is found in

    standard deviation    3 repetitions    4       5       10      20      5 in one of three rows
    1 %                       97 %         100 %   100 %   100 %   100 %      100 %
    2 %                       58 %          95 %   100 %   100 %   100 %       98 %
    3 %                       27 %          64 %    87 %   100 %   100 %       68 %
    5 %                        8 %          22 %    37 %    90 %   100 %       19 %
    10 %                       2 %           4 %     7 %    25 %    62 %        3 %
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
