"""Which repetitions are warned of: two groups, outliers, too few; and how often that is a false alarm."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from example_run import dice_of
from numpy.typing import NDArray

from pagelab.analysis.repeatability import EXPLAINED_99, MODIFIED_Z_99, SIZES, bimodal, outliers, warnings

Numbers = NDArray[np.float64]


def numbered(*rates: float) -> list[tuple[int, float]]:
    return [(10 + index, rate) for index, rate in enumerate(rates)]


def noise(dice: random.Random, count: int, deviation: float) -> list[tuple[int, float]]:
    return numbered(*(dice.lognormvariate(1.5, deviation) for _ in range(count)))


class TestBimodal:
    def test_the_spread_seen_near_the_cliff(self) -> None:
        groups = bimodal(numbered(6.9, 2.1, 7.1, 2.0, 6.7))
        assert groups is not None
        assert groups.slow == ((13, 2.0), (11, 2.1))
        assert groups.fast == ((14, 6.7), (10, 6.9), (12, 7.1))

    @pytest.mark.parametrize(
        "rates",
        [
            (6.9, 2.1, 7.1, 2.0),  # four
            (6.9, 6.8, 7.1, 7.0, 2.0),  # one alone is no group
            (5.00, 5.01, 5.001, 5.2, 5.201, 5.2),  # two groups, 4 % apart
            (2.0, 3.0, 4.0, 5.0, 6.0, 7.0),  # even
            (5.0, 5.0, 5.0, 5.0, 5.0),
            (0.0, 0.0, 5.0, 5.0, 5.0),
        ],
    )
    def test_no_two_groups(self, rates: tuple[float, ...]) -> None:
        assert bimodal(numbered(*rates)) is None


class TestOutliers:
    def test_it_is_named(self) -> None:
        assert outliers(numbered(97.5, 98.0, 9.57, 97.0, 98.5)) == [(12, 9.57)]

    @pytest.mark.parametrize(
        "rates",
        [
            (97.5, 98.0, 9.57, 97.0),  # four
            (5.0, 5.001, 5.002, 4.999, 5.1),  # 2 % away, though 50 times the median distance
            (3.0, 4.0, 5.0, 6.0, 7.0),
            (0.0, 1.0, 1.0, 1.0, 1.0),
        ],
    )
    def test_no_outlier(self, rates: tuple[float, ...]) -> None:
        assert outliers(numbered(*rates)) == []

    def test_among_equal_values(self) -> None:
        assert outliers(numbered(5.0, 5.0, 5.0, 5.0, 6.0)) == [(14, 6.0)]


class TestWarnings:
    @pytest.mark.parametrize(
        ("rates", "said", "remedy"),
        [
            ((), "no repetition counts", "raise `repetitions`"),
            ((5.0,), "only 1 repetition counts", "raise `repetitions`"),
            ((5.0, 6.0), "only 2 repetitions count", "raise `repetitions`"),
            ((4.0, 5.0, 6.0), "standard deviation is 20 % of the mean", "use more repetitions"),
            ((6.9, 2.1, 7.1, 2.0, 6.7), "two groups around 2.05 (trials 011, 013) and 6.9", "compare these trials"),
            ((97.5, 98.0, 9.57, 97.0, 98.5), "trial 012 with 9.57 tokens/s lies far", "read its llama.log"),
        ],
    )
    def test_each_says_what_to_do(self, rates: tuple[float, ...], said: str, remedy: str) -> None:
        found = list(warnings(numbered(*rates)))
        assert any(said in warning and remedy in warning for warning in found), found

    def test_nothing_to_warn_of(self) -> None:
        assert list(warnings(numbered(5.0, 5.1, 4.9, 5.05, 4.95))) == []

    def test_two_groups_are_not_outliers_as_well(self) -> None:
        found = list(warnings(numbered(6.90, 6.91, 6.92, 6.93, 2.10, 6.91, 2.11)))
        assert sum("two groups" in warning for warning in found) == 1
        assert not any("lie far" in warning for warning in found)

    def test_nothing_but_zeros(self) -> None:
        assert list(warnings(numbered(0.0, 0.0, 0.0, 0.0, 0.0))) == []


Judge = Callable[[Sequence[tuple[int, float]]], object]


@pytest.mark.parametrize("judge", [bimodal, outliers])
@pytest.mark.parametrize("count", [5, 7, 10, 22])
class TestFalseAlarms:
    """1 % is what the critical values are made for: 20 of 2,000 samples; 35 are 3.4 deviations more."""

    def test_wide_noise(self, judge: Judge, count: int) -> None:
        dice = dice_of(count)
        assert sum(bool(judge(noise(dice, count, 0.5))) for _ in range(2000)) <= 35

    def test_common_noise(self, judge: Judge, count: int) -> None:
        dice = dice_of(count)
        assert not any(judge(noise(dice, count, 0.02)) for _ in range(1000))


@pytest.mark.parametrize(("count", "least"), [(5, 95), (10, 99)])
def test_two_states_are_found_where_they_are(count: int, least: int) -> None:
    """States 2 and 7 tokens/s with a deviation of 5 %, at least two repetitions in each."""
    dice = dice_of(1)
    found = 0
    for _ in range(100):
        slow = dice.randint(2, count - 2)
        rates = [dice.lognormvariate(0, 0.05) * (2 if index < slow else 7) for index in range(count)]
        found += bimodal(numbered(*rates)) is not None
    assert found >= least


SAMPLES = 100_000
# Four standard errors of a share of 1 %, in these samples and in the 400,000 that the constants are from.
ROOM = 4 * (0.01 * 0.99 * (1 / SAMPLES + 1 / 400_000)) ** 0.5


def largest_explained(samples: Numbers) -> Numbers:
    """The share of the sum of squares that the best split of each sorted sample explains."""
    count = samples.shape[1]
    centred = samples - samples.mean(axis=1, keepdims=True)
    first = np.arange(2, count - 1)  # how many values the lower group has
    between = np.cumsum(centred, axis=1)[:, first - 1] ** 2 * count / (first * (count - first))
    explained: Numbers = between.max(axis=1) / (centred**2).sum(axis=1)
    return explained


def largest_modified_z(samples: Numbers) -> Numbers:
    """The modified z-score of the value that is furthest from the median of each sample."""
    distances = np.abs(samples - np.median(samples, axis=1, keepdims=True))
    largest: Numbers = 0.6745 * distances.max(axis=1) / np.median(distances, axis=1)
    return largest


@pytest.mark.parametrize("count", SIZES)
def test_the_critical_values_come_again(count: int) -> None:
    """The 99 % quantiles of normal samples; with more SAMPLES they come as exactly as is wanted."""
    samples = np.sort(np.random.default_rng(count).standard_normal((SAMPLES, count)), axis=1)
    for table, values in ((EXPLAINED_99, largest_explained(samples)), (MODIFIED_Z_99, largest_modified_z(samples))):
        low, high = np.quantile(values, (0.99 - ROOM, 0.99 + ROOM))
        assert low <= table[SIZES.index(count)] <= high
