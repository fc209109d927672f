"""A sweep of the share of the weights that may stay in RAM: what is asked for is what is there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import DENSE, eventually, fetched_models, frozen, needs_lab, needs_root, run, starting, write_config
from pagelab.host.cgroup import Group, parent_path
from pagelab.host.page_cache import resident_bytes
from pagelab.models.gguf_map import read_gguf_map
from pagelab.pressure.applied import share_bytes
from pagelab.pressure.follow import STEP_BYTES
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

pytestmark = [needs_root, needs_lab]

SHARES = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
TOLERANCE = 0.03  # of the weights, as the README says
FLOOR = 16 * MIB  # below a tenth of the weights, so that only 0.0 asks for less
Sweep = dict[float, tuple[TrialRecord, RunStore]]
"""The trial of each share, and the run that it is in."""

MEMORY = {"swap_minimum": "256MiB", "floor": f"{FLOOR}"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """A trial of each share; one that missed it is run once more, since a stall of the machine may cost one."""
    directory = tmp_path_factory.mktemp("sweep")
    # With so little in RAM a token reads more than the whole model: eight are enough to see what stays.
    sections = {"factors": {"resident": SHARES}, "inference": {"tokens": 8}, "memory": MEMORY}
    config = write_config(directory / "sweep.yml", synthetic=DENSE | {"layers": 20}, **sections)
    with fetched_models(config):
        call = run(config, directory / "results")
        # What others read meanwhile makes a trial invalid, its share is no worse.
        assert call.code in (0, 1), call.show()
        trials = {share: (call.trial(resident=share), call.store) for share in SHARES}
        for share in [share for share, (trial, _) in trials.items() if abs(missed_by(trial, share)) > TOLERANCE]:
            again = run(config, directory / f"again-{share}", "--only", f"resident={share}")
            trials[share] = again.trial(resident=share), again.store
    yield trials
    shutil.rmtree(directory)


def missed_by(trial: TrialRecord, share: float) -> float:
    """How far the share that was seen is from the one that was asked for."""
    assert trial.residency.achieved_fraction is not None
    return trial.residency.achieved_fraction - max(share, FLOOR / trial.weights_bytes)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_that_was_asked_for_is_in_ram(sweep: Sweep, share: float) -> None:
    """Within 3 % of the weights, each of eleven; then nothing is said of it."""
    trial, _ = sweep[share]
    assert abs(missed_by(trial, share)) <= TOLERANCE, trial.validity.warnings
    assert not [warning for warning in trial.validity.warnings if "were resident while decoding" in warning]


def test_the_limit_follows_what_is_held_beside_the_weights(dense_model: Path, workspace: Path) -> None:
    """It is what the group holds beside the weights, plus their share: looked at while nothing in the group moves."""
    config = write_config(workspace / "follow.yml", factors={"resident": [0.5]}, memory=MEMORY)
    model = read_gguf_map(dense_model)
    share = share_bytes(model.weights_bytes, 0.5, FLOOR)
    with starting(config, workspace / "results") as call:
        # By then it decodes: more than once through the model is read by the second token only.
        with frozen(call, "trial-001", has_read_bytes=3 * model.weights_bytes):
            group = Group(parent_path() / "trial-001")

            def is_where_it_belongs() -> bool:
                found, resident = group.counters(), resident_bytes(dense_model, model.data_offset)
                assert found.limit_bytes is not None
                assert found.memory_bytes is not None
                return abs(found.limit_bytes - (found.memory_bytes - resident) - share) <= 2 * STEP_BYTES

            eventually(is_where_it_belongs, "the limit is what is held beside the weights, and their share", 30)
        call.finish()
    limit = call.trial().limit
    assert limit.share_bytes == share
    assert (limit.least_bytes or 0) < (limit.most_bytes or 0), "it moved"
    assert limit.effective


def test_residency_by_tensor_adds_up(sweep: Sweep) -> None:
    for trial, store in sweep.values():
        table = store.read_trial_table(trial.trial, "residency")
        assert table is not None
        rows = table.to_pylist()
        assert sum(row["bytes"] for row in rows) == trial.weights_bytes
        assert all(row["resident_before_bytes"] == 0 for row in rows)
        mean = sum(row["resident_decode_bytes"] for row in rows) / trial.weights_bytes
        assert mean == pytest.approx(trial.residency.achieved_fraction, abs=0.06)
