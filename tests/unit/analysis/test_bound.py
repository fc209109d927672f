"""The best that a trial could have done."""

import math
from dataclasses import replace

import pytest
from example_disk import RATES
from example_raw import observation
from example_run import trial_record

from pagelab.analysis.bound import bound_of, cyclic_random_miss_fraction, policy_bound, random_rate
from pagelab.units import KIB, MIB


@pytest.mark.parametrize(("share", "missed"), [(0.0, 1.0), (0.5, 0.797), (0.75, 0.454), (0.9, 0.193), (1.0, 0.0)])
def test_random_replacement(share: float, missed: float) -> None:
    found = cyclic_random_miss_fraction(share)
    assert found == pytest.approx(missed, abs=0.001)
    if 0 < share < 1:
        assert 1 - found == pytest.approx(math.exp(-found / share))


def test_reading_and_computing_overlap_or_not() -> None:
    found = policy_bound(1e9, 2e9, 0.3, 1.0)
    assert found.tokens_per_second == pytest.approx(2.0)
    assert found.serial_tokens_per_second == pytest.approx(1.25)
    assert found.fraction_of_bound == pytest.approx(0.5)
    assert policy_bound(1e9, 2e9, 0.8, 1.0).tokens_per_second == pytest.approx(1.25), "computing takes longer"
    assert policy_bound(0.0, None, 0.1, None).tokens_per_second == pytest.approx(10)


def test_what_is_not_known_is_absent() -> None:
    assert policy_bound(None, 1e9, 0.1, 1.0).tokens_per_second is None
    assert policy_bound(1e9, None, 0.1, 1.0).tokens_per_second is None
    assert policy_bound(0.0, 1e9, None, 1.0).tokens_per_second is None


def test_a_disk_that_slows_down_gives_bursts() -> None:
    assert not RATES.gives_bursts
    assert replace(RATES, last_second_bytes_per_second=0.5e9).gives_bursts
    assert not replace(RATES, first_second_bytes_per_second=None).gives_bursts
    assert RATES.most_bytes_per_second == MIB * 32 * 1e3, "the best of all ways"


def test_where_no_calibration_timed_a_token_reading_alone_bounds_it() -> None:
    record = trial_record(1, 0.0, 3.1)
    record.residency.achieved_fraction = 0.0
    found = bound_of(record, observation(1, disk_rates=RATES))
    assert found.compute_seconds_per_token is None
    assert found.tokens_per_second == pytest.approx(RATES.most_bytes_per_second / (64 * MIB))
    assert found.random.missing_bytes_per_token is None, "64 MiB are a part of these weights, as of a mixture"


def test_random_rates_are_interpolated() -> None:
    assert random_rate(RATES, 64 * KIB, 4) == pytest.approx(64 * KIB * 4 * 1e3)
    assert random_rate(RATES, 16 * KIB, 2) == pytest.approx(16 * KIB * 2 * 1e3), "linear in the logarithms"
    assert random_rate(RATES, 1, 0.5) == pytest.approx(4 * KIB * 1e3), "held at the ends"
    assert random_rate(replace(RATES, random=()), 4 * KIB, 1) is None


def test_the_disk_s_rate_is_the_highest_that_is_known() -> None:
    slow = replace(RATES, random=(), direct_bytes_per_second=1.0, page_cache_bytes_per_second=2.0)
    record = trial_record(1, 0.0, 3.1)
    seen = observation(1, disk_rates=slow)
    record.decode.seconds = 10.0
    record.reads.decode.device_bytes = 100 << 20
    found = bound_of(record, seen)
    assert found.read_rate_source == "this trial", "no bound is below what was reached"
    assert found.read_bytes_per_second is not None
    assert found.read_bytes_per_second >= (100 << 20) / 10
    assert bound_of(record, observation(1, disk_rates=RATES)).read_rate_source == "random"
