"""An experiment in the background: whoever started it may go away, come back, end it, or find it killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import LAB, LAUNCHER, Call, frozen, needs_lab, needs_root, parent_of, write_config
from pagelab.units import MIB

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [needs_lab, needs_root, pytest.mark.usefixtures("dense_model", "nothing_in_background")]

# What experiment.yml does to a host that is set up.
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - {ansible.builtin.include_role: {name: experiment}}
"""


def status() -> dict[str, Any]:
    """What the launcher says about the experiment in the background."""
    answer = subprocess.run([str(LAUNCHER), "status"], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.fixture
def nothing_in_background() -> Iterator[None]:
    """Nothing before, and nothing after, whatever happens."""
    if status()["state"] != "absent":
        pytest.fail("there is an experiment in the background: see it with `pagelab follow`")
    yield
    if status()["state"] == "running":
        subprocess.run([str(LAUNCHER), "stop"], check=True)
    subprocess.run([str(LAUNCHER), "forget"], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where a test keeps everything: `host` stands for the host's results, `results` for those on the controller."""
    yield tmp_path
    for directory in ("host", "results"):
        shutil.rmtree(tmp_path / directory, ignore_errors=True)
    shutil.rmtree(LAB / "experiments", ignore_errors=True)


def config_of(place: Path, name: str = "detached") -> Path:
    """Two trials in RAM."""
    return write_config(
        place / f"{name}.yml", factors={"resident": [1.0]}, repetitions=2, inference={"tokens": 12, "threads": 1}
    )


@contextmanager
def making(place: Path, config: Path, **variables: object) -> Iterator[Call]:
    """`make experiment` in the background of the test; ended as by Ctrl-C where the test leaves it."""
    playbook = place / "experiment.yml"
    playbook.write_text(PLAYBOOK)
    given = {
        "pagelab_dir": str(LAB),
        "pagelab_cache": str(place / "cache"),
        "pagelab_results": str(place / "results"),
        "experiment_config": str(config),
        "experiment_results": str(place / "host"),
        **variables,
    }
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "localhost,", "-e", json.dumps(given), str(playbook)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(CHECKOUT / "ansible" / "roles"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "COLUMNS": "200",
        },
    )
    call = Call(process, place / "host")
    try:
        yield call
    finally:
        if process.poll() is None:
            go_away(call)


def make(place: Path, config: Path, **variables: object) -> Call:
    """`make experiment` to its end."""
    with making(place, config, **variables) as call:
        return call.finish()


def go_away(call: Call) -> None:
    """Press Ctrl-C, which goes to all processes of the terminal."""
    os.killpg(call.process.pid, signal.SIGINT)
    call.finish()


def assert_measured(call: Call) -> None:
    """To its end; the program that follows it runs on the same processors here, which may spoil the trials."""
    assert call.code == 0 or re.search(r"invalid trials: .*other processes took .*ansible", call.stdout), call.show()


def run_in(directory: Path) -> dict[str, Any]:
    """run.json of the only run."""
    (path,) = directory.glob("*/*/*/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def runs_in(directory: Path) -> list[Path]:
    """The runs."""
    return list(directory.glob("*/*/*/run.json"))


def test_who_goes_away_and_comes_back_loses_nothing(place: Path) -> None:
    config = config_of(place)
    with making(place, config) as call, frozen(call, "trial-001", has_read_bytes=MIB):
        go_away(call)
        there = status()
        assert there["state"] == "running"

        other = make(place, config_of(place, "another"))
        assert other.code != 0
        assert "another experiment runs on localhost (detached.yml)" in other.stdout, other.show()
        assert status() == there
    again = make(place, config)

    assert_measured(again)
    assert f"runs since {there['started_at'][:19]}" in again.stdout or "has ended" in again.stdout, again.show()
    for shown in ("trial 1/2", "trial 2/2", "Page: "):  # also what was said while nobody listened
        assert again.stdout.count(f"localhost │ {shown}") == 1, again.show()
    assert run_in(place / "results")["status"] == "complete"
    assert runs_in(place / "host") == []
    assert status()["state"] == "absent"


def test_a_killed_experiment_is_collected_as_it_is_and_resumed(place: Path) -> None:
    config = config_of(place)
    with making(place, config) as call:
        with frozen(call, "trial-002", has_read_bytes=MIB) as llama:
            os.kill(parent_of(llama), signal.SIGKILL)
        call.finish()
    assert call.code != 0
    assert "killed; to go on where it ended: make experiment HOST=localhost RESUME=1" in call.stdout, call.show()
    assert "0 of 1 host done; not done: localhost" in call.stdout, call.show()
    here, there = run_in(place / "results"), run_in(place / "host")
    assert here == there
    assert (here["status"], here["trials_done"]) == ("incomplete", 1)

    resumed = make(place, config, experiment_resume=True)
    assert_measured(resumed)
    record = run_in(place / "results")
    assert (record["run_id"], record["status"], record["trials_done"]) == (here["run_id"], "complete", 2)
    assert runs_in(place / "host") == []


def test_one_that_is_stopped_says_so(place: Path) -> None:
    with making(place, config_of(place)) as call:
        with frozen(call, "trial-001", has_read_bytes=MIB):
            stopping = subprocess.Popen([str(LAUNCHER), "stop"], stdout=subprocess.DEVNULL)
        stopping.wait(timeout=90)
        call.finish()
    assert call.code != 0
    assert "stopped before its end" in call.stdout, call.show()
    assert run_in(place / "results")["status"] == "incomplete"


def test_results_that_cannot_come_here_stay_and_come_later(place: Path) -> None:
    """Where they should go there is a file in the way."""
    config = config_of(place)
    (place / "results").write_text("in the way")
    first = make(place, config)
    assert first.code != 0
    assert "0 of 1 host done" in first.stdout, first.show()
    assert run_in(place / "host")["status"] == "complete"
    assert status()["state"] == "exited"

    (place / "results").unlink()
    second = make(place, config)
    assert_measured(second)
    assert run_in(place / "results")["status"] == "complete"
    assert runs_in(place / "host") == []


def test_the_launcher_refuses_what_would_lose_something(place: Path) -> None:
    config = config_of(place)

    def launch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(LAUNCHER), *map(str, arguments)], capture_output=True, text=True, cwd=place, check=False
        )

    assert launch("start").returncode == 2
    assert launch("follow", "--skip", "x").returncode == 2
    assert launch("start", config, "--results", place / "host").returncode == 0
    assert "•" in launch("follow", "--seconds", "60").stdout  # it has said something, so it can be interrupted
    assert "still running" in launch("forget").stderr
    again = launch("start", config, "--results", place / "host")
    assert again.returncode == 2
    assert "is here already (running)" in again.stderr
    assert '"exit_code": 130' in launch("stop").stdout
    assert launch("start", config, "--results", place / "host").returncode == 2  # not seen by anybody yet
    assert "interrupted" in launch("follow").stdout
    assert launch("forget").returncode == 0
