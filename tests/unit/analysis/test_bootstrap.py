"""Intervals against exact distributions, and scipy's own bootstrap."""

import math
import random

import numpy as np
import pytest
from example_run import dice_of
from scipy import stats

from pagelab.analysis.bootstrap import drawn_again, median_interval, median_ratio_interval


def sample(count: int, seed: int = 1) -> list[float]:
    dice = dice_of(seed)
    return [dice.lognormvariate(1.0, 0.4) for _ in range(count)]


def chance_that_the_median_is_at_most(place: int, count: int) -> float:
    """Of a sample drawn again from an odd number of values, by the binomial: half of it lies at this one or below."""
    share = place / count
    return sum(
        math.comb(count, number) * share**number * (1 - share) ** (count - number)
        for number in range((count + 1) // 2, count + 1)
    )


class TestMedian:
    @pytest.mark.parametrize("count", [3, 4, 5])
    def test_up_to_five_it_is_the_range(self, count: int) -> None:
        values = sample(count)
        assert median_interval(values) == (min(values), max(values))

    @pytest.mark.parametrize("count", [7, 9, 11, 21])
    def test_the_exact_distribution(self, count: int) -> None:
        values = sorted(sample(count))
        below = [chance_that_the_median_is_at_most(place, count) for place in range(1, count + 1)]
        expected = [values[sum(chance < end for chance in below)] for end in (0.025, 0.975)]
        assert min(abs(chance - end) for chance in below for end in (0.025, 0.975)) > 0.004, "else chance decides"
        assert median_interval(values) == pytest.approx(expected)

    @pytest.mark.parametrize("count", [6, 12, 40])
    def test_scipy_finds_the_same(self, count: int) -> None:
        values = sample(count)
        found = stats.bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(7))
        width = max(values) - min(values)
        expected = (found.confidence_interval.low, found.confidence_interval.high)
        assert median_interval(values) == pytest.approx(expected, abs=0.03 * width)

    def test_the_order_of_the_values_is_nothing(self) -> None:
        values = sample(12)
        shuffled = random.Random(5).sample(values, len(values))  # noqa: S311 - no secret
        assert median_interval(shuffled) == median_interval(values)

    def test_equal_values_have_no_width(self) -> None:
        assert median_interval((4.0, 4.0, 4.0)) == (4.0, 4.0)

    def test_two_say_nothing(self) -> None:
        assert median_interval((4.0, 5.0)) is None

    def test_it_holds_the_truth_as_often_as_is_said(self) -> None:
        """docs/statistics.md says 95 % of samples of ten; three deviations of 200 samples are 5 %."""
        dice = dice_of(3)
        held = 0
        for _ in range(200):
            interval = median_interval([dice.lognormvariate(0.0, 0.1) for _ in range(10)])
            assert interval is not None
            held += interval[0] <= 1.0 <= interval[1]
        assert held / 200 == pytest.approx(0.95, abs=0.05)


class TestRatioOfMedians:
    def test_three_against_three_is_the_range_over_all_pairs(self) -> None:
        assert median_ratio_interval((80.0, 84.0, 82.0), (8.0, 10.0, 9.0)) == (80 / 10, 84 / 8)

    def test_scipy_finds_the_same(self) -> None:
        first, second = sample(10, seed=1), sample(14, seed=2)

        def ratio(above: np.ndarray, below: np.ndarray, axis: int) -> np.ndarray:
            return np.median(above, axis=axis) / np.median(below, axis=axis)

        found = stats.bootstrap((first, second), ratio, method="percentile", rng=np.random.default_rng(7))
        expected = (found.confidence_interval.low, found.confidence_interval.high)
        assert median_ratio_interval(first, second) == pytest.approx(expected, rel=0.02)

    def test_the_other_way_round_it_is_the_inverse(self) -> None:
        there = median_ratio_interval(sample(9, 1), sample(9, 2))
        back = median_ratio_interval(sample(9, 2), sample(9, 1))
        assert there is not None
        assert back is not None
        assert there == pytest.approx((1 / back[1], 1 / back[0]), rel=0.02)

    def test_what_has_none(self) -> None:
        assert median_ratio_interval((1.0, 2.0), (1.0, 2.0, 3.0)) is None
        assert median_ratio_interval((1.0, 2.0, 3.0), (1.0, 2.0)) is None
        assert median_ratio_interval((1.0, 2.0, 3.0), (0.0, 2.0, 3.0)) is None


def test_groups_are_drawn_each_for_itself() -> None:
    drawn = drawn_again([3, 5, 4])
    assert drawn.shape == (10_000, 12)
    for first, last in ((0, 3), (3, 8), (8, 12)):
        group = drawn[:, first:last]
        counts = np.bincount(group.ravel(), minlength=12)
        assert counts.sum() == counts[first:last].sum()
        assert counts[first:last] / counts.sum() == pytest.approx(1 / (last - first), abs=0.01)
    assert np.array_equal(drawn, drawn_again([3, 5, 4]))
