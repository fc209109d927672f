"""What --resume finds: a run that lacks trials, or a complete one that was ended before its page was written."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_raw import CONFIG, raw_run
from example_run import run_record

from pagelab.commands import cli
from pagelab.config.load import parse_config
from pagelab.config.schema import Config
from pagelab.errors import StoreError
from pagelab.inference.build import Build
from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.run.experiment import RunInProgress, close, identity_of, mend, other_than_pin, resumed
from pagelab.run.lab import Lab
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.store.verify import verify

BUILD = Build(Path("/nowhere"), "6eea6669c2d9", 7213, "pypi", is_pin=False, files={"bin/llama-cli": "0" * 64})
MODEL = b"what identifies a model is its sha256"

# Ends the run and writes its page; the process kills itself when it writes to the disk for the nth time.
ENDING = """
import os, signal, sys
from pathlib import Path
from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.run.experiment import RunInProgress, close
from pagelab.store.run_store import RunStore

store, left, fsync = RunStore.open(Path(sys.argv[1])), int(sys.argv[2]), os.fsync

def killing(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)

os.fsync = killing
close(RunInProgress(store, store.read_run()))
write_report(RunData.read(store))
"""


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def begin(self, label: str, expected_tokens: int) -> None:
        raise AssertionError("nothing is measured here")

    def phase(self, name: str, tokens: int) -> None:
        raise AssertionError("nothing is measured here")

    def trial_done(self, record: TrialRecord, done: int, planned: int) -> None:
        raise AssertionError("nothing is measured here")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "build", tmp_path / "models", tmp_path / "results", tmp_path / "state")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "m.gguf").write_bytes(MODEL)
    text = CONFIG.replace("/m.gguf", str(tmp_path / "m.gguf"))
    return parse_config(text % hashlib.sha256(MODEL).hexdigest(), "test")


@pytest.fixture
def store(lab: Lab, config: Config) -> RunStore:
    """A run of which every trial is measured, and one is not computed yet."""
    store = raw_run(lab.results_directory)
    record = run_record(
        identity=identity_of(config, lab, {"pin": BUILD}), status="incomplete", trials_planned=3, trials_done=3
    )
    store.write_run(record)
    mend(store, config, Heard())
    (store.directory / "trials/002/trial.json").unlink()
    return store


def resume(lab: Lab, config: Config, heard: Heard) -> RunInProgress | None:
    return resumed(config, lab, {"pin": BUILD}, heard)


def finish(run: RunInProgress) -> Path:
    """What an experiment does when no trial is left."""
    if run.record.status == "incomplete":
        close(run)
    return write_report(RunData.read(run.store))


def measured(store: RunStore) -> dict[str, int]:
    """The raw files, by name, with their time."""
    names = ("observation.json", "llama.log", "tokens.parquet", "cpu0.raw.zst")
    return {str(path): path.stat().st_mtime_ns for name in names for path in store.directory.rglob(name)}


def test_trials_that_were_not_computed_are_computed(store: RunStore, lab: Lab, config: Config) -> None:
    heard, before = Heard(), measured(store)
    run = resume(lab, config, heard)
    assert run is not None
    assert heard.notes == [f"going on with {store.directory}: 3 trials are finished"]
    assert verify(store) == []
    finish(run)
    assert store.read_run().status == "complete"
    assert measured(store) == before


def test_a_complete_run_with_its_page_is_left_alone(store: RunStore, lab: Lab, config: Config) -> None:
    run = resume(lab, config, Heard())
    assert run is not None
    finish(run)
    heard = Heard()
    assert resume(lab, config, heard) is None
    assert heard.notes == ["no unfinished run of this very experiment to go on with; starting a new one"]


def test_a_page_of_an_incomplete_run_is_not_that_of_the_complete_one(store: RunStore, lab: Lab, config: Config) -> None:
    run = resume(lab, config, Heard())
    assert run is not None
    write_report(RunData.read(store))
    close(run)
    assert not store.page_path.exists()
    again = resume(lab, config, Heard())
    assert again is not None
    assert again.record.status == "complete"


@pytest.mark.parametrize("writes", [2, 9, 25])
def test_killed_after_the_last_trial(store: RunStore, lab: Lab, config: Config, writes: int) -> None:
    mend(store, config, Heard())
    before = measured(store)
    ended = subprocess.run([sys.executable, "-c", ENDING, str(store.directory), str(writes)], check=False)
    assert ended.returncode == -9
    assert not store.page_path.exists()
    heard = Heard()
    run = resume(lab, config, heard)
    assert run is not None
    assert run.store.directory == store.directory
    assert finish(run).is_file()
    assert measured(store) == before
    assert verify(store) == []
    assert not list(store.directory.rglob("*.partial"))
    assert resume(lab, config, Heard()) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which a run has room, and its report has not."""
    place = tmp_path / "results"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a file system of 600 KiB cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_room_for_the_page(small_disk: Path, store: RunStore, lab: Lab, config: Config) -> None:
    run = resume(lab, config, Heard())
    assert run is not None
    close(run)
    with (
        pytest.raises(StoreError) as refusal,
        cli.saying_that_the_page_is_left(store.directory),
    ):
        write_report(RunData.read(store))
    sentence = str(refusal.value)
    assert "No space left on device" in sentence
    assert f"only the page is left: `pagelab report {store.directory}` or --resume writes it" in sentence
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    heard, before = Heard(), measured(store)
    again = resume(lab, config, heard)
    assert again is not None
    assert heard.notes == [f"{store.directory} is complete: nothing is measured again, only its page is written"]
    assert finish(again).is_file()
    assert measured(store) == before


def test_an_interrupt_says_what_is_left(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), cli.saying_that_the_page_is_left(store.directory):
        raise KeyboardInterrupt
    assert f"only the page is left: `pagelab report {store.directory}`" in capsys.readouterr().err


def test_a_damaged_run_is_passed_over(store: RunStore, lab: Lab, config: Config) -> None:
    (store.directory / "config.yml").write_text("experiment: another\n")
    heard = Heard()
    assert resume(lab, config, heard) is None
    assert heard.notes[0].startswith(f"passed over: {store.directory}: config.yml is not what was recorded")


def test_a_damaged_trial_is_named_and_the_others_are_kept(store: RunStore, lab: Lab, config: Config) -> None:
    (store.trial_directory(1) / "trace" / "cpu0.raw.zst").write_bytes(b"")
    heard = Heard()
    assert resume(lab, config, heard) is not None
    assert heard.notes[0].startswith("trials/001/trace/cpu0.raw.zst is not what was recorded, it is empty")


def test_a_trial_that_was_deleted_is_measured_again(store: RunStore, lab: Lab, config: Config) -> None:
    shutil.rmtree(store.trial_directory(2))
    assert resume(lab, config, Heard()) is not None
    assert store.observed_trials() == [1, 3]


def test_a_run_on_two_engines_is_another_experiment_than_one_on_the_pin(lab: Lab, config: Config) -> None:
    newest = Build(Path("/nowhere"), "b11434", 11434, "pypi", is_pin=False, files={"bin/llama-completion": "1" * 64})
    one, both = (identity_of(config, lab, builds) for builds in ({"pin": BUILD}, {"pin": BUILD, "newest": newest}))
    assert both.llama_cpp_sha256 == one.llama_cpp_sha256
    assert (one.other_engines_sha256, both.other_engines_sha256) == ({}, {"newest": newest.sha256})
    assert identity_of(config, lab, {"newest": newest}).llama_cpp_commit == "b11434"
    assert (
        other_than_pin("newest", newest) == "engine newest is llama.cpp, build 11434 from pypi, not the pinned commit"
    )
    assert "declared stand-in" in (other_than_pin("pin", BUILD) or "")
