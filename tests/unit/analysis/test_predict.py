"""Predictions recover what trials were made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_disk import RATES
from example_raw import observation
from example_run import WEIGHTS, run_record, trial_record

from pagelab.analysis.access.touches import TokenTouches
from pagelab.analysis.predict import Measured, Missing, UsefulRate, predict_run, relative_errors, windows_bytes
from pagelab.errors import StoreError
from pagelab.store.observation import ObservedModel
from pagelab.store.record import ReadaheadWindow, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import KIB, MIB

COMPUTE_SECONDS = 0.01
USEFUL_RATE = 500e6


def seconds_per_token(share: float) -> float:
    """Of a dense model whose kernel drops the least recently used, which is always what comes next."""
    missing = WEIGHTS if share < 1 else 0.0
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
        assert point.low <= point.tokens_per_second < point.high
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


def test_room_for_what_one_token_touches_is_no_room_for_all_experts() -> None:
    """Ten blocks are touched by turns, two by each token; the least recently used is always what comes next."""
    model = ObservedModel(weights_bytes=10 * MIB, file_bytes=10 * MIB, bytes_per_token=2 * MIB)
    blocks = np.tile(np.arange(10), 4)
    touches = TokenTouches(blocks, np.arange(2, len(blocks) + 1, 2), MIB)
    missing = Missing(observation(1, 0.5, model=model, inference=None), touches)
    assert missing.kernel(5 * MIB) == 2 * MIB
    assert 0 < missing.bytes_per_token(5 * MIB, "best") < 2 * MIB
    assert missing.kernel(10 * MIB) == 0


def test_a_rate_measured_without_room_for_readahead_says_nothing_of_more_room() -> None:
    measured = [Measured(0.0, 32 * MIB, 1e8), Measured(0.5, 512 * MIB, 1e9)]
    collapsed, anyhow = (UsefulRate(measured, windows, 1.0) for windows in (64 * MIB, 0))
    assert collapsed.at(32 * MIB) == anyhow.at(32 * MIB) == pytest.approx((1e8, 1e8, 1e8))
    assert collapsed.at(64 * MIB)[1] == collapsed.at(128 * MIB)[1] == pytest.approx(1e9)
    assert 1e8 < anyhow.at(128 * MIB)[1] < 2e8


def test_two_windows_for_each_thread_are_read_ahead() -> None:
    trial = measured(1, 0.5).model_copy(
        update={"command": ["llama-cli", "--threads", "3"], "readahead": ReadaheadWindow(effective_kib=256)}
    )
    assert windows_bytes(trial) == 3 * 2 * 256 * KIB
    assert windows_bytes(trial.model_copy(update={"readahead": ReadaheadWindow()})) == 0
