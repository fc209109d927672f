"""Intervals of 95 % for medians, and for what is made of them, by the bootstrap.

That of B. Efron, The Annals of Statistics 7, 1979, with percentiles: repetitions are drawn with replacement, as many as
there are, ten thousand times, and the interval leaves out 2.5 % of the results at each end. The draws are seeded, so
that the same values give the same interval. What an interval of few repetitions is worth is in docs/statistics.md.

scipy.stats has a bootstrap too, which tests/unit/analysis/test_bootstrap.py holds this one against. It takes long to
load and much memory, and this is needed while an experiment goes on.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""The least and the greatest value that 95 % leave."""

Numbers = NDArray[np.float64]

MINIMUM_REPETITIONS = 3
RESAMPLES = 10_000
_SEED = 1
_ENDS = (0.025, 0.975)


def median_interval(values: Sequence[float]) -> Interval | None:
    """The interval of the median; None under three values."""
    if len(values) < MINIMUM_REPETITIONS:
        return None
    return percentile_interval(np.median(np.sort(values)[drawn_again([len(values)])], axis=1))


def median_ratio_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """The interval of the first median over the second; None under three values of one, or with a second of 0."""
    if min(len(first), len(second)) < MINIMUM_REPETITIONS or min(second) <= 0:
        return None
    drawn = np.concatenate((np.sort(first), np.sort(second)))[drawn_again([len(first), len(second)])]
    medians = [np.median(part, axis=1) for part in (drawn[:, : len(first)], drawn[:, len(first) :])]
    return percentile_interval(medians[0] / medians[1])


def drawn_again(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Ten thousand samples of groups that lie one behind the other, each group drawn for itself.

    Returns:
        A row for each sample: positions, as many of each group as it has, group by group.
    """
    dice = np.random.default_rng(_SEED)
    ends = np.cumsum(sizes)
    return np.concatenate(
        [dice.integers(end - size, end, (RESAMPLES, size)) for size, end in zip(sizes, ends, strict=True)], axis=1
    )


def percentile_interval(drawn: Numbers) -> Interval:
    """What 95 % of the results of a bootstrap leave."""
    low, high = np.quantile(drawn, _ENDS)
    return float(low), float(high)
