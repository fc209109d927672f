"""Which repetitions are warned of: two groups, outliers, too few; and how often that is a false alarm."""

import random
from collections.abc import Callable, Sequence

import pytest
from example_run import dice_of

from pagelab.analysis.repeatability import outliers, two_speeds, warnings


def numbered(*rates: float) -> list[tuple[int, float]]:
    return [(10 + index, rate) for index, rate in enumerate(rates)]


def noise(dice: random.Random, count: int, deviation: float) -> list[tuple[int, float]]:
    return numbered(*(dice.lognormvariate(1.5, deviation) for _ in range(count)))


class TestTwoSpeeds:
    def test_the_spread_seen_near_the_cliff(self) -> None:
        groups = two_speeds(numbered(6.9, 2.1, 7.1, 2.0, 6.7))
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
        assert two_speeds(numbered(*rates)) is None


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
            ((6.9, 2.1, 7.1, 2.0, 6.7), "two groups, around 2.05 (trials 011, 013) and 6.9", "compare these trials"),
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


@pytest.mark.parametrize("judge", [two_speeds, outliers])
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
def test_two_speeds_are_found_where_they_are(count: int, least: int) -> None:
    """States 2 and 7 tokens/s with a deviation of 5 %, at least two repetitions in each."""
    dice = dice_of(1)
    found = 0
    for _ in range(100):
        slow = dice.randint(2, count - 2)
        rates = [dice.lognormvariate(0, 0.05) * (2 if index < slow else 7) for index in range(count)]
        found += two_speeds(numbered(*rates)) is not None
    assert found >= least
