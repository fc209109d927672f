"""The store writes whole files or none, keeps finished trials, and reads back what it wrote."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from example_raw import inference, observation
from example_run import factors

from pagelab.errors import StoreError
from pagelab.host.cgroup import GroupCounters
from pagelab.host.cpu_interference import CpuInterference
from pagelab.store import files as store_module
from pagelab.store.files import adopt, open_file, read_table, read_text, unit_of, write_bytes, write_text
from pagelab.store.observation import Snapshot
from pagelab.store.record import Decode, Identity, RunRecord, TrialRecord, Validity
from pagelab.store.run_store import RunStore, find_runs


def run_record(run_id: str = "r1", started_at: str = "2026-11-23T10:00:00+00:00") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        experiment="spill",
        host="lab1",
        status="incomplete",
        identity=Identity(config_sha256="c", llama_cpp_commit="b", llama_cpp_sha256="d", model_sha256={"m": "e"}),
        manifest={"kernel": "6.1"},
        started_at=started_at,
        trials_planned=2,
    )


def trial_record(number: int) -> TrialRecord:
    return TrialRecord(
        trial=number,
        factors=factors(resident=0.5),
        repetition=1,
        order=number,
        started_at="2026-11-23T10:00:00+00:00",
        weights_bytes=1000,
        model_file_bytes=1100,
        decode=Decode(tokens=8, seconds=1 / 3),
        validity=Validity(valid=True),
    )


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "results", "spill", "lab1", "r1")


class TestRoundTrip:
    def test_run_and_config(self, store: RunStore, tmp_path: Path) -> None:
        store.write_run(run_record())
        store.write_config("experiment: spill  # größe\n")
        again = RunStore.open(tmp_path / "results/spill/lab1/r1")
        assert again.read_run() == run_record()
        assert again.read_config_text() == "experiment: spill  # größe\n"

    def test_absent_values_are_absent_and_numbers_unrounded(self, store: RunStore) -> None:
        store.write_trial(trial_record(1))
        document = json.loads((store.directory / "trials/001/trial.json").read_text())
        assert document["decode"] == {"tokens": 8, "seconds": 1 / 3}
        assert document["schema_version"] == 2
        assert store.read_trials() == [trial_record(1)]

    def test_trials_are_sorted_by_number_and_unfinished_ones_left_out(self, store: RunStore) -> None:
        for number in (1000, 2, 11):
            store.write_trial(trial_record(number))
        store.write_trial_table(12, "tokens", pa.table({"token_index": [0]}))
        assert [trial.trial for trial in store.read_trials()] == [2, 11, 1000]

    def test_tables_carry_version_and_units(self, store: RunStore) -> None:
        table = pa.table({"seconds": [0.5], "group_memory_bytes": pa.array([None], pa.int64()), "major_faults": [3]})
        store.write_trial_table(1, "samples", table)
        again = store.read_trial_table(1, "samples")
        assert again is not None
        assert again.to_pydict() == table.to_pydict()
        assert again.schema.metadata[b"pagelab_schema_version"] == b"2"
        units = json.loads(again.schema.metadata[b"pagelab_units"])
        assert units == {"seconds": "seconds", "group_memory_bytes": "bytes"}

    def test_a_table_that_was_not_written_is_none(self, store: RunStore) -> None:
        assert store.read_trial_table(1, "block_io") is None
        assert not (store.directory / "trials").exists()

    def test_the_same_table_gives_the_same_bytes(self, store: RunStore) -> None:
        table = pa.table({"seconds": [0.5, 0.25]})
        store.write_summary(table)
        first = (store.directory / "summary.parquet").read_bytes()
        store.write_summary(table)
        assert (store.directory / "summary.parquet").read_bytes() == first

    def test_report_files(self, store: RunStore) -> None:
        path = store.write_report_file("figures/a.svg", b"<svg/>")
        assert path == store.report_directory / "figures/a.svg"
        assert path.read_bytes() == b"<svg/>"

    @pytest.mark.parametrize(
        ("column", "unit"),
        [
            ("reads.decode.model_bytes", "bytes"),
            ("throughput.read_bytes_per_second", "bytes/second"),
            ("decode.tokens_per_second", "tokens/second"),
            ("refaults.file_pages", "pages"),
            ("seconds", "seconds"),
            ("faults.major", None),
            ("megabytes", None),
        ],
    )
    def test_unit_of(self, column: str, unit: str | None) -> None:
        assert unit_of(column) == unit


FAILING_WRITER = """
import resource, sys
from pathlib import Path
from pagelab.errors import StoreError
from pagelab.store.files import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_bytes(Path(sys.argv[1]), b"x" * 5000)
except StoreError as error:
    print(error)
    sys.exit(7)
"""

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
import pagelab.store.files as store
with store.open_file(Path(sys.argv[1])) as stream:
    stream.write(b"new conten"); stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


class TestAtomicity:
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_a_refused_write_keeps_the_old_file_and_leaves_no_part(self, tmp_path: Path, old: bytes | None) -> None:
        path = tmp_path / "run.json"
        if old is not None:
            path.write_bytes(old)
        child = subprocess.run(
            [sys.executable, "-c", FAILING_WRITER, str(path)], capture_output=True, text=True, check=False
        )
        assert child.returncode == 7, child.stderr
        assert child.stdout.startswith(f"cannot write {path} (File too large): free space")
        assert names(tmp_path) == ([] if old is None else ["run.json"])
        if old is not None:
            assert path.read_bytes() == old

    def test_a_refused_table_leaves_no_part(self, store: RunStore) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        table = pa.table({"noise": [os.urandom(80_000)]})
        store.trial_directory(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(StoreError, match="cannot write"):
                store.write_trial_table(1, "tokens", table)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(store.directory) == []

    def test_a_full_disk(self, tmp_path: Path) -> None:
        place = tmp_path / "full"
        place.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True, text=True, check=False
        )
        if mount.returncode != 0:
            pytest.skip(f"a file system of 64 KiB cannot be mounted here: {mount.stderr.strip()}")
        try:
            write_bytes(place / "trial.json", b"old")
            with pytest.raises(StoreError, match=r"No space left on device\): free space on that disk"):
                write_bytes(place / "trial.json", b"x" * 200_000)
            assert names(place) == ["trial.json"]
            assert (place / "trial.json").read_bytes() == b"old"
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def test_a_killed_writer_leaves_the_old_file_and_a_part_that_is_cleared(self, store: RunStore) -> None:
        store.write_run(run_record())
        before = (store.directory / "run.json").read_bytes()
        child = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(store.directory / "run.json")], check=False)
        assert child.returncode == -9
        assert (store.directory / "run.json").read_bytes() == before
        assert len(names(store.directory)) == 3
        store.discard_unfinished()
        assert names(store.directory) == ["checksums.json", "run.json"]

    def test_an_interrupt_leaves_no_part(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), open_file(tmp_path / "a"):
            raise KeyboardInterrupt
        assert names(tmp_path) == []

    def test_file_and_directory_are_synced_around_the_rename(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = []
        fsync = os.fsync

        def noted(handle: int) -> None:
            synced.append((Path(f"/proc/self/fd/{handle}").readlink(), (tmp_path / "a").exists()))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", noted)
        write_bytes(tmp_path / "a", b"x")
        (file, file_there), (directory, directory_there) = synced
        assert file.name.startswith(".a.")
        assert (file_there, directory, directory_there) == (False, tmp_path, True)

    def test_discard_unfinished_keeps_finished_trials(self, store: RunStore) -> None:
        store.write_trial_table(1, "tokens", pa.table({"token_index": [0]}))
        store.write_observation(observation(1))
        store.write_trial_table(2, "tokens", pa.table({"token_index": [0]}))
        assert store.discard_unfinished() == [store.directory / "trials/002"]
        assert names(store.directory) == ["checksums.json", "trials/001/observation.json", "trials/001/tokens.parquet"]
        assert store.discard_unfinished() == []


class TestObservation:
    def test_counters_that_could_not_be_read_are_absent_and_come_back_so(self, store: RunStore) -> None:
        blind = inference(
            at_start=Snapshot(monotonic_seconds=1.0, group=GroupCounters()), interference_at_ready=CpuInterference()
        )
        store.write_observation(observation(1, inference=blind))
        text = (store.trial_directory(1) / "observation.json").read_text()
        assert "null" not in text
        assert store.read_observation(1).inference == blind


class TestOwnership:
    def test_everything_new_belongs_to_the_owner_and_nothing_else_changes(self, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may give files away")
        store = RunStore.create(tmp_path / "results", "spill", "lab1", "r1", owner=(1234, 2345))
        store.write_run(run_record())
        store.write_config("a: 1\n")
        store.write_trial_table(1, "tokens", pa.table({"token_index": [0]}))
        (store.trial_directory(1) / "llama.log").write_text("log")
        adopt(store.trial_directory(1) / "llama.log", store.owner)
        store.write_trial(trial_record(1))
        store.write_summary(pa.table({"a": [1]}))
        store.write_report_file("figures/a.svg", b"")
        made = [tmp_path / "results", *(tmp_path / "results").rglob("*")]
        assert len(made) == 17
        assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 2345)}
        assert {path.stat().st_mode & 0o777 for path in made} == {0o755, 0o644}
        assert tmp_path.stat().st_uid == 0


class TestRefusals:
    def test_a_run_is_never_created_twice(self, store: RunStore, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="exists already"):
            RunStore.create(tmp_path / "results", "spill", "lab1", "r1")

    @pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b"])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StoreError, match="cannot name a directory"):
            RunStore.create(tmp_path, "spill", name, "r1")

    def test_open_where_there_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"holds no run\.json"):
            RunStore.open(tmp_path)

    def test_results_that_are_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("")
        with pytest.raises(StoreError, match="cannot write"):
            RunStore.create(tmp_path / "results", "spill", "lab1", "r1")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is not JSON"),
            ("[]", "is no RunRecord"),
            ('{"schema_version": 2}', "Field required at run_id"),
            ('{"schema_version": 99}', "schema version 99"),
        ],
    )
    def test_a_damaged_run(self, store: RunStore, text: str, message: str) -> None:
        (store.directory / "run.json").write_text(text)
        with pytest.raises(StoreError, match=message):
            store.read_run()

    def test_a_damaged_table(self, store: RunStore) -> None:
        (store.trial_directory(1) / "tokens.parquet").write_bytes(b"PAR1 and nothing more")
        with pytest.raises(StoreError, match="cannot read"):
            store.read_trial_table(1, "tokens")

    def test_a_newer_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_module, "SCHEMA_VERSION", 3)
        store_module.write_table(tmp_path / "a.parquet", pa.table({"a": [1]}))
        monkeypatch.undo()
        with pytest.raises(StoreError, match="schema version 3"):
            read_table(tmp_path / "a.parquet")

    def test_not_a_number_is_refused(self, store: RunStore) -> None:
        record = trial_record(1)
        record.decode.seconds = float("nan")
        with pytest.raises(StoreError, match=r"decode|not a number"):
            store.write_trial(record)
        assert names(store.directory) == []

    def test_the_remedy_for_a_read_only_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*arguments: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "fsync", refused)
        with pytest.raises(StoreError, match=r"Read-only file system\): make the directory writable"):
            write_bytes(tmp_path / "a", b"x")
        assert names(tmp_path) == []


class TestFinding:
    def test_newest_first_whatever_the_name(self, tmp_path: Path) -> None:
        for run_id, started in (("b", "2026-01-01T00:00:00+00:00"), ("a", "2026-02-01T00:00:00+00:00")):
            RunStore.create(tmp_path, "spill", "lab1", run_id).write_run(run_record(run_id, started))
        RunStore.create(tmp_path, "spill", "lab1", "never-begun")
        assert [path.name for path in find_runs(tmp_path, "spill", "lab1")] == ["a", "b"]

    def test_none(self, tmp_path: Path) -> None:
        assert find_runs(tmp_path, "spill", "lab1") == []


def test_a_text_comes_back_with_its_line_ends(tmp_path: Path) -> None:
    """A log repeats texts of the model: a carriage return in one of them begins no line."""
    text = "a\rb\r\nc\u2028d\n"
    write_text(tmp_path / "llama.log", text)
    assert read_text(tmp_path / "llama.log") == text
