"""Ends and full disks at random moments: what was changed is put back, and no finished trial is lost or run again.

The moments are seeded. PAGELAB_KILLS says how many; docs/reliability.md has the figures of more than are tried here.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import (
    Call,
    eventually,
    fill,
    host_state,
    huge_pages,
    needs_lab,
    needs_root,
    restore,
    run,
    starting,
    write_config,
)
from pagelab.host.procfs import read_text

pytestmark = [needs_lab, needs_root, pytest.mark.usefixtures("dense_model")]

KILLS = int(os.environ.get("PAGELAB_KILLS", "1"))
RUN_SECONDS = 7.0  # from the start of the runner to the last end of a trial, about


def config_of(workspace: Path) -> Path:
    """Three short trials, each of which changes readahead, swappiness and huge pages."""
    before = host_state()
    return write_config(
        workspace / "kills.yml",
        factors={
            "resident": [0.5],
            "readahead_kib": [next(kib for kib in (1024, 2048) if kib != before.readahead_kib)],
            "swappiness": [next(value for value in (10, 80) if value != before.swappiness)],
            "huge_pages": [next(mode for mode in ("always", "never") if mode != before.huge_pages)],
        },
        repetitions=3,
        inference={"tokens": 8, "threads": 1},
    )


def runner_of(call: Call) -> int | None:
    """The runner in the container; the engine's client has the same words in its command line."""
    for directory in Path("/proc").glob("[0-9]*"):
        words = (read_text(directory / "cmdline") or "").split("\0")
        if str(call.results) in words and "python" in words[0]:
            return int(directory.name)
    return None


def kill_runner(call: Call, runner: int) -> None:
    os.kill(runner, signal.SIGKILL)


def kill_container(call: Call, runner: int) -> None:
    named = (read_text(f"/proc/{runner}/cgroup") or "").split("/")[-1]
    container = named.removeprefix("docker-").removesuffix(".scope")
    subprocess.run(["docker", "kill", container], capture_output=True, check=True)


def finished(results: Path) -> dict[str, int]:
    return {
        str(path.relative_to(results)): path.stat().st_mtime_ns for path in results.rglob("trials/*/observation.json")
    }


def end_at_random(config: Path, results: Path, moment: random.Random, end: Callable[[Call, int], None]) -> Call:
    """Start or go on, and end it somewhere between its first and its last breath."""
    with starting(config, results, "--resume") as call:
        runner = eventually(lambda: runner_of(call) or (call.process.poll() is not None and -1), "the runner starts")
        assert runner is not None
        time.sleep(moment.uniform(0.0, RUN_SECONDS))
        if call.process.poll() is None:
            end(call, runner)
        return call.finish()


@pytest.mark.parametrize("seed", range(KILLS))
def test_kill_9_at_a_random_moment(seed: int, workspace: Path) -> None:
    before, config, results = host_state(), config_of(workspace), workspace / "results"
    moment = random.Random(seed)  # noqa: S311 - moments, not secrets
    end_at_random(config, results, moment, moment.choice([kill_runner, kill_container]))
    kept = finished(results)
    undone = restore(workspace)
    assert undone.code == 0, undone.show()
    assert host_state() == before, undone.show()
    assert restore(workspace).stdout == "nothing was left to put back\n"
    again = run(config, results, "--resume")
    assert again.code in (0, 1), again.show()  # 1: others disturbed a trial
    assert finished(results).items() >= kept.items(), "what was finished is kept, and not run again"
    assert len(list(results.glob("*/*/*/run.json"))) == 1, again.show()
    assert host_state() == before


@pytest.mark.parametrize("seed", range(max(2, KILLS // 2)))
def test_an_end_in_order_at_a_random_moment(seed: int, workspace: Path) -> None:
    before, config, results = host_state(), config_of(workspace), workspace / "results"
    moment = random.Random(1000 + seed)  # noqa: S311 - moments, not secrets
    number = [signal.SIGINT, signal.SIGTERM][seed % 2]
    call = end_at_random(config, results, moment, lambda _call, runner: os.kill(runner, number))
    assert call.code in (130, 0, 1), call.show()
    assert host_state() == before, call.show()
    assert restore(workspace).stdout == "nothing was left to put back\n"
    assert huge_pages() == before.huge_pages


@pytest.mark.parametrize("seed", range(max(1, KILLS // 4)))
def test_a_disk_that_fills_up_at_a_random_moment(seed: int, workspace: Path, small_disk: Path) -> None:
    before, config, results = host_state(), config_of(workspace), small_disk / "results"
    moment = random.Random(2000 + seed)  # noqa: S311 - moments, not secrets
    call = end_at_random(config, results, moment, lambda _call, _runner: fill(small_disk) and None)
    assert call.code in (2, 3, 0, 1), call.show()
    assert call.code in (0, 1) or "free" in call.error, call.show()
    assert "Traceback" not in call.stderr
    kept = finished(results)
    (small_disk / "filler").unlink(missing_ok=True)
    again = run(config, results, "--resume")
    assert again.code in (0, 1), again.show()
    assert finished(results).items() >= kept.items()
    assert list(results.rglob("*.partial")) == []
    assert host_state() == before
