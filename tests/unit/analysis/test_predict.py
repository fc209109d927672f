"""Predictions recover what trials were made of."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from example_disk import RATES
from example_raw import observation
from example_run import WEIGHTS, run_record, trial_record

from pagelab.analysis.bound import cyclic_random_miss_fraction
from pagelab.analysis.predict import predict_run, relative_errors
from pagelab.errors import StoreError
from pagelab.store.observation import ObservedModel
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore

COMPUTE_SECONDS = 0.01
USEFUL_RATE = 500e6


def seconds_per_token(share: float) -> float:
    """Of a dense model whose kernel misses the geometric mean of random replacement and everything."""
    missing = WEIGHTS * math.sqrt(cyclic_random_miss_fraction(share)) if share < 1 else 0.0
    return COMPUTE_SECONDS + missing / USEFUL_RATE


def measured(number: int, share: float) -> TrialRecord:
    record = trial_record(number, share, 1 / seconds_per_token(share))
    record.residency.achieved_fraction = share
    return record


def stored(
    results: Path, shares: tuple[float, ...], bytes_per_token: float = WEIGHTS
) -> tuple[RunStore, list[TrialRecord]]:
    run = run_record()
    store = RunStore.create(results, run.experiment, run.host, run.run_id)
    model = ObservedModel(weights_bytes=WEIGHTS, file_bytes=WEIGHTS, bytes_per_token=bytes_per_token)
    for number, share in enumerate(shares, 1):
        store.write_observation(observation(number, share, model=model, disk_rates=RATES, inference=None))
    return store, [measured(number, share) for number, share in enumerate(shares, 1)]


def test_the_rates_of_a_dense_model(tmp_path: Path) -> None:
    store, trials = stored(tmp_path, (1.0, 0.5, 0.25))
    (curve,) = predict_run(store, trials, [0.25, 0.4, 0.5, 0.75, 0.9])
    for point in curve.points:
        assert point.tokens_per_second == pytest.approx(1 / seconds_per_token(point.resident))
        assert point.low < point.tokens_per_second < point.high
        assert point.bounds["best"].missing_bytes_per_token == pytest.approx((1 - point.resident) * WEIGHTS)
    assert [point.measured is None for point in curve.points] == [False, True, False, True, True]
    others = [measured(10 + number, share) for number, share in enumerate((0.4, 0.75))]
    assert relative_errors(curve, others) == pytest.approx([0.0, 0.0])


def test_a_disk_that_is_twice_as_fast_halves_the_reading(tmp_path: Path) -> None:
    store, trials = stored(tmp_path, (1.0, 0.5))
    faster = replace(
        RATES, random=tuple(replace(one, bytes_per_second=2 * one.bytes_per_second) for one in RATES.random)
    )
    ((before,), (after,)) = (predict_run(store, trials, [0.5], disk)[0].points for disk in (None, faster))
    beyond = [1 / point.tokens_per_second - COMPUTE_SECONDS for point in (before, after)]
    assert beyond[1] == pytest.approx(beyond[0] / 2)


def test_without_pressure_nothing_is_learnt(tmp_path: Path) -> None:
    store, trials = stored(tmp_path, (1.0,))
    with pytest.raises(StoreError, match="no valid trial under pressure"):
        predict_run(store, trials, [0.5])


def test_experts_need_a_trace(tmp_path: Path) -> None:
    store, trials = stored(tmp_path, (1.0, 0.5), bytes_per_token=0.1 * WEIGHTS)
    with pytest.raises(StoreError, match="which experts its tokens touched"):
        predict_run(store, trials, [0.5])
