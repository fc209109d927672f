"""Student's t against closed forms and its density, and tests with answers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.significance import compare_rates, holm, student_t, student_t_tails


def tails_by_integration(value: float, freedom: float) -> float:
    """Simpson's rule over the density from -value to value."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    steps = 2000
    width = 2 * value / steps
    heights = [(1 + (-value + index * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for index in range(steps + 1)]
    inside = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    return 1 - scale * inside * width / 3


class TestStudentT:
    @given(st.floats(0, 200))
    def test_closed_forms(self, value: float) -> None:
        """Near 0 the argument of the beta function rounds to 1, which costs half of the digits."""
        assert student_t_tails(value, 1) == pytest.approx(1 - 2 / math.pi * math.atan(value), abs=1e-7)
        assert student_t_tails(value, 2) == pytest.approx(1 - value / math.sqrt(2 + value**2), abs=1e-7)
        assert student_t_tails(-value, 2) == student_t_tails(value, 2)

    @pytest.mark.parametrize("freedom", [2.2, 3.7, 8.0, 17.5, 90.0])
    @pytest.mark.parametrize("value", [0.3, 1.0, 2.5, 6.0])
    def test_the_area_outside(self, value: float, freedom: float) -> None:
        assert student_t_tails(value, freedom) == pytest.approx(tails_by_integration(value, freedom), abs=1e-9)

    @pytest.mark.parametrize(
        ("freedom", "uncertainty", "quantile"),
        [(1, 0.05, 12.7062), (2, 0.05, 4.3027), (4, 0.05, 2.7764), (30, 0.05, 2.0423), (4, 0.01, 4.6041)],
    )
    def test_the_printed_table(self, freedom: float, uncertainty: float, quantile: float) -> None:
        assert student_t(freedom, uncertainty) == pytest.approx(quantile, abs=5e-5)


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


class TestHolm:
    def test_known_answer(self) -> None:
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_ends(self) -> None:
        assert holm([]) == []
        assert holm([0.2]) == [0.2]
        assert holm([0.7, 0.6]) == [1.0, 1.0]
