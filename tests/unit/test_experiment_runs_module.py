"""What the host says of a run that is collected: which of its files are not what was written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from example_raw import raw_run

from collection import collecting, experiment_runs
from pagelab.analysis.analyze import analyse_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = raw_run(tmp_path / "results")
    analyse_run(store)
    return store.directory


def damage(run: Path) -> list[str]:
    (found,) = experiment_runs.listed(run.parents[2])
    name = run.relative_to(run.parents[2]).as_posix()
    assert experiment_runs.packed(run.parents[2], run.parents[2] / "outgoing", name)["damage"] == found["damage"]
    sentences: list[str] = found["damage"]
    return sentences


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def forget(run: Path) -> None:
    for name in ("checksums.json", "derived.json"):
        (run / name).unlink()


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda run: None, []),
    "no checksums": (forget, []),
    "a trace": (
        lambda run: flip(run / "trials/001/trace/cpu0.raw.zst"),
        ["trials/001/trace/cpu0.raw.zst is not what was written"],
    ),
    "an observation": (
        lambda run: flip(run / "trials/002/observation.json"),
        ["trials/002/observation.json is not what was written"],
    ),
    "a log that is gone": (lambda run: (run / "trials/002/llama.log").unlink(), ["trials/002/llama.log is missing"]),
    "a record": (lambda run: flip(run / "trials/002/trial.json"), ["trials/002/trial.json is not what was written"]),
    "a table": (
        lambda run: flip(run / "trials/001/reuse.parquet"),
        ["trials/001/reuse.parquet is not what was written"],
    ),
    "a trial that is gone": (
        lambda run: shutil.rmtree(run / "trials/003"),
        ["trials/003/observation.json is missing", "trials/003/trial.json is missing"],
    ),
    "a table too much": (
        lambda run: (run / "trials/002/reuse.parquet").touch(),
        ["trials/002/reuse.parquet was added"],
    ),
    "the run": (lambda run: flip(run / "run.json"), ["run.json is not what was written"]),
    "the summary": (lambda run: flip(run / "summary.parquet"), ["summary.parquet is not what was written"]),
    "the checksums": (
        lambda run: (run / "checksums.json").write_text('{"files": {"run.json": 5}}'),
        ["checksums.json is not what was written"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damage_is_named(run: Path, change: str) -> None:
    act, sentences = CHANGES[change]
    act(run)
    assert damage(run) == sentences


def test_many_sentences_become_few() -> None:
    assert collecting.shortened(["a", "b", "c", "d", "e"]) == ["a", "b", "c", "and 2 more files"]
    assert collecting.shortened(["a"]) == ["a"]


def test_what_was_computed_again_is_no_difference(run: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(run, here)
    (here / "derived.json").write_text("of another pagelab")
    (found,) = experiment_runs.listed(run.parents[2])
    manifest = collecting.read_manifest(found["manifest"])
    assert collecting.compare(here, manifest, complete_there=True) == "same"
    flip(here / "checksums.json")
    assert collecting.compare(here, manifest, complete_there=True) == "different"
