"""The shape of checksums.json and derived.json: the sha256 of each file of a run, as it was written.

    checksums.json     run.json, config.yml, trials/NNN/observation.json, which lists the other raw files of its trial
    derived.json       summary.parquet, trials/NNN/trial.json, which lists the other derived files of its trial

An entry of checksums.json is written before its file, so that no file is ever there that it does not know.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pagelab.config.model_specs import Sha256
from pagelab.errors import StoreError
from pagelab.store.files import Owner, read_record, write_json
from pagelab.store.record import SCHEMA_VERSION, PathInside, Record

CHECKSUMS, DERIVED = "checksums.json", "derived.json"


class Checksums(Record):
    """Either file. `files` has what a file, by its path in the run, may be.

    That is one checksum, and two for run.json: two files cannot be replaced at once, so it is still what it was before,
    or what it was about to become, where the runner was killed in between. `own_sha256` is that of the entries, so that
    damage here is not taken for damage to the files.
    """

    schema_version: int = SCHEMA_VERSION
    files: dict[PathInside, Annotated[list[Sha256], Field(min_length=1, max_length=2)]] = Field(default_factory=dict)
    own_sha256: Sha256 = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        own = digest_of("".join(f"{name} {' '.join(self.files[name])}\n" for name in sorted(self.files)).encode())
        if self.own_sha256 not in ("", own):
            raise ValueError("its entries are not what was written")
        self.own_sha256 = own
        return self


def digest_of(content: bytes) -> str:
    """The sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def read_checksums(directory: Path, name: str = CHECKSUMS) -> Checksums | None:
    """Read one of the two; None where it is missing, StoreError where it is damaged."""
    path = directory / name
    return read_record(path, Checksums) if path.exists() else None


def note_recorded(
    directory: Path, changes: Mapping[str, str | None], owner: Owner | None = None, *, keep_before: bool = False
) -> None:
    """Write down in checksums.json what files are about to be; None for one that is gone.

    A run of a pagelab that wrote no checksums gets none now: nobody knows what its files were.

    Args:
        directory: of the run.
        changes: the checksum of each file, by its path in the run.
        owner: uid and gid that the file should belong to.
        keep_before: whether a file may go on to be what it was.
    """
    found = read_checksums(directory)
    if found is None and (directory / "run.json").exists():
        return
    _write(directory / CHECKSUMS, found or Checksums(), changes, owner, keep_before)


def note_derived(directory: Path, changes: Mapping[str, str | None], owner: Owner | None = None) -> None:
    """Write down in derived.json what derived files have become; a damaged one is begun anew."""
    try:
        found = read_checksums(directory, DERIVED)
    except StoreError:
        found = None
    _write(directory / DERIVED, found or Checksums(), changes, owner)


def _write(
    path: Path, found: Checksums, changes: Mapping[str, str | None], owner: Owner | None, keep_before: bool = False
) -> None:
    files = dict(found.files)
    for name, digest in changes.items():
        before = files.pop(name, [])
        if digest is not None:
            files[name] = [*(one for one in before[-1:] if keep_before and one != digest), digest]
    if files != found.files or not path.exists():
        write_json(path, Checksums(files=dict(sorted(files.items()))), owner)
