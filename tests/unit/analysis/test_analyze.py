"""Everything derived comes again from the raw files alone, anywhere, and nothing that was observed changes."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from example_raw import raw_run
from example_run import run_record, trial_record

from pagelab.analysis import validity
from pagelab.analysis.analyze import analyse_run
from pagelab.commands import cli
from pagelab.errors import StoreError
from pagelab.store.files import sha256_of
from pagelab.store.run_store import RunStore

RAW = {"observation.json", "llama.log", "output.txt", "tokens.parquet", "samples.parquet", "residency.parquet"}


def is_raw(name: str) -> bool:
    path = Path(name)
    return path.name in RAW or "trace" in path.parts or name in ("run.json", "config.yml", "checksums.json")


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def delete_derived(directory: Path) -> list[str]:
    gone = [name for name in files(directory) if not is_raw(name)]
    for name in gone:
        (directory / name).unlink()
    return gone


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return raw_run(tmp_path / "results")


class TestAnalyseRun:
    def test_what_is_derived(self, store: RunStore) -> None:
        found = analyse_run(store)
        assert (found.computed, found.failed, found.notes) == ([1, 2, 3], [], [])
        traced, baseline, refused = store.read_trials()
        assert traced.validity.valid, traced.validity.reasons
        assert baseline.validity.valid, baseline.validity.reasons
        assert refused.validity.reasons == ["mlock refused"]
        assert traced.residency.achieved_fraction == 0.5
        assert traced.access.reads is not None
        assert baseline.access.document() == {}
        summary = pq.read_table(store.directory / "summary.parquet")
        assert summary["residency.achieved_fraction"].to_pylist() == [0.5, 0.5, None]
        names = {path.name for path in store.trial_directory(1).iterdir()}
        assert names >= {"trial.json", "block_io.parquet", "page_cache.parquet", "access.json", "reuse.parquet"}

    def test_what_was_observed_stays(self, store: RunStore) -> None:
        before = files(store.directory)
        analyse_run(store)
        after = files(store.directory)
        assert {name: after[name] for name in before} == before

    def test_all_that_is_derived_comes_back_byte_for_byte(self, store: RunStore) -> None:
        analyse_run(store)
        before = files(store.directory)
        gone = delete_derived(store.directory)
        assert {"summary.parquet", "trials/001/trial.json", "trials/001/access.json"} <= set(gone)
        analyse_run(store)
        assert files(store.directory) == before

    def test_damaged_derived_files_come_again(self, store: RunStore) -> None:
        analyse_run(store)
        before = files(store.directory)
        (store.trial_directory(1) / "block_io.parquet").write_bytes(b"damaged")
        (store.trial_directory(2) / "trial.json").write_text("{")
        analyse_run(store)
        assert files(store.directory) == before

    def test_another_place_gives_the_same_bytes(self, store: RunStore, tmp_path: Path) -> None:
        copy = tmp_path / "somewhere" / "else"
        shutil.copytree(store.directory, copy)
        analyse_run(store)
        analyse_run(RunStore.open(copy))
        assert files(copy) == files(store.directory)

    def test_another_rule_of_validity_gives_another_verdict(
        self, store: RunStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analyse_run(store)
        assert store.read_trials()[0].validity.valid
        monkeypatch.setattr(validity, "OTHERS_BYTES", 1000)
        monkeypatch.setattr(validity, "OTHERS_SHARE", 0.0)
        analyse_run(store)
        (reason,) = store.read_trials()[0].validity.reasons
        assert "others read" in reason

    def test_traced_pages_are_a_source_of_the_models_bytes_before_the_verdict(self, store: RunStore) -> None:
        analyse_run(store)
        record = store.read_trials()[0]
        added = record.access.page_added_bytes
        assert record.sources.model.page_cache_bytes == added
        assert record.sources.model.disagreement_fraction is not None

    def test_every_raw_file_is_listed_with_its_checksum(self, store: RunStore) -> None:
        directory = store.trial_directory(1)
        listed = store.read_observation(1).raw_files
        there = {name for name in files(directory) if is_raw(name) and name != "observation.json"}
        assert listed.keys() == there
        assert all(sha256_of(directory / name) == digest for name, digest in listed.items())

    def test_a_trial_that_cannot_be_used_is_left_and_the_others_are_done(self, store: RunStore) -> None:
        analyse_run(store)
        before = (store.trial_directory(1) / "trial.json").read_bytes()
        (store.trial_directory(1) / "trace" / "trace.json").write_text("{")
        found = analyse_run(store)
        assert (found.computed, found.failed) == ([2, 3], [1])
        assert found.notes[0].startswith("trial 001: left as it is: ")
        assert (store.trial_directory(1) / "trial.json").read_bytes() == before

    def test_a_trace_of_a_newer_version(self, store: RunStore) -> None:
        path = store.trial_directory(1) / "trace" / "trace.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
        store.write_observation(store.read_observation(1))
        (note,) = analyse_run(store).notes
        assert "has schema version 99 and this pagelab reads up to 1: use a newer pagelab" in note

    def test_a_run_of_the_old_schema_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        store = RunStore.create(tmp_path, "spill", "lab1", "old")
        store.write_run(run_record().model_copy(update={"schema_version": 1}))
        store.write_trial(trial_record(1, 0.5, 9.0))
        with pytest.raises(
            StoreError, match="schema version 1, of an older pagelab, and this one reads version 2: use"
        ):
            RunStore.open(store.directory).read_run()


class TestCommand:
    def test_prints_what_it_did(self, store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
        cli.app(["analyze", str(store.directory)], standalone_mode=False)
        assert capsys.readouterr().out == f"{store.directory}: 3 trials computed again\n"

    def test_a_failed_trial_is_an_error_after_all_is_done(
        self, store: RunStore, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (store.trial_directory(1) / "trace" / "trace.json").unlink()
        with pytest.raises(StoreError, match="1 trial could not be computed again: restore what is named above"):
            cli.app(["analyze", str(store.directory)], standalone_mode=False)
        assert "! trial 001: left as it is: " in capsys.readouterr().out
        assert [trial.trial for trial in store.read_trials()] == [2, 3]
