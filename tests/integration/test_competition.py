"""Other processes beside a trial: it is marked, with the reason and the name of who it was."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import needs_lab, needs_root, run, write_config
from pagelab.store.record import TrialRecord

pytestmark = [needs_root, needs_lab, pytest.mark.usefixtures("dense_model")]

BUSY_LOOP = ["sh", "-c", "while :; do :; done"]


@contextmanager
def competitors(name: str, workspace: Path) -> Iterator[None]:
    """A busy loop for each processor, under a name of its own."""
    shell = workspace / name
    shutil.copy(shutil.which("sh") or "/bin/sh", shell)
    loops = [subprocess.Popen([shell, *BUSY_LOOP[1:]]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def trials(workspace: Path, name: str) -> list[TrialRecord]:
    config = write_config(
        workspace / f"{name}.yml", factors={"resident": [1.0, 0.5]}, repetitions=1, inference={"tokens": 8}
    )
    return list(run(config, workspace / name).store.read_trials())


def test_busy_processes_are_named_and_the_trials_are_invalid(tmp_path: Path) -> None:
    with competitors("busyloop", tmp_path):
        disturbed = trials(tmp_path, "disturbed")
    for trial in disturbed:
        seen = trial.disturbance
        assert (seen.other_cpu_fraction or 0.0) > 0.1
        assert "busyloop" in (seen.other_processes or "")
        assert not trial.validity.valid
        assert any("busyloop" in reason for reason in trial.validity.reasons), trial.validity.reasons


def test_alone_on_the_host_a_trial_waits_for_nobody(tmp_path: Path) -> None:
    for trial in trials(tmp_path, "alone"):
        assert trial.disturbance.other_cpu_fraction is not None
        assert not any("busyloop" in reason for reason in trial.validity.reasons)
