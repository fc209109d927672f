"""The directory of a run: which file is where.

    RESULTS/EXPERIMENT/HOST/RUN_ID/
      run.json  config.yml  trials/NNN/{observation.json, trial.json, *.parquet, …}  summary.parquet  report/
      checksums.json  derived.json                   what these files were when they were written

`observation.json` is the last raw file of a trial: where it is, the trial was measured, and what is derived can
be computed again. `trial.json` is the last derived one.
"""

import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa

from pagelab.errors import StoreError
from pagelab.store.checksums import digest_of, note_derived, note_recorded
from pagelab.store.files import (
    PARTIAL_SUFFIX,
    Owner,
    explained,
    json_bytes,
    make_directory,
    read_record,
    read_table,
    read_text,
    sha256_of,
    write_bytes,
    write_json,
    write_table,
)
from pagelab.store.observation import Observation
from pagelab.store.record import RunRecord, TrialRecord
from pagelab.store.trace_record import TRACE_VERSION, TraceRecord

_RUN, _CONFIG, _TRIAL, _TRIALS, _SUMMARY = "run.json", "config.yml", "trial.json", "trials", "summary.parquet"
PAGE = "index.html"
_OBSERVATION, _TRACE, _TRACE_RECORD = "observation.json", "trace", "trace.json"


class RunStore:
    """The directory of one run. One process writes to it at a time; any number may read."""

    def __init__(self, directory: Path, owner: Owner | None = None) -> None:
        self.directory = directory
        self.owner = owner
        self._made: dict[int, set[str]] = {}

    @classmethod
    def create(cls, results_dir: Path, experiment: str, host: str, run_id: str, owner: Owner | None = None) -> Self:
        """Make the directory of a new run.

        Raises:
            StoreError: a name cannot be a directory's, the run exists already, or the disk refused.
        """
        for name in (experiment, host, run_id):
            if not name or name.startswith(".") or "/" in name or "\0" in name:
                raise StoreError(f"{name!r} cannot name a directory in {results_dir}: use letters, digits and hyphens")
        parent = results_dir / experiment / host
        make_directory(parent, owner)
        directory = parent / run_id
        if directory.exists():
            raise StoreError(f"{directory} exists already: choose another run id, or go on with it by --resume")
        make_directory(directory, owner)
        return cls(directory, owner)

    @classmethod
    def open(cls, path: Path, owner: Owner | None = None) -> Self:
        """Open the directory of an existing run, to read it or to go on with it.

        Raises:
            StoreError: there is no run there.
        """
        if not (path / _RUN).is_file():
            raise StoreError(f"{path} holds no {_RUN}: name the directory of a run, RESULTS/EXPERIMENT/HOST/RUN_ID")
        return cls(path, owner)

    # the run

    def write_run(self, record: RunRecord) -> None:
        """Write run.json."""
        content = json_bytes(self.directory / _RUN, record)
        note_recorded(self.directory, {_RUN: digest_of(content)}, self.owner, keep_before=True)
        write_bytes(self.directory / _RUN, content, self.owner)

    def read_run(self) -> RunRecord:
        """Read run.json; StoreError where it is missing, damaged or newer than this pagelab."""
        return read_record(self.directory / _RUN, RunRecord)

    def write_config(self, text: str) -> None:
        """Write config.yml, the configuration as resolved."""
        content = text.encode()
        note_recorded(self.directory, {_CONFIG: digest_of(content)}, self.owner)
        write_bytes(self.config_path, content, self.owner)

    @property
    def config_path(self) -> Path:
        """Where config.yml is."""
        return self.directory / _CONFIG

    def read_config_text(self) -> str:
        """Read config.yml; StoreError where it is missing."""
        return read_text(self.config_path)

    # its trials

    def trial_directory(self, number: int) -> Path:
        """The directory of one trial, made where it is missing."""
        directory = self._trial_path(number)
        make_directory(directory, self.owner)
        return directory

    def write_observation(self, observation: Observation) -> None:
        """Write observation.json with the sha256 of the trial's other raw files, which are all there by now.

        Raises:
            StoreError: the disk refused.
        """
        directory, path = self.trial_directory(observation.trial), self._observation_path(observation.trial)
        files = sorted(file for file in directory.rglob("*") if file.is_file() and file.suffix != PARTIAL_SUFFIX)
        observation.raw_files = {str(file.relative_to(directory)): sha256_of(file) for file in files if file != path}
        self._made.pop(observation.trial, None)
        content = json_bytes(path, observation)
        note_recorded(self.directory, {self.name_of(path): digest_of(content)}, self.owner)
        write_bytes(path, content, self.owner)

    def read_observation(self, number: int) -> Observation:
        """Read what a trial saw; StoreError where that is missing, damaged, or of another schema version or trial."""
        path = self._observation_path(number)
        return _of_trial(read_record(path, Observation), number, path)

    def observed_trials(self) -> list[int]:
        """The numbers of the trials that were measured, in order."""
        return [number for number in self.trial_numbers() if self._observation_path(number).is_file()]

    def trial_numbers(self) -> list[int]:
        """The numbers of the trials that have a directory, in order."""
        found = (path.name for path in (self.directory / _TRIALS).glob("[0-9]*") if path.is_dir())
        return sorted(int(name) for name in found if name.isdecimal() and name == f"{int(name):03d}")

    def read_trial_text(self, number: int, name: str) -> str:
        """Read a text of a trial, such as llama.log; StoreError where it is missing."""
        return read_text(self._trial_path(number) / name)

    def made(self, number: int, names: Iterable[str]) -> None:
        """Take note of derived files of a trial that were written by other means."""
        self._made.setdefault(number, set()).update(names)

    def write_trial(self, record: TrialRecord) -> None:
        """Write trial.json with the sha256 of the trial's other derived files, which come before it.

        What an earlier analysis made, and this one did not, is removed.

        Raises:
            StoreError: the disk refused.
        """
        directory, path = self.trial_directory(record.trial), self._trial_path(record.trial) / _TRIAL
        made, before = self._made.pop(record.trial, set()), set[str]()
        with suppress(StoreError):  # an earlier trial.json that is missing or damaged lists nothing
            before = set(self.read_trial(record.trial).derived_files)
        for name in before - made - {_TRIAL}:
            with explained(directory / name):
                (directory / name).unlink(missing_ok=True)
        record.derived_files = {name: sha256_of(directory / name) for name in sorted(made)}
        content = json_bytes(path, record)
        write_bytes(path, content, self.owner)
        note_derived(self.directory, {self.name_of(path): digest_of(content)}, self.owner)

    def is_computed(self, number: int) -> bool:
        """Whether a trial has its trial.json."""
        return (self._trial_path(number) / _TRIAL).is_file()

    def read_trial(self, number: int) -> TrialRecord:
        """Read trial.json; StoreError where it is missing, damaged, or of another schema version or trial."""
        path = self._trial_path(number) / _TRIAL
        return _of_trial(read_record(path, TrialRecord), number, path)

    def read_trials(self, without: Collection[int] = ()) -> list[TrialRecord]:
        """The records of the trials but some, by number; StoreError where one of them is damaged."""
        numbers = (number for number in self.trial_numbers() if number not in without)
        return [self.read_trial(number) for number in numbers if self.is_computed(number)]

    def write_trial_table(self, number: int, name: str, table: pa.Table) -> None:
        """Write one table of a trial, such as `tokens`, as NAME.parquet."""
        write_table(self.trial_directory(number) / f"{name}.parquet", table, self.owner)
        self.made(number, [f"{name}.parquet"])

    def read_trial_table(self, number: int, name: str) -> pa.Table | None:
        """Read one table of a trial; None where it was not written, StoreError where it is damaged."""
        path = self.trial_table_path(number, name)
        return read_table(path) if path.is_file() else None

    def trial_table_path(self, number: int, name: str) -> Path:
        """Where a table of a trial is, or would be."""
        return self._trial_path(number) / f"{name}.parquet"

    def write_trial_json(self, number: int, name: str, document: dict[str, Any]) -> None:
        """Write one document of a trial, such as `access`, as NAME.json."""
        write_json(self.trial_directory(number) / f"{name}.json", document, self.owner)
        self.made(number, [f"{name}.json"])

    def trace_directory(self, number: int) -> Path:
        """Where the raw files of a trial's trace are, or would be."""
        return self._trial_path(number) / _TRACE

    def discard_unfinished(self) -> list[Path]:
        """Remove what a killed run left: trials that were not measured, and files that were never renamed.

        Only the process that goes on with the run may call this. Returns what was removed.
        """
        finished = {path.parent for path in (self.directory / _TRIALS).glob(f"*/{_OBSERVATION}")}
        unfinished = [path for path in (self.directory / _TRIALS).glob("*") if path not in finished]
        for path in unfinished:
            with explained(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        lost = [self.name_of(path / _OBSERVATION) for path in unfinished]
        note_recorded(self.directory, dict.fromkeys(lost), self.owner)
        partial = list(self.directory.rglob(f"*{PARTIAL_SUFFIX}"))
        for path in partial:
            with explained(path):
                path.unlink()
        return sorted(unfinished + partial)

    def name_of(self, path: Path) -> str:
        """The path of a file in the run, as checksums and messages have it."""
        return path.relative_to(self.directory).as_posix()

    def _trial_path(self, number: int) -> Path:
        return self.directory / _TRIALS / f"{number:03d}"

    def _observation_path(self, number: int) -> Path:
        return self._trial_path(number) / _OBSERVATION

    # what is derived from them

    def write_summary(self, table: pa.Table) -> None:
        """Write summary.parquet, one row a trial."""
        path = self.directory / _SUMMARY
        write_table(path, table, self.owner)
        note_derived(self.directory, {_SUMMARY: sha256_of(path)}, self.owner)

    @property
    def report_directory(self) -> Path:
        """Where the page and its figures go; it may not exist yet."""
        return self.directory / "report"

    @property
    def page_path(self) -> Path:
        """Where the page is; it is the last file of a report that is written."""
        return self.report_directory / PAGE

    def discard_page(self) -> None:
        """Remove the page, which does not know of the trials that came since."""
        with explained(self.page_path):
            self.page_path.unlink(missing_ok=True)

    def write_report_file(self, name: str, content: bytes) -> Path:
        """Write one file of the report, such as `figures/speed.svg`, and return its path."""
        path = self.report_directory / name
        make_directory(path.parent, self.owner)
        write_bytes(path, content, self.owner)
        return path


def find_runs(results_dir: Path, experiment: str, host: str) -> list[Path]:
    """The directories of an experiment's runs on a host, the newest start first; empty where there are none."""
    runs = [path.parent for path in (results_dir / experiment / host).glob(f"*/{_RUN}")]
    return sorted(runs, key=lambda directory: (_started_at(directory), directory.name), reverse=True)


def runs_of_host(results_dir: Path, host: str) -> list[Path]:
    """The directories of all runs on a host, whatever the experiment, the last written first."""
    runs = [path for path in results_dir.glob(f"*/*/*/{_RUN}") if path.parent.parent.name == host]
    return [path.parent for path in sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True)]


def _started_at(directory: Path) -> str:
    """The start of a run as ISO 8601 in UTC, which sorts as text; empty, so the oldest, where it cannot be read."""
    try:
        return RunStore(directory).read_run().started_at
    except StoreError:
        return ""


_TrialFile = TypeVar("_TrialFile", Observation, TrialRecord)


def _of_trial(record: _TrialFile, number: int, path: Path) -> _TrialFile:
    if record.trial != number:
        raise StoreError(
            f"{path} says that it is of trial {record.trial}, and its directory that of trial {number}: restore both "
            "from a copy"
        )
    return record


def write_trace_record(directory: Path, record: TraceRecord, owner: Owner | None = None) -> None:
    """Write trace.json of a trace's directory; as `write_json`."""
    write_json(directory / _TRACE_RECORD, record, owner)


def read_trace_record(directory: Path) -> TraceRecord:
    """Read trace.json of a trace's directory; StoreError where it is missing, damaged or newer than this pagelab."""
    return read_record(directory / _TRACE_RECORD, TraceRecord, TRACE_VERSION)


def trace_record_of_tables(directory: Path) -> TraceRecord | None:
    """Read trace.json of the trace that a directory's tables came from; None where it is not beside them."""
    trace = directory / _TRACE
    return read_trace_record(trace) if (trace / _TRACE_RECORD).is_file() else None
