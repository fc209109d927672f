"""The first calibration, which does not know yet what llama.cpp takes, leaves the host what it needs."""

from hypothesis import given
from hypothesis import strategies as st

from pagelab.run.calibration import spare_bytes
from pagelab.units import GIB

SIZES = st.integers(min_value=0, max_value=2**50)


def test_the_reserve_is_left_and_on_a_small_host_half() -> None:
    assert spare_bytes(20 * GIB, 2 * GIB) == 18 * GIB
    assert spare_bytes(2 * GIB, 2 * GIB) == GIB


@given(SIZES, SIZES)
def test_something_is_left_to_both(available: int, reserve: int) -> None:
    spare = spare_bytes(available, reserve)
    assert spare >= available // 2
    assert available - spare >= min(reserve, available // 2)
