"""A sweep of the share of the weights that may stay in RAM: what is asked for is what is there."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from lab import Call, needs_lab, needs_root, run, write_config
from pagelab.config import MemorySettings

pytestmark = [needs_root, needs_lab]

SHARES = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
TOLERANCE = 0.03  # of the weights
FLOOR = MemorySettings().floor


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, dense_model: Path) -> Iterator[Call]:
    directory = tmp_path_factory.mktemp("sweep")
    config = write_config(directory / "sweep.yml", factors={"resident": SHARES})
    call = run(config, directory / "results")
    assert call.code == 0, call.show()
    yield call
    shutil.rmtree(directory)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_that_was_asked_for_is_in_ram(sweep: Call, share: float) -> None:
    """Within 3 % of the weights; else the trial says by how much not, and what took the place."""
    trial = sweep.trial(resident=share)
    assert trial.residency.achieved_fraction is not None
    asked = max(share, FLOOR / trial.weights_bytes)
    strays = abs(trial.residency.achieved_fraction - asked) > TOLERANCE
    said = [warning for warning in trial.validity.warnings if "were resident while decoding" in warning]
    assert bool(said) == strays
    assert not strays or share < 0.3, "only near the floor there is something else to hold beside the weights"


def test_the_limit_follows_what_is_held_beside_the_weights(sweep: Call) -> None:
    """Sampled while decoding, it is what the group holds beside the weights, plus their share."""
    trial = sweep.trial(resident=0.5)
    table = sweep.store.read_trial_table(trial.trial, "samples")
    assert table is not None
    assert trial.time_to_first_token_seconds is not None
    apart = [
        abs(
            row["group_limit_bytes"]
            - (row["group_memory_bytes"] - row["model_resident_bytes"])
            - trial.limit.share_bytes
        )
        for row in table.to_pylist()
        if row["seconds"] > trial.time_to_first_token_seconds
    ]
    assert median(apart) <= TOLERANCE * trial.weights_bytes
    assert trial.limit.least_bytes is not None
    assert trial.limit.most_bytes is not None
    assert trial.limit.least_bytes <= trial.limit.most_bytes
    assert trial.limit.effective


def test_residency_by_tensor_adds_up(sweep: Call) -> None:
    for share in SHARES:
        trial = sweep.trial(resident=share)
        table = sweep.store.read_trial_table(trial.trial, "residency")
        assert table is not None
        rows = table.to_pylist()
        assert sum(row["bytes"] for row in rows) == trial.weights_bytes
        assert all(row["resident_before_bytes"] == 0 for row in rows)
        mean = sum(row["resident_decode_bytes"] for row in rows) / trial.weights_bytes
        assert mean == pytest.approx(trial.residency.achieved_fraction, abs=2 * TOLERANCE)
