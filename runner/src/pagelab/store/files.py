"""One file of a run: written whole or not at all, and read back as a text, a record or a table.

A file is written under a temporary name, synced and renamed, so that a reader, or the machine after a power cut, sees
the old content or the new one and never a part.
"""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pagelab.documents import DocumentError, load_json, read_file
from pagelab.errors import StoreError, shown
from pagelab.store.record import SCHEMA_VERSION, Record

Owner = tuple[int, int]
RecordType = TypeVar("RecordType", bound=Record)

VERSION_KEY = b"pagelab_schema_version"
UNITS_KEY = b"pagelab_units"

MOST_TEXT_BYTES = 2**30  # of a record or a log
PARTIAL_SUFFIX = ".partial"
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


def unit_of(column: str) -> str | None:
    """The unit that a column's name ends in, None for a plain count or a text."""
    for suffix, unit in _UNIT_SUFFIXES.items():
        if column == suffix or column.endswith((f"_{suffix}", f".{suffix}")):
            return unit
    return None


def write_bytes(path: Path, content: bytes, owner: Owner | None = None) -> None:
    """Replace a file by `content`, durably; the directory has to exist.

    Raises:
        StoreError: the disk refused; the old content is still there and no temporary file is left.
    """
    with open_file(path, owner) as stream:
        stream.write(content)


@contextmanager
def open_file(path: Path, owner: Owner | None = None) -> Iterator[BinaryIO]:
    """Replace a file by what is written to the stream that the context gives.

    The file takes its place when the context ends; where it ends by an error, the old content is still there.

    Raises:
        StoreError: the disk refused.
    """
    with explained(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL_SUFFIX)
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


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path} ({error}): restore it from a copy, or run again") from error


def write_text(path: Path, content: str, owner: Owner | None = None) -> None:
    """Replace a file by a text in UTF-8; as `write_bytes`."""
    write_bytes(path, content.encode(), owner)


def write_json(path: Path, record: Record | dict[str, Any], owner: Owner | None = None) -> None:
    """Replace a file by a record, its absent values left out; as `write_bytes`.

    Raises:
        StoreError: the disk refused, or the record holds a number that JSON does not know (NaN, infinity).
    """
    write_bytes(path, json_bytes(path, record), owner)


def json_bytes(path: Path, record: Record | dict[str, Any]) -> bytes:
    """What `write_json` writes to a file."""
    document = record.document() if isinstance(record, Record) else record
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StoreError(f"cannot write {path}, a value in it is not a number ({error}): leave it absent") from error
    return f"{text}\n".encode()


def write_table(path: Path, table: pa.Table, owner: Owner | None = None) -> None:
    """Replace a file by a Parquet table, with the schema version and the columns' units in its metadata."""
    stamped = table.replace_schema_metadata(_stamped(table.schema).metadata)
    with open_file(path, owner) as stream:
        pq.write_table(stamped, stream, compression="zstd", write_page_checksum=True)


@contextmanager
def open_table(path: Path, schema: pa.Schema, owner: Owner | None = None, **options: Any) -> Iterator[Any]:
    """Replace a file by a Parquet table that is written in pieces: the context gives a `pyarrow.parquet.ParquetWriter`.

    As `open_file`; `options` are those of ParquetWriter, and metadata are as those of `write_table`.
    """
    with (
        open_file(path, owner) as stream,
        pq.ParquetWriter(stream, _stamped(schema), compression="zstd", write_page_checksum=True, **options) as w,
    ):
        yield w


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet table back, or some of its columns.

    Raises:
        StoreError: it is missing, damaged, or written by a newer pagelab, or it lacks one of the columns.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing: restore it from a copy, or repeat its trial")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(None if columns is None else list(columns))
            table.validate(full=True)  # texts that are no UTF-8, for one
            version = int((table.schema.metadata or {}).get(VERSION_KEY, b"0"))
    except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
        reason = shown(str(error))
        raise StoreError(f"cannot read {path} ({reason}): restore it from a copy, or repeat its trial") from error
    refuse_newer(path, version)
    missing = sorted(set(columns or ()) - set(table.column_names))
    if missing:
        raise StoreError(f"{path} has no column {missing[0]}: compute it again by `pagelab analyze` on its run")
    return table


def _stamped(schema: pa.Schema) -> pa.Schema:
    """A schema with the schema version and the columns' units in its metadata."""
    units = {name: unit for name in schema.names if (unit := unit_of(name)) is not None}
    stamps = {VERSION_KEY: str(SCHEMA_VERSION).encode(), UNITS_KEY: json.dumps(units).encode()}
    return schema.with_metadata({**(schema.metadata or {}), **stamps})


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


def read_text(path: Path) -> str:
    """Read a text back; StoreError where it is missing or no UTF-8."""
    try:
        return read_file(path, MOST_TEXT_BYTES).decode()
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: restore it from a copy, or run the experiment again") from error
    except DocumentError as error:  # no regular file, or too large
        raise StoreError(f"{path} {error}: restore it from a copy, or run the experiment again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path} ({error}): restore it from a copy, or run again") from error


def read_document(path: Path, newest: int = SCHEMA_VERSION) -> Any:  # whatever JSON the file holds
    """Read what JSON a file holds; StoreError where it is missing, damaged, or newer than this pagelab."""
    try:
        document = load_json(read_text(path))
    except DocumentError as error:
        raise StoreError(f"{path} {error}: restore it from a copy, or run again") from error
    version = document.get("schema_version", 0) if isinstance(document, dict) else 0
    refuse_newer(path, version if isinstance(version, int) else 0, newest)
    return document


def read_record(path: Path, kind: type[RecordType], version: int = SCHEMA_VERSION) -> RecordType:
    """Read a record back; StoreError where it is missing, damaged, or of another schema version."""
    document = read_document(path, version)
    found = document.get("schema_version", 0) if isinstance(document, dict) else 0
    if isinstance(found, int) and 0 < found < version:
        raise StoreError(
            f"{path} has schema version {found}, of an older pagelab, and this one reads version {version}: "
            "use the pagelab that wrote it, or run the experiment again"
        )
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = shown(".".join(str(part) for part in first["loc"]), 120) or "the top"
        problem = f"{first['msg']} at {place}"
        raise StoreError(f"{path} is no {kind.__name__} ({problem}): restore it from a copy, or run again") from error


def refuse_newer(path: Path, version: int, newest: int = SCHEMA_VERSION) -> None:
    """Raise StoreError for a file of a newer schema than this pagelab knows."""
    if version > newest:
        raise StoreError(
            f"{path} has schema version {version} and this pagelab reads up to {newest}: use a newer pagelab"
        )
