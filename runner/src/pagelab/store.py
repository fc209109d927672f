"""The files of a run: written whole or not at all, and read back as records and tables.

    RESULTS/EXPERIMENT/HOST/RUN_ID/
      run.json  config.yml  trials/NNN/{trial.json, *.parquet, …}  summary.parquet  report/

A file is written under a temporary name, synced and renamed, so that a reader, or the machine after a power cut, sees
the old content or the new one and never a part. `trial.json` is the last file of a trial: where it is, the trial is
finished.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

from pydantic import ValidationError

from pagelab.errors import StoreError
from pagelab.record import SCHEMA_VERSION, Record, RunRecord, TrialRecord
from pagelab.trace_record import TRACE_VERSION, TraceRecord

if TYPE_CHECKING:  # pyarrow takes a moment to load, and most commands never open a table
    import pyarrow as pa

Owner = tuple[int, int]
RecordType = TypeVar("RecordType", RunRecord, TrialRecord, TraceRecord)

OWNER_VARIABLE = "PAGELAB_OWNER"
VERSION_KEY = b"pagelab_schema_version"
UNITS_KEY = b"pagelab_units"

_RUN, _CONFIG, _TRIAL, _TRIALS, _SUMMARY = "run.json", "config.yml", "trial.json", "trials", "summary.parquet"
_TRACE, _TRACE_RECORD = "trace", "trace.json"
_PARTIAL_SUFFIX = ".partial"
_UNIT_SUFFIXES = {
    "tokens_per_second": "tokens/second",
    "bytes_per_second": "bytes/second",
    "bytes": "bytes",
    "seconds": "seconds",
    "pages": "pages",
    "fraction": "fraction",
    "ns": "nanoseconds",
    "sector": "512-byte sectors",
}


def owner_from_environment(environment: Mapping[str, str] = os.environ) -> Owner | None:
    """The uid and gid that results should belong to (`PAGELAB_OWNER=uid:gid`), None where it is not set.

    Raises:
        StoreError: the variable is not two numbers.
    """
    text = environment.get(OWNER_VARIABLE, "")
    if not text:
        return None
    uid, _, gid = text.partition(":")
    if not (uid.isdecimal() and gid.isdecimal()):
        raise StoreError(f"{OWNER_VARIABLE} is {text!r} in the environment: set it to uid:gid, for example 1000:1000")
    return int(uid), int(gid)


def unit_of(column: str) -> str | None:
    """The unit that a column's name ends in, None for a plain count or a text."""
    for suffix, unit in _UNIT_SUFFIXES.items():
        if column == suffix or column.endswith((f"_{suffix}", f".{suffix}")):
            return unit
    return None


# --- one file ---------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, content: bytes, owner: Owner | None = None) -> None:
    """Replace a file by `content`, durably; the directory has to exist.

    Raises:
        StoreError: the disk refused; the old content is still there and no temporary file is left.
    """
    _replace(path, lambda stream: _write_all(stream, content), owner)


@contextmanager
def open_file(path: Path, owner: Owner | None = None) -> Iterator[BinaryIO]:
    """Replace a file by what is written to the stream that the context gives.

    The file takes its place when the context ends; where it ends by an error, the old content is still there.

    Raises:
        StoreError: the disk refused.
    """
    with explained(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL_SUFFIX)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
                if owner is not None:
                    os.fchown(stream.fileno(), *owner)
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def write_text(path: Path, content: str, owner: Owner | None = None) -> None:
    """Replace a file by a text in UTF-8; as `write_bytes`."""
    write_bytes(path, content.encode(), owner)


def write_json(path: Path, record: Record | dict[str, Any], owner: Owner | None = None) -> None:
    """Replace a file by a record, its absent values left out; as `write_bytes`.

    Raises:
        StoreError: the disk refused, or the record holds a number that JSON does not know (NaN, infinity).
    """
    document = record.document() if isinstance(record, Record) else record
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StoreError(f"cannot write {path}, a value in it is not a number ({error}): leave it absent") from error
    write_text(path, text + "\n", owner)


def write_table(path: Path, table: "pa.Table", owner: Owner | None = None) -> None:
    """Replace a file by a Parquet table, with the schema version and the columns' units in its metadata."""
    import pyarrow.parquet as pq

    stamped = table.replace_schema_metadata(_stamped(table.schema).metadata)
    _replace(path, lambda stream: pq.write_table(stamped, stream, compression="zstd"), owner)


@contextmanager
def open_table(path: Path, schema: "pa.Schema", owner: Owner | None = None, **options: Any) -> Iterator[Any]:
    """Replace a file by a Parquet table that is written in pieces: the context gives a `pyarrow.parquet.ParquetWriter`.

    As `open_file`; `options` are those of ParquetWriter, and metadata are as those of `write_table`.
    """
    import pyarrow.parquet as pq

    with (
        open_file(path, owner) as stream,
        pq.ParquetWriter(stream, _stamped(schema), compression="zstd", **options) as w,
    ):
        yield w


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read a Parquet table back, or some of its columns.

    Raises:
        StoreError: it is missing, damaged, or written by a newer pagelab, or it lacks one of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read(None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path} ({error}): restore it from a copy, or repeat its trial") from error
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"0")
    _refuse_newer(path, int(version))
    missing = sorted(set(columns or ()) - set(table.column_names))
    if missing:
        raise StoreError(f"{path} has no column {missing[0]}: compute it again by `pagelab analyze` on its run")
    return table


def _stamped(schema: "pa.Schema") -> "pa.Schema":
    """A schema with the schema version and the columns' units in its metadata."""
    units = {name: unit for name in schema.names if (unit := unit_of(name)) is not None}
    stamps = {VERSION_KEY: str(SCHEMA_VERSION).encode(), UNITS_KEY: json.dumps(units).encode()}
    return schema.with_metadata({**(schema.metadata or {}), **stamps})


def _replace(path: Path, write: Callable[[BinaryIO], object], owner: Owner | None) -> None:
    with open_file(path, owner) as stream:
        write(stream)


def _write_all(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _sync_directory(directory: Path) -> None:
    """Make a rename or a new entry survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(directory: Path, owner: Owner | None = None) -> None:
    """Make a directory and the missing ones above it, each synced and handed to the owner.

    Raises:
        StoreError: the disk refused.
    """
    with explained(directory):
        missing = [place for place in (directory, *directory.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=0o755)
            if owner is not None:
                os.chown(place, *owner)
            _sync_directory(place.parent)


def adopt(path: Path, owner: Owner | None) -> None:
    """Hand a file that was written by other means, such as a raw trace, to the owner of the results.

    Raises:
        StoreError: the disk refused.
    """
    if owner is not None:
        with explained(path):
            os.chown(path, *owner)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write {path} ({reason}): {_remedy(error.errno)}") from error


def _remedy(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space on that disk or choose another place with --results; finished trials are kept for --resume"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make the directory writable for this user, or choose another place with --results"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return "make that directory first, or choose another place"
    if number == errno.EEXIST:
        return "choose another name, or remove what is there"
    return "check that the disk is healthy and mounted, or choose another place with --results"


# --- one run ----------------------------------------------------------------------------------------------------------


class RunStore:
    """The directory of one run. One process writes to it at a time; any number may read."""

    def __init__(self, directory: Path, owner: Owner | None = None) -> None:
        self.directory = directory
        self.owner = owner

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
        write_json(self.directory / _RUN, record, self.owner)

    def read_run(self) -> RunRecord:
        """Read run.json; StoreError where it is missing, damaged or newer than this pagelab."""
        return _read_record(self.directory / _RUN, RunRecord)

    def write_config(self, text: str) -> None:
        """Write config.yml, the configuration as resolved."""
        write_text(self.directory / _CONFIG, text, self.owner)

    def read_config_text(self) -> str:
        """Read config.yml; StoreError where it is missing."""
        return _read_text(self.directory / _CONFIG)

    # its trials

    def trial_directory(self, number: int) -> Path:
        """The directory of one trial, made where it is missing."""
        directory = self._trial_path(number)
        make_directory(directory, self.owner)
        return directory

    def write_trial(self, record: TrialRecord) -> None:
        """Write trial.json, which says that the trial is finished: every other file of the trial comes before it."""
        write_json(self.trial_directory(record.trial) / _TRIAL, record, self.owner)

    def read_trials(self) -> list[TrialRecord]:
        """The finished trials, by number; StoreError where one of them is damaged."""
        paths = (self.directory / _TRIALS).glob(f"*/{_TRIAL}")
        return sorted((_read_record(path, TrialRecord) for path in paths), key=lambda record: record.trial)

    def write_trial_table(self, number: int, name: str, table: "pa.Table") -> None:
        """Write one table of a trial, such as `tokens`, as NAME.parquet."""
        write_table(self.trial_directory(number) / f"{name}.parquet", table, self.owner)

    def read_trial_table(self, number: int, name: str) -> "pa.Table | None":
        """Read one table of a trial; None where it was not written, StoreError where it is damaged."""
        path = self.trial_table_path(number, name)
        return read_table(path) if path.is_file() else None

    def trial_table_path(self, number: int, name: str) -> Path:
        """Where a table of a trial is, or would be."""
        return self._trial_path(number) / f"{name}.parquet"

    def write_trial_json(self, number: int, name: str, document: dict[str, Any]) -> None:
        """Write one document of a trial, such as `access`, as NAME.json."""
        write_json(self.trial_directory(number) / f"{name}.json", document, self.owner)

    def read_trial_json(self, number: int, name: str) -> dict[str, Any] | None:
        """Read one document of a trial; None where it was not written, StoreError where it is damaged."""
        path = self._trial_path(number) / f"{name}.json"
        document = _read_document(path) if path.is_file() else None
        if document is not None and not isinstance(document, dict):
            raise StoreError(f"{path} holds no JSON object: compute it again by `pagelab analyze` on its run")
        return document

    def trace_directory(self, number: int) -> Path:
        """Where the raw files of a trial's trace are, or would be."""
        return self._trial_path(number) / _TRACE

    def discard_unfinished(self) -> list[Path]:
        """Remove what a killed run left: trials without trial.json, and files that were never renamed.

        Only the process that goes on with the run may call this. Returns what was removed.
        """
        finished = {path.parent for path in (self.directory / _TRIALS).glob(f"*/{_TRIAL}")}
        unfinished = [path for path in (self.directory / _TRIALS).glob("*") if path not in finished]
        for path in unfinished:
            with explained(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        partial = list(self.directory.rglob(f"*{_PARTIAL_SUFFIX}"))
        for path in partial:
            with explained(path):
                path.unlink()
        return sorted(unfinished + partial)

    def _trial_path(self, number: int) -> Path:
        return self.directory / _TRIALS / f"{number:03d}"

    # what is derived from them

    def write_summary(self, table: "pa.Table") -> None:
        """Write summary.parquet, one row a trial."""
        write_table(self.directory / _SUMMARY, table, self.owner)

    @property
    def report_directory(self) -> Path:
        """Where the page and its figures go; it may not exist yet."""
        return self.directory / "report"

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


def latest_run(results_dir: Path, experiment: str, host: str) -> Path | None:
    """The newest run of an experiment on a host, None where there is none."""
    return next(iter(find_runs(results_dir, experiment, host)), None)


def _started_at(directory: Path) -> str:
    """The start of a run as ISO 8601 in UTC, which sorts as text; empty, so the oldest, where it cannot be read."""
    try:
        return RunStore(directory).read_run().started_at
    except StoreError:
        return ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: restore it from a copy, or run the experiment again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path} ({error}): restore it from a copy, or run again") from error


def write_trace_record(directory: Path, record: TraceRecord, owner: Owner | None = None) -> None:
    """Write trace.json of a trace's directory; as `write_json`."""
    write_json(directory / _TRACE_RECORD, record, owner)


def read_trace_record(directory: Path) -> TraceRecord:
    """Read trace.json of a trace's directory; StoreError where it is missing, damaged or newer than this pagelab."""
    return _read_record(directory / _TRACE_RECORD, TraceRecord, TRACE_VERSION)


def trace_record_of_tables(directory: Path) -> TraceRecord | None:
    """Read trace.json of the trace that a directory's tables came from; None where it is not beside them."""
    trace = directory / _TRACE
    return read_trace_record(trace) if (trace / _TRACE_RECORD).is_file() else None


def _read_document(path: Path, newest: int = SCHEMA_VERSION) -> Any:  # whatever JSON the file holds
    try:
        document = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is not JSON ({error}): restore it from a copy, or run again") from error
    version = document.get("schema_version", 0) if isinstance(document, dict) else 0
    _refuse_newer(path, version if isinstance(version, int) else 0, newest)
    return document


def _read_record(path: Path, kind: type[RecordType], newest: int = SCHEMA_VERSION) -> RecordType:
    document = _read_document(path, newest)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        problem = f"{first['msg']} at {place}"
        raise StoreError(f"{path} is no {kind.__name__} ({problem}): restore it from a copy, or run again") from error


def _refuse_newer(path: Path, version: int, newest: int = SCHEMA_VERSION) -> None:
    if version > newest:
        raise StoreError(
            f"{path} has schema version {version} and this pagelab reads up to {newest}: use a newer pagelab"
        )
