"""Tests with answers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.significance import SIGNIFICANCE, compare_ranks, compare_rates, holm


def tails_by_integration(value: float, freedom: float) -> float:
    """Simpson's rule over the density from -value to value."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    steps = 2000
    width = 2 * value / steps
    heights = [(1 + (-value + index * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for index in range(steps + 1)]
    inside = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    return 1 - scale * inside * width / 3


class TestWelch:
    def test_known_answer(self) -> None:
        found = compare_rates([math.exp(x) for x in (0, 1, 2)], [math.exp(x) for x in (1, 3, 5)])
        assert found is not None
        # means 1 and 3, variances 1 and 4: e = sqrt(1/3 + 4/3) = 1.29099, t = 1.54919
        # freedom (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.94118
        assert found.value == pytest.approx(math.exp(2))
        assert found.p_value == pytest.approx(tails_by_integration(1.549193, 2.941176), abs=1e-6)
        half = (math.log(found.high) - math.log(found.low)) / 2
        assert tails_by_integration(half / 1.290994, 2.941176) == pytest.approx(0.05, abs=1e-6)
        assert math.log(found.low) + half == pytest.approx(2)

    @given(
        st.lists(st.floats(0.1, 100), min_size=3, max_size=8),
        st.lists(st.floats(0.1, 100), min_size=3, max_size=8),
    )
    def test_turned_around_it_is_the_inverse(self, first: list[float], second: list[float]) -> None:
        there, back = compare_rates(first, second), compare_rates(second, first)
        if there is None or back is None:
            assert there is back
            return
        assert there.value == pytest.approx(1 / back.value)
        assert there.low == pytest.approx(1 / back.high)
        assert there.p_value == pytest.approx(back.p_value)
        assert there.low <= there.value <= there.high

    @pytest.mark.parametrize(
        ("first", "second"),
        [((1, 2), (1, 2, 3)), ((1, 2, 3), (1,)), ((1, 2, 0), (1, 2, 3)), ((5, 5, 5), (6, 6, 6))],
    )
    def test_what_cannot_be_judged(self, first: tuple[float, ...], second: tuple[float, ...]) -> None:
        assert compare_rates(first, second) is None


class TestRanks:
    """Of the 20 ways to divide three and three, one has every value of the second above the first."""

    @pytest.mark.parametrize(
        ("second", "share", "p_value"),
        [
            ((4.0, 5.0, 6.0), 1.0, 2 / 20),
            ((0.1, 0.2, 0.3), 0.0, 2 / 20),
            ((2.5, 4.0, 5.0), 8 / 9, 4 / 20),
            ((0.5, 1.5, 9.0), 4 / 9, 1.0),
        ],
    )
    def test_known_answers(self, second: tuple[float, ...], share: float, p_value: float) -> None:
        found = compare_ranks((1.0, 2.0, 3.0), second)
        assert found.faster_share == pytest.approx(share)
        assert found.delta == pytest.approx(2 * share - 1)
        assert found.p_value == pytest.approx(p_value)

    def test_five_against_five_is_the_least_that_can_be_significant(self) -> None:
        least = [compare_ranks(range(count), range(100, 100 + count)).p_value for count in (4, 5)]
        assert least == pytest.approx([2 / math.comb(8, 4), 2 / math.comb(10, 5)])
        assert least[0] > SIGNIFICANCE > least[1]

    def test_of_ties_half_counts(self) -> None:
        assert compare_ranks((1.0, 2.0, 2.0), (2.0, 2.0, 3.0)).faster_share == pytest.approx(7 / 9)
        assert compare_ranks((2.0, 2.0, 2.0), (2.0, 2.0, 2.5)).faster_share == pytest.approx(6 / 9)

    @given(
        st.lists(st.floats(0.1, 100), min_size=3, max_size=8, unique=True),
        st.lists(st.floats(100.5, 200), min_size=3, max_size=8, unique=True),
    )
    def test_turned_around_it_is_the_opposite(self, first: list[float], second: list[float]) -> None:
        there, back = compare_ranks(first, second), compare_ranks(second, first)
        assert (there.delta, back.delta) == (1.0, -1.0)
        assert there.p_value == pytest.approx(back.p_value)


class TestHolm:
    def test_known_answer(self) -> None:
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_ends(self) -> None:
        assert holm([]) == []
        assert holm([0.2]) == [0.2]
        assert holm([0.7, 0.6]) == [1.0, 1.0]
