"""Other processes beside a trial: it is marked, with the reason and the name of who it was.

One that reads from the model's disk is in test_known_answers.py.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import eventually, llama_in, needs_lab, needs_root, starting, write_config
from pagelab.host.cgroup import parent_path

pytestmark = [needs_root, needs_lab, pytest.mark.usefixtures("dense_model")]

PYTHON = Path("/usr/bin/python3")
BUSY_LOOP = "while True: pass"
# Over and over through 1 GiB: it takes memory and its bandwidth.
MEMORY_HOG = "memory = bytearray(1 << 30)\nwhile True: memory[:] = bytes(len(memory))"


@contextmanager
def beside(programs: dict[str, str], directory: Path) -> Iterator[None]:
    """Processes of names of their own."""
    running = []
    for name, program in programs.items():
        (directory / name).symlink_to(PYTHON)
        running.append(subprocess.Popen([directory / name, "-c", program]))
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_who_took_the_processors_is_named_and_the_trial_is_invalid(workspace: Path) -> None:
    config = write_config(workspace / "trial.yml", factors={"resident": [0.5]}, inference={"tokens": 8})
    with starting(config, workspace / "results") as call:
        eventually(lambda: llama_in(parent_path() / "trial-001", call.results), "the trial has begun")
        with beside({"busyloop": BUSY_LOOP, "memoryhog": MEMORY_HOG}, workspace):
            call.finish()
    assert call.code == 1, call.show()
    trial = call.trial(resident=0.5)
    seen = trial.disturbance
    assert (seen.other_cpu_fraction or 0.0) > 0.1
    assert (seen.run_delay_seconds or 0.0) > 0.0
    assert not trial.validity.valid
    (reason,) = [reason for reason in trial.validity.reasons if "other processes took" in reason]
    for name in ("busyloop", "memoryhog"):
        assert name in reason
        assert name in call.stdout
