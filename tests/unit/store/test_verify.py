"""A file of a run that is not what was written is named, by everything that reads the run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from example_raw import raw_run
from example_run import run_record

from pagelab.analysis.analyze import analyse_run
from pagelab.analysis.compare import compare_runs
from pagelab.errors import StoreError
from pagelab.report.run_data import RunData
from pagelab.store.run_store import RunStore
from pagelab.store.verify import Finding, verify
from pagelab.terminal.comparison import comparison_renderable
from pagelab.terminal.summary import summary_renderable
from printed import printed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that is derived, which nobody changes."""
    store = raw_run(tmp_path_factory.mktemp("whole"))
    analyse_run(store)
    return store.directory


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> RunStore:
    directory = tmp_path / "results" / whole.name
    shutil.copytree(whole, directory)
    return RunStore.open(directory)


def found(store: RunStore) -> dict[str, str]:
    return {one.name: one.what for one in verify(store)}


def edit(path: Path) -> None:
    """Change a digit, or a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


RECORDED = [
    "observation.json",
    "llama.log",
    "output.txt",
    "tokens.parquet",
    "samples.parquet",
    "trace/trace.json",
    "trace/cpu0.raw.zst",
    "trace/cpu1.raw.zst",
]
COMPUTED = ["trial.json", "block_io.parquet", "page_cache.parquet", "access.json", "access_layers.parquet"]
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited": (edit, "is not what was {}"),
    "emptied": (lambda path: path.write_bytes(b""), "is not what was {}, it is empty"),
    "deleted": (Path.unlink, "is missing"),
}


def test_a_whole_run(store: RunStore) -> None:
    assert verify(store) == []
    assert RunData.read(store).damage == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", RECORDED + COMPUTED)
def test_a_file_of_a_trial(store: RunStore, name: str, damage: str) -> None:
    change, what = DAMAGES[damage]
    change(store.trial_directory(1) / name)
    kind = "recorded" if name in RECORDED else "derived"
    told = what.format("recorded" if kind == "recorded" else "computed")
    assert Finding(f"trials/001/{name}", told, kind, 1) in verify(store)
    assert {one.trial for one in verify(store)} == {1}


@pytest.mark.parametrize("name", ["run.json", "config.yml"])
@pytest.mark.parametrize("damage", ["edited", "emptied"])
def test_a_file_of_the_run(store: RunStore, name: str, damage: str) -> None:
    change, what = DAMAGES[damage]
    change(store.directory / name)
    assert found(store) == {name: what.format("recorded")}
    with pytest.raises(StoreError, match=name):
        RunData.read(store)
    with pytest.raises(StoreError, match=name):
        analyse_run(store)


def test_the_summary(store: RunStore) -> None:
    edit(store.directory / "summary.parquet")
    assert found(store) == {"summary.parquet": "is not what was computed"}
    analyse_run(store)
    assert verify(store) == []


@pytest.mark.parametrize("name", ["tokens.parquet", "observation.json"])
def test_files_that_changed_places(store: RunStore, name: str) -> None:
    store.write_trial_table(2, "tokens", store.read_trial_table(2, "tokens").slice(1))  # else they are equal
    store.write_observation(store.read_observation(2))
    swap(store.trial_directory(1) / name, store.trial_directory(2) / name)
    first, second = f"trials/001/{name}", f"trials/002/{name}"
    told = found(store)
    assert told[first] == f"is not what was recorded but {second}"
    assert told[second] == f"is not what was recorded but {first}"


def test_trials_that_changed_places(store: RunStore) -> None:
    swap(store.trial_directory(1), store.trial_directory(2))
    told = found(store)
    assert told["trials/001/observation.json"] == "is not what was recorded but trials/002/observation.json"
    assert told["trials/002/trial.json"] == "is not what was computed but trials/001/trial.json"
    (first, second) = analyse_run(store).notes
    assert "trials/001/observation.json is not what was recorded" in first
    assert "trials/002/observation.json is not what was recorded" in second


@pytest.mark.parametrize("name", ["residency.parquet", "trace/cpu2.raw.zst"])
def test_a_file_that_was_added_to_the_record(store: RunStore, name: str) -> None:
    shutil.copy(store.trial_directory(1) / "tokens.parquet", store.trial_directory(1) / name)
    assert found(store) == {f"trials/001/{name}": "was added to what was recorded"}
    assert analyse_run(store).failed == [1]


def test_a_table_that_was_added(store: RunStore) -> None:
    shutil.copy(store.trial_directory(1) / "reuse.parquet", store.trial_directory(2) / "reuse.parquet")
    assert found(store) == {"trials/002/reuse.parquet": "does not follow from what was recorded"}
    with pytest.raises(StoreError, match=r"trials/002/reuse\.parquet does not follow from what was recorded"):
        RunData.read(store)


def test_notes_of_the_user_are_named_and_do_no_harm(store: RunStore) -> None:
    (store.trial_directory(1) / "notes.txt").write_text("the fan was loud")
    (store.directory / "trials" / "copy of 001").mkdir()
    assert found(store) == {"trials/001/notes.txt": "is of no trial", "trials/copy of 001": "is of no trial"}
    assert len(RunData.read(store).trials) == 3


def test_a_trial_of_a_run_that_does_not_know_it(store: RunStore) -> None:
    shutil.copytree(store.trial_directory(2), store.directory / "trials" / "004")
    told = found(store)
    assert told["trials/004/observation.json"] == "was added to what was recorded"
    assert told["trials/004/trial.json"] == "does not follow from what was recorded"


def test_a_trial_that_is_gone_is_named_by_all(store: RunStore) -> None:
    shutil.rmtree(store.trial_directory(2))
    assert verify(store) == [Finding("trials/002", "is missing", "recorded", 2)]
    sentence = "trials/002 is missing: restore it from a copy, or repeat the trial"
    data = RunData.read(store)
    assert data.damage == [sentence]
    assert sentence in " ".join(printed(summary_renderable(data)).split())
    assert f"A: {sentence}" in " ".join(printed(comparison_renderable(compare_runs([store, store]))).split())
    answer = analyse_run(store)
    assert (answer.computed, answer.failed) == ([1, 3], [2])
    assert "trials/002 is missing" in answer.notes[0]


def test_a_trial_that_a_complete_run_never_had(tmp_path: Path) -> None:
    store = raw_run(tmp_path)
    store.write_run(run_record(trials_planned=4, trials_done=4))
    analyse_run(store)
    assert RunData.read(store).damage == ["trials of a complete run are missing, first trials/004"]


class TestDerived:
    """What is derived is refused where it is shown, and computed again."""

    def test_an_edited_speed(self, store: RunStore) -> None:
        path = store.trial_directory(1) / "trial.json"
        before = path.read_bytes()
        document = json.loads(before)
        document["decode"]["tokens_per_second"] *= 10
        path.write_text(json.dumps(document))
        for reader in (lambda: RunData.read(store), lambda: compare_runs([store, store])):
            with pytest.raises(
                StoreError, match=r"trials/001/trial\.json is not what was computed: `pagelab analyze` co"
            ):
                reader()
        assert analyse_run(store).notes == ["trial 001: trials/001/trial.json is not what was computed: computed again"]
        assert path.read_bytes() == before
        assert verify(store) == []

    @pytest.mark.parametrize("text", [None, "", "{", "[]", '{"schema_version": 2, "files": {"../../x": []}}'])
    def test_derived_json(self, store: RunStore, text: str | None) -> None:
        path = store.directory / "derived.json"
        before = path.read_bytes()
        path.unlink() if text is None else path.write_text(text)
        assert found(store) == {"derived.json": "is missing" if text is None else "is damaged"}
        with pytest.raises(
            StoreError, match=r"derived\.json is (missing|damaged): `pagelab analyze` computes it again"
        ):
            RunData.read(store)
        analyse_run(store)
        assert path.read_bytes() == before

    def test_what_this_analysis_does_not_make_is_removed(self, store: RunStore) -> None:
        store.write_trial_table(1, "of_an_older_analysis", store.read_trial_table(1, "tokens"))
        record = store.read_trials()[0]
        store.made(1, record.derived_files)
        store.write_trial(record)
        assert verify(store) == []
        analyse_run(store)
        assert not store.trial_table_path(1, "of_an_older_analysis").exists()
        assert verify(store) == []

    def test_raw_damage_leaves_the_numbers_and_says_so(self, store: RunStore) -> None:
        before = store.read_trials()
        edit(store.trial_directory(1) / "trace" / "cpu0.raw.zst")
        data = RunData.read(store)
        assert data.trials == before
        assert data.damage == [
            "trials/001/trace/cpu0.raw.zst is not what was recorded: restore it from a copy, or repeat the trial"
        ]
        assert analyse_run(store).failed == [1]
        assert store.read_trials() == before


class TestChecksums:
    """The file that knows the others."""

    def test_a_run_without_is_said_to_be_unchecked(self, store: RunStore) -> None:
        (store.directory / "checksums.json").unlink()
        assert found(store) == {"checksums.json": "is missing, so it is not known whether records were changed"}
        assert len(RunData.read(store).damage) == 1
        store.write_run(store.read_run())
        assert not (store.directory / "checksums.json").exists(), "nobody can vouch for it any more"

    def test_raw_files_are_checked_without_it(self, store: RunStore) -> None:
        (store.directory / "checksums.json").unlink()
        (store.trial_directory(1) / "trace" / "cpu0.raw.zst").write_bytes(b"")
        assert found(store)["trials/001/trace/cpu0.raw.zst"] == "is not what was recorded, it is empty"

    def test_damage_to_an_entry_is_damage_to_this_file(self, store: RunStore) -> None:
        path = store.directory / "checksums.json"
        path.write_text(path.read_text().replace("trials/002/", "trials/022/"))
        with pytest.raises(StoreError, match=r"checksums\.json is no Checksums .*its entries are not what was written"):
            verify(store)

    @pytest.mark.parametrize(
        "text", ["", "{", '{"schema_version": 2, "files": {"a": ["A"]}}', '{"files": {"/etc": []}}']
    )
    def test_damage(self, store: RunStore, text: str) -> None:
        (store.directory / "checksums.json").write_text(text)
        with pytest.raises(StoreError, match=r"checksums\.json"):
            verify(store)

    def test_killed_before_the_run_was_written(self, store: RunStore) -> None:
        path = store.directory / "run.json"
        before = path.read_bytes()
        store.write_run(run_record(trials_planned=3, trials_done=2))
        after = path.read_bytes()
        path.write_bytes(before)
        assert verify(store) == []
        path.write_bytes(after)
        assert verify(store) == []

    def test_killed_before_the_observation_was_written(self, store: RunStore) -> None:
        (store.trial_directory(3) / "observation.json").unlink()
        assert store.discard_unfinished() == [store.directory / "trials" / "003"]
        assert found(store) == {"trials/003": "is missing"}, "trial.json was there, so it had been measured"


def test_many_findings_make_one_short_sentence(store: RunStore) -> None:
    for name in COMPUTED:
        edit(store.trial_directory(1) / name)
    (store.trial_directory(2) / "trial.json").unlink()
    with pytest.raises(StoreError) as refusal:
        RunData.read(store)
    assert len(str(refusal.value)) < 500
