"""How well a speed is known: of fewer than three repetitions nothing, and the more the better."""

import pytest
from example_run import dice_of

from pagelab.analysis.precision import relative_interval


@pytest.mark.parametrize("rates", [(), (5.0,), (5.0, 5.0), (5.0, 0.0, 5.0)])
def test_where_no_interval_is_known(rates: tuple[float, ...]) -> None:
    assert relative_interval(rates) is None


def test_equal_speeds_are_known_exactly_and_others_in_parts_of_themselves() -> None:
    assert relative_interval([7.0, 7.0, 7.0]) == 0.0
    narrow, wide = [9.9, 10.0, 10.1], [9.0, 10.0, 11.0]
    assert 0.01 < (relative_interval(narrow) or 0.0) < (relative_interval(wide) or 0.0)
    assert relative_interval([100 * rate for rate in wide]) == pytest.approx(relative_interval(wide))


def test_more_repetitions_make_it_narrower() -> None:
    dice = dice_of(1)
    rates = [10 + dice.gauss(0, 0.5) for _ in range(40)]
    few, many = relative_interval(rates[:5]), relative_interval(rates)
    assert few is not None
    assert many is not None
    assert many < few
