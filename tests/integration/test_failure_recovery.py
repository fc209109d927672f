"""What goes wrong in practice: nothing of the host stays changed, finished trials are kept, and the next run works."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import (
    DENSE,
    MODELS,
    Call,
    calling,
    eventually,
    fetched_models,
    fill,
    frozen,
    host_state,
    huge_pages,
    llama_in,
    needs_lab,
    needs_root,
    on_host,
    own_faults,
    parent_of,
    planned,
    restore,
    run,
    starting,
    typing,
    write_config,
)
from pagelab.config.factors import HUGE_PAGES_FILE
from pagelab.config.load import load_config
from pagelab.errors import HostError
from pagelab.host.cgroup import parent_path
from pagelab.host.journal import exclusive
from pagelab.host.procfs import process_read_bytes
from pagelab.models.catalog import model_path
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

pytestmark = [needs_lab, needs_root, pytest.mark.usefixtures("dense_model")]

# The model is read once to load it and once for the prompt: a process that has read four times as much decodes.
TIMES_READ_WHEN_DECODING = 4


def changed_knobs() -> dict[str, list[object]]:
    """Factors that change settings of the host, whatever they are now."""
    before = host_state()
    return {
        "readahead_kib": [next(kib for kib in (1024, 2048) if kib != before.readahead_kib)],
        "huge_pages": [next(mode for mode in ("always", "never") if mode != before.huge_pages)],
    }


def spill(workspace: Path, **factors: list[object]) -> Path:
    """Two trials: the first in RAM, the second half in RAM."""
    # One thread: threads that wait for each other are slow beyond measure on a machine that has other work.
    settings = {"tokens": 12, "threads": 1}
    for seed in range(100):  # of the order in which they run
        config = write_config(
            workspace / "spill.yml", factors={"resident": [1.0, 0.5], **factors}, inference=settings, order_seed=seed
        )
        if planned(config, resident=0.5).number == 2:
            return config
    raise AssertionError("no seed gives this order")


def finished(store: RunStore) -> dict[str, int]:
    """The trials that were measured, with the time of their last raw file."""
    return {path.parent.name: path.stat().st_mtime_ns for path in store.directory.glob("trials/*/observation.json")}


def model_bytes() -> int:
    (path,) = MODELS.glob(f"llama-{DENSE['layers']}x{DENSE['width']}-*.gguf")
    return path.stat().st_size


def assert_interrupted(call: Call) -> None:
    assert call.code == 130, call.show()
    assert call.error == "pagelab: interrupted; finished trials are kept, --resume goes on"
    assert "Traceback" not in call.stderr


def assert_one_sentence(call: Call, code: int) -> None:
    assert call.code == code, call.show()
    assert call.stderr.count("pagelab: ") == 1, call.show()
    assert call.error.startswith("pagelab: ")
    assert "Traceback" not in call.stderr


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_while_loading(workspace: Path) -> None:
    before = host_state()
    with starting(spill(workspace, **changed_knobs()), workspace / "results") as call:
        with frozen(call, "trial-002", has_read_bytes=MIB) as llama:
            assert (process_read_bytes(llama) or 0) < 2 * model_bytes()
            assert huge_pages() != before.huge_pages
            call.interrupt()
            assert not Path(f"/proc/{llama}").exists()
        assert host_state() == before
    assert_interrupted(call)
    assert call.store.read_run().status == "incomplete"
    assert list(finished(call.store)) == ["001"]
    assert own_faults(call.trial(resident=1.0)) == []


def test_ctrl_c_while_decoding(workspace: Path) -> None:
    before = host_state()
    with starting(spill(workspace, **changed_knobs()), workspace / "results") as call:
        with frozen(call, "trial-002", has_read_bytes=TIMES_READ_WHEN_DECODING * model_bytes()) as llama:
            assert host_state().readahead_kib != before.readahead_kib
            call.interrupt()
            assert not Path(f"/proc/{llama}").exists()
        assert host_state() == before
    assert_interrupted(call)
    assert list(finished(call.store)) == ["001"]


def test_ctrl_c_while_calibrating(workspace: Path) -> None:
    with starting(spill(workspace), workspace / "results") as call, frozen(call, "calibration"):
        call.interrupt()
    assert_interrupted(call)
    assert finished(call.store) == {}
    assert restore(workspace).stdout == "nothing was left to put back\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_impatience_is_no_less_tidy(number: signal.Signals, workspace: Path) -> None:
    """Ctrl-C over and over, or a container stopped, or a terminal closed."""
    before = host_state()
    with starting(spill(workspace, **changed_knobs()), workspace / "results") as call:
        with frozen(call, "trial-002", has_read_bytes=MIB) as llama:
            runner = parent_of(llama)
            with suppress(ProcessLookupError):
                while call.process.poll() is None:
                    os.kill(runner, number)
            call.finish()
        assert host_state() == before
    assert_interrupted(call)
    assert restore(workspace).stdout == "nothing was left to put back\n"


def test_ctrl_c_typed_in_a_terminal(workspace: Path) -> None:
    before = host_state()
    with typing("run", spill(workspace), "--results", workspace / "results", cwd=workspace) as terminal:
        results = workspace / "results"
        second = parent_path() / "trial-002"
        eventually(lambda: llama_in(second, results) and "trial 2/2" in terminal.text, "the second trial is shown")
        terminal.type("\x03")
        assert terminal.process.wait(timeout=60) == 130, terminal.text
        assert host_state() == before
    assert "pagelab: interrupted; finished trials are kept, --resume goes on" in terminal.text
    assert "Traceback" not in terminal.text


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def test_kill_9_of_the_runner_then_restore_then_resume(workspace: Path) -> None:
    before, knobs = host_state(), changed_knobs()
    config = spill(workspace, **knobs)
    with starting(config, workspace / "results") as call:
        with frozen(call, "trial-002", has_read_bytes=MIB) as llama:
            os.kill(parent_of(llama), signal.SIGKILL)
            call.finish()
        assert call.code == 128 + signal.SIGKILL, call.show()
        eventually(lambda: not Path(f"/proc/{llama}").exists(), "llama-cli dies with the runner", 10)
    left, trials = host_state(), finished(call.store)
    assert list(trials) == ["001"]
    assert left.groups != before.groups
    assert left.trace_instances != before.trace_instances
    assert (left.readahead_kib, left.huge_pages) == (knobs["readahead_kib"][0], knobs["huge_pages"][0])

    undone = restore(workspace)
    assert undone.code == 0, undone.show()
    assert host_state() == before
    assert f"back from {knobs['huge_pages'][0]} to {before.huge_pages}\n" in undone.stdout
    assert f"back from {knobs['readahead_kib'][0]} to {before.readahead_kib}\n" in undone.stdout
    assert "removed the control group" in undone.stdout
    assert "removed the trace instance" in undone.stdout
    assert restore(workspace).stdout == "nothing was left to put back\n"

    derived = call.store.directory / "trials" / "001" / "trial.json"
    as_it_was = derived.read_bytes()
    derived.unlink()  # as where the runner was killed between measuring and computing

    again = run(config, workspace / "results", "--resume")
    assert again.code == 0, again.show()
    assert again.store.directory == call.store.directory
    assert again.store.read_run().status == "complete"
    assert sorted(finished(again.store)) == ["001", "002"]
    assert finished(again.store)["001"] == trials["001"]
    assert derived.read_bytes() == as_it_was


def test_kill_9_within_what_the_budget_adds_then_resume(workspace: Path) -> None:
    """No interval is that narrow, so each of the two rounds that are left to the budget adds a trial."""
    budget = {"interval": 1e-9, "at_most": 5}
    config = write_config(
        workspace / "budget.yml",
        factors={"resident": [1.0]},
        repetitions=3,
        until=budget,
        inference={"tokens": 12, "threads": 1},
        trace={"block": False, "page_cache": False},
    )
    with starting(config, workspace / "results") as call, frozen(call, "trial-005") as llama:
        os.kill(parent_of(llama), signal.SIGKILL)
        call.finish()
    killed, trials = call.store.read_run(), finished(call.store)
    assert sorted(trials) == ["001", "002", "003", "004"]
    assert (killed.status, killed.trials_planned, killed.repeated) == ("incomplete", 5, [1, 1])

    again = run(config, workspace / "results", "--resume")
    assert again.code in (0, 1), again.show()
    record = again.store.read_run()
    assert (record.status, record.trials_planned, record.trials_done, record.repeated) == ("complete", 5, 5, [1, 1])
    assert {name: time for name, time in finished(again.store).items() if name != "005"} == trials
    assert [trial.repetition for trial in again.store.read_trials()] == [1, 2, 3, 4, 5]


def test_the_next_run_tidies_up_after_a_killed_one_and_says_so(workspace: Path) -> None:
    before = host_state()
    config = spill(workspace, **changed_knobs())
    with starting(config, workspace / "first") as call, frozen(call, "trial-002", has_read_bytes=MIB) as llama:
        os.kill(parent_of(llama), signal.SIGKILL)
        call.finish()
    next_run = run(config, workspace / "results", "--only", "resident=1.0")
    assert next_run.code == 0, next_run.show()
    noted = " ".join(next_run.stderr.split())
    assert f"left by an earlier run: set {HUGE_PAGES_FILE} back from" in noted
    assert "left by an earlier run: removed the control group" in noted
    assert host_state() == before


# --- llama.cpp dies ---------------------------------------------------------------------------------------------------


def test_llama_cpp_killed_by_the_kernel_for_memory(workspace: Path) -> None:
    """Anonymous weights that do not fit, in a group that the kernel may not swap (swappiness 0)."""
    config = spill(workspace, weights=["anonymous"], swappiness=[0])
    call = run(config, workspace / "results")
    assert call.code == 1, call.show()
    killed, fitting = call.trial(resident=0.5), call.trial(resident=1.0)
    assert killed.exit_status == -signal.SIGKILL
    assert not killed.validity.valid
    assert killed.validity.reasons[0].startswith("the kernel killed a process because the group ran out of memory")
    assert killed.validity.reasons[0] in " ".join(call.stderr.split())
    assert killed.decode.tokens_per_second is None
    assert own_faults(fitting) == []
    assert call.store.read_run().status == "complete"
    assert call.stdout.splitlines()[-1].startswith("Page: ")


def test_llama_cpp_killed_from_outside(workspace: Path) -> None:
    with starting(spill(workspace), workspace / "results") as call:
        with frozen(call, "trial-002", has_read_bytes=TIMES_READ_WHEN_DECODING * model_bytes()) as llama:
            os.kill(llama, signal.SIGKILL)
        call.finish()
    assert call.code == 1, call.show()
    killed = call.trial(resident=0.5)
    assert killed.validity.reasons[0] == "llama.cpp was killed from outside"
    assert own_faults(call.trial(resident=1.0)) == []
    assert call.store.read_run().status == "complete"


# --- damage and want --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_model(workspace: Path) -> Iterator[Path]:
    """A configuration of a model of its own, which a test may damage."""
    config = write_config(workspace / "small.yml", synthetic=DENSE | {"layers": 1, "seed": 2})
    with fetched_models(config):
        yield config


def test_a_truncated_model_is_refused_and_fetched_again(small_model: Path, workspace: Path) -> None:
    path = model_path(load_config(small_model).models[0], MODELS)
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    call = run(small_model, workspace / "results")
    assert_one_sentence(call, 3)
    assert call.error.startswith(f"pagelab: preflight: model dense: model file {path} has sha256 ")
    assert "truncated or another file" in call.error
    assert not list((workspace / "results").rglob("run.json"))

    answer = on_host("model", "fetch", small_model, "--models", MODELS)
    assert answer.returncode == 0, answer.stderr
    assert "changed" in answer.stdout
    assert path.read_bytes() == whole
    with calling("preflight", small_model, results=workspace / "results") as check:
        assert check.finish().code == 0, check.show()


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(small_disk: Path, workspace: Path) -> None:
    config, results = spill(workspace), small_disk / "results"
    with starting(config, results) as call:
        with frozen(call, "trial-002", has_read_bytes=MIB):
            filler = fill(small_disk)
            assert shutil.disk_usage(small_disk).free == 0
        call.finish()
    assert_one_sentence(call, 2)
    assert f"cannot write {call.store.directory}/trials/002/" in call.error
    assert "No space left on device" in call.error
    assert "free space on that disk or choose another place with --results" in call.error
    assert own_faults(call.trial(resident=1.0)) == []
    assert call.store.read_run().status == "incomplete"
    trials = finished(call.store)
    assert list(trials) == ["001"]
    assert list(results.rglob("*.partial")) == []

    refused = run(config, results, "--resume")
    assert_one_sentence(refused, 3)
    assert "free disk for results" in refused.error

    filler.unlink()
    again = run(config, results, "--resume")
    assert again.code == 0, again.show()
    assert again.store.read_run().status == "complete"
    assert finished(again.store)["001"] == trials["001"]
    assert [own_faults(record) for record in again.store.read_trials()] == [[], []]


def test_only_one_experiment_runs_at_a_time(workspace: Path) -> None:
    config = spill(workspace)
    with starting(config, workspace / "results") as first:
        with frozen(first, "calibration") as llama:
            runner = parent_of(llama)
            for refused in (run(config, workspace / "second"), restore(workspace)):
                assert_one_sentence(refused, 2)
                assert refused.error == (
                    f"pagelab: an experiment is running on this host (process {runner}); "
                    "wait for it, or stop it with Ctrl-C in its terminal"
                )
                assert Path(f"/proc/{llama}").exists()
        first.finish()
    assert first.code == 0, first.show()
    assert not list((workspace / "second").rglob("run.json"))


def test_a_run_of_another_experiment_is_not_gone_on_with(workspace: Path) -> None:
    first = spill(workspace)
    with starting(first, workspace / "results") as call, frozen(call, "trial-002"):
        call.interrupt()
    other = write_config(workspace / "spill.yml", inference={"tokens": 11, "threads": 1})
    again = run(other, workspace / "results", "--resume", "--only", "resident=1.0")
    assert again.code == 0, again.show()
    assert "no unfinished run of this very experiment to go on with" in " ".join(again.stderr.split())
    assert len(list((workspace / "results").glob("*/*/*/run.json"))) == 2


def test_only_one_experiment_holds_a_host_and_death_lets_go(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom pagelab.host.journal import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HostError, match=f"process {holder.pid}"), exclusive(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with exclusive(tmp_path):
        pass
