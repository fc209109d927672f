from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.trial_record import limit_was_reached
from pagelab.host.cgroup import GroupCounters
from pagelab.host.procfs import PAGE_BYTES
from pagelab.pressure.applied import group_limit_bytes, share_bytes
from pagelab.pressure.pin import pin_bytes
from pagelab.units import GIB, MIB

SIZES = st.integers(min_value=0, max_value=64 * GIB)


def test_the_notes_examples():
    """30 GB of RAM, a 13 GB model, 2 GB for the host: 28 GB for none of it in RAM, 21.5 GB for half."""
    assert pin_bytes(30 * GIB, 2 * GIB, 0) == 28 * GIB
    assert pin_bytes(30 * GIB, 2 * GIB, round(0.5 * 13 * GIB)) == 21.5 * GIB


@given(SIZES, SIZES, SIZES)
def test_pinning_is_whole_pages_and_never_takes_the_reserve(host, reserve, share):
    size = pin_bytes(host, reserve, share)
    assert size % PAGE_BYTES == 0
    assert size >= 0
    assert size == 0 or size + reserve + share <= host


def test_a_limit_leaves_the_share_beside_the_anonymous_memory():
    assert group_limit_bytes(64 * MIB, share_bytes(1000 * MIB, 0.5, 32 * MIB)) == 564 * MIB
    assert group_limit_bytes(64 * MIB, share_bytes(1000 * MIB, 0.0, 32 * MIB)) == 96 * MIB


@given(SIZES, SIZES, st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1))
def test_a_larger_share_never_gets_a_smaller_limit(anonymous, weights, one, other):
    low, high = (group_limit_bytes(anonymous, share_bytes(weights, share, MIB)) for share in sorted((one, other)))
    assert low <= high


def test_a_limit_is_reached_only_if_the_kernel_held_the_group_at_it():
    inside = GroupCounters(100, 50, 0, 0, 0, 0, 0)
    assert limit_was_reached(7, inside, 128) is True
    assert limit_was_reached(0, inside, 128) is False
    assert limit_was_reached(7, inside, 64) is False
    assert limit_was_reached(None, inside, 128) is None
