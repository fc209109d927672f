"""Every configuration that comes with the lab, in miniature and for real: a small model, few tokens, one trial."""

import json
from pathlib import Path

import pytest
import yaml

from lab import CHECKOUT, DENSE, LAB, Call, needs_lab, needs_root, own_faults, run
from pagelab.config.load import load_config
from pagelab.host.procfs import total_memory_bytes
from pagelab.units import GIB
from time_left import NOT_COMPILED

pytestmark = [needs_root, needs_lab, pytest.mark.usefixtures("dense_model")]

CONFIGS = sorted((CHECKOUT / "runner" / "configs").glob("*.yml"))


def skip_without_engines(path: Path) -> None:
    missing = [engine for engine in load_config(path).engines() if not (LAB / "llama.cpp" / engine).exists()]
    if missing:
        pytest.skip(f"{NOT_COMPILED}: make provision CONFIG={path.relative_to(CHECKOUT)} compiles it in five minutes")


def miniature(path: Path, results: Path) -> Call:
    document = yaml.safe_load(path.read_text())
    small = {
        "models": [{"name": document["models"][0]["name"], "source": {"synthetic": DENSE}}],
        "factors": {name: values[-1:] for name, values in document["factors"].items()},
        "repetitions": 1,
        "until": None,
        "inference.tokens": 4,
        # What is locked is 1.5 GiB less the weights, on a machine of any size.
        "memory": {"swap_minimum": "256MiB", "os_reserve": total_memory_bytes() - 3 * GIB // 2, "fence_reserve": True},
    }
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return run(path, results, *settings)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_runs(path: Path, workspace: Path) -> None:
    skip_without_engines(path)
    call = miniature(path, workspace / "results")
    assert call.store.read_run().status == "complete", call.show()
    (trial,) = call.store.read_trials()
    assert own_faults(trial) == []
    assert trial.bound.fraction_of_bound is not None
    assert (trial.throughput.read_bytes_per_second or 0) <= (trial.bound.read_bytes_per_second or 0)
    assert trial.readahead.effective_kib != 0
    claims = len(yaml.safe_load(path.read_text()).get("hypotheses", []))
    assert call.stdout.count("? ") == claims, call.show()
