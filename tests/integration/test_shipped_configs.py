"""Every configuration that comes with the lab, in miniature and for real: a small model, few tokens, two trials."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import CHECKOUT, DENSE, Call, needs_lab, needs_root, own_faults, run
from pagelab.host.procfs import total_memory_bytes
from pagelab.units import GIB

pytestmark = [needs_root, needs_lab, pytest.mark.usefixtures("dense_model")]

CONFIGS = sorted((CHECKOUT / "runner" / "configs").glob("*.yml"))


def both_ends(document: dict[str, Any]) -> dict[str, list[Any]]:
    """Of the factor that the experiment is about the first and the last value, of each other one the last."""
    lists: dict[str, list[Any]] = document["factors"]
    about = next((name for name, values in lists.items() if len(values) > 1 and name != "resident"), "resident")
    kept = {name: [values[0], values[-1]] if name == about else values[-1:] for name, values in lists.items()}
    return {name: list(dict.fromkeys(values)) for name, values in kept.items()}


def miniature(path: Path, results: Path) -> Call:
    document = yaml.safe_load(path.read_text())
    small = {
        "models": [{"name": document["models"][0]["name"], "source": {"synthetic": DENSE}}],
        "factors": both_ends(document),
        "repetitions": 1,
        "until": None,
        "inference.tokens": 6,
        # What is locked is 1.5 GiB less the weights, on a machine of any size.
        "memory": {"swap_minimum": "256MiB", "os_reserve": total_memory_bytes() - 3 * GIB // 2, "fence_reserve": True},
    }
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return run(path, results, *settings)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_runs(path: Path, workspace: Path) -> None:
    call = miniature(path, workspace / "results")
    trials = list(call.store.read_trials())
    assert call.store.read_run().status == "complete", call.show()
    assert len(trials) == len({trial.factors.label() for trial in trials}) > 0
    for trial in trials:
        assert own_faults(trial) == []
        assert trial.bound.fraction_of_bound is not None
        assert (trial.throughput.read_bytes_per_second or 0) <= (trial.bound.read_bytes_per_second or 0)
        assert trial.readahead.effective_kib != 0
    claims = len(yaml.safe_load(path.read_text()).get("hypotheses", []))
    assert call.stdout.count("? ") == claims, call.show()
