"""Everything derived comes again from the raw files alone, anywhere, and nothing that was measured changes."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from example_run import stored_run, trial_record
from example_trace import (
    FIRST,
    STEP,
    Request,
    add_trace,
    block_table,
    page_table,
    pages_in_order,
    reads_in_order,
    traced,
    trial_files,
)

from pagelab.analysis.analyze import Analysed, analyse_run, with_access
from pagelab.commands import cli
from pagelab.errors import StoreError
from pagelab.store.files import Owner, write_table
from pagelab.store.record import Access, ModelSources
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

MEASURED = ("llama.log", "tokens.parquet", "samples.parquet", "trace/trace.json", "trace/requests.json")


@dataclass(frozen=True)
class Done:
    notes: Sequence[str]


def convert(trace: Path, target: Path, owner: Owner | None) -> Done:
    """Raw files of these tests: the requests as JSON lines, of which a damaged one is left out and said."""
    requests, notes = [], []
    for number, line in enumerate((trace / "requests.json").read_text().splitlines(), start=1):
        try:
            requests.append(Request(**json.loads(line)))
        except json.JSONDecodeError:
            notes.append(f"requests.json: line {number} is damaged and left out")
    write_table(target / "block_io.parquet", block_table(requests), owner)
    write_table(target / "page_cache.parquet", page_table(pages_in_order(2.0, 2.1, MIB, MIB)), owner)
    return Done(notes)


def raw(requests: list[Request]) -> str:
    return "".join(json.dumps(vars(one)) + "\n" for one in requests)


def make_run(results: Path) -> RunStore:
    """Two traced trials, of which nothing is derived yet, and one without a trace."""
    records = [traced(trial_record(1, 0.5, 9.0)), traced(trial_record(2, 0.0, 4.0)), trial_record(3, 1.0, 80.0)]
    store = stored_run(results, records)
    for record in records[:2]:
        add_trace(store, record.trial)
        directory = store.trial_directory(record.trial)
        requests = [
            one
            for token in range(record.trial + 1)
            for one in reads_in_order(FIRST + token * STEP, FIRST + (token + 1) * STEP, 4 * MIB, 6 * MIB)
        ]
        (directory / "trace" / "requests.json").write_text(raw(requests))
        (directory / "llama.log").write_text("as it was")
    return store


def analysed(store: RunStore) -> Analysed:
    return analyse_run(store, convert)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return make_run(tmp_path / "results")


class TestAnalyseRun:
    def test_what_is_derived(self, store: RunStore) -> None:
        found = analysed(store)
        assert (found.computed, found.untraced, found.failed, found.notes) == ((1, 2), (3,), (), ())
        first, second, third = store.read_trials()
        assert (first.access.model_bytes, second.access.model_bytes) == (12 * MIB, 18 * MIB)
        assert first.access.reread_factor == 2.0
        assert third.access.document() == {}
        summary = pq.read_table(store.directory / "summary.parquet")
        assert summary["access.model_bytes"].to_pylist() == [12 * MIB, 18 * MIB, None]
        names = {path.name for path in store.trial_directory(1).iterdir()}
        assert names >= {
            "block_io.parquet",
            "page_cache.parquet",
            "access.json",
            "access_tokens.parquet",
            "access_layers.parquet",
            "access_experts.parquet",
            "access_tensors.parquet",
            "access_throughput.parquet",
            "access_map.parquet",
            "reuse.parquet",
        }

    def test_what_was_measured_stays(self, store: RunStore) -> None:
        before = trial_files(store.directory)
        records = store.read_trials()
        analysed(store)
        after = trial_files(store.directory)
        for name, content in before.items():
            if name.endswith(MEASURED) or name.startswith("trials/003") or name in ("run.json", "config.yml"):
                assert after[name] == content, name
        for old, new in zip(records, store.read_trials(), strict=True):
            assert new.sources.model.page_cache_bytes == new.access.page_added_bytes
            assert new.model_copy(update={"access": old.access, "sources": old.sources}) == old
            assert (new.sources.swap, new.sources.other) == (old.sources.swap, old.sources.other)

    def test_traced_pages_are_one_more_source_of_the_models_bytes(self, store: RunStore) -> None:
        record = store.read_trials()[0]
        record.sources.model = ModelSources(process_bytes=1000, refault_bytes=990, disagreement_fraction=0.01)
        near = with_access(record, Access(page_added_bytes=1002)).sources.model
        assert (near.page_cache_bytes, near.disagreement_fraction) == (1002, 0.01)
        far = with_access(record, Access(page_added_bytes=500)).sources.model
        assert far.disagreement_fraction == 0.5

    def test_twice_gives_the_same_bytes(self, store: RunStore) -> None:
        analysed(store)
        before = trial_files(store.directory)
        analysed(store)
        assert trial_files(store.directory) == before

    def test_another_place_gives_the_same_bytes(self, store: RunStore, tmp_path: Path) -> None:
        copy = tmp_path / "somewhere" / "else"
        shutil.copytree(store.directory, copy)
        analysed(store)
        shutil.move(store.directory, tmp_path / "gone")
        analysed(RunStore.open(copy))
        assert trial_files(copy) == trial_files(tmp_path / "gone")

    def test_derived_files_that_are_damaged_or_gone_come_again(self, store: RunStore) -> None:
        analysed(store)
        before = trial_files(store.directory)
        (store.trial_directory(1) / "block_io.parquet").write_bytes(b"damaged")
        (store.trial_directory(1) / "access.json").unlink()
        (store.directory / "summary.parquet").unlink()
        analysed(store)
        assert trial_files(store.directory) == before

    def test_damage_in_raw_files_is_said_and_the_rest_is_kept(self, store: RunStore) -> None:
        path = store.trial_directory(2) / "trace" / "requests.json"
        path.write_text(path.read_text() + '{"at": 2.0, "off')
        found = analysed(store)
        assert found.computed == (1, 2)
        assert found.notes == ("trial 002: requests.json: line 73 is damaged and left out",)
        document = store.read_trial_json(2, "access")
        assert document is not None
        assert document["notes"] == ["requests.json: line 73 is damaged and left out"]
        assert document["windows"]["decode"]["model_bytes"] == 18 * MIB

    def test_a_trial_that_cannot_be_used_is_left_and_the_others_are_done(self, store: RunStore) -> None:
        (store.trial_directory(1) / "trace" / "trace.json").write_text("{")
        before = trial_files(store.trial_directory(1))
        found = analysed(store)
        assert (found.computed, found.failed) == ((2,), (1,))
        assert found.notes[0].startswith("trial 001: left as it is: ")
        assert trial_files(store.trial_directory(1))["trial.json"] == before["trial.json"]

    def test_a_trace_of_a_newer_version(self, store: RunStore) -> None:
        path = store.trial_directory(1) / "trace" / "trace.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
        (note,) = analysed(store).notes
        assert "has schema version 99 and this pagelab reads up to 1: use a newer pagelab" in note


class TestCommand:
    @pytest.fixture(autouse=True)
    def conversion(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pagelab.traces.convert.convert", convert)

    def test_prints_what_it_did(self, store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
        cli.app(["analyze", str(store.directory)], standalone_mode=False)
        assert capsys.readouterr().out == f"{store.directory}: 2 trials computed again, 1 without a trace\n"

    def test_a_failed_trial_is_an_error_after_all_is_done(
        self, store: RunStore, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (store.trial_directory(1) / "trace" / "trace.json").unlink()
        with pytest.raises(StoreError, match="1 trial could not be computed again: restore what is named above"):
            cli.app(["analyze", str(store.directory)], standalone_mode=False)
        assert "! trial 001: left as it is: " in capsys.readouterr().out
        assert store.read_trials()[1].access.model_bytes == 18 * MIB
