"""Where models come from, and whether the file that is there is still the one that was asked for.

A model gets its name in the models directory only after its sha256 has been checked. A stamp beside it, `FILE.json`,
then says which sha256 the file had, and its inode, size and times, so that later checks need not read gigabytes: a file
that was copied, moved over or touched is read again. No program can set the time of the last change of an inode.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from pagelab.config.model_specs import (
    FileSource,
    ModelSpec,
    PypiPartsSource,
    PypiSource,
    Sha256,
    SyntheticSource,
    UrlSource,
)
from pagelab.config.split_files import part_names
from pagelab.errors import ModelError, shown
from pagelab.models.download import discard, download
from pagelab.models.gguf_map import GgufMap, read_gguf_map
from pagelab.models.model_file import another_thing, opened, size_of
from pagelab.models.pypi import join_parts, join_pieces
from pagelab.models.synthetic import digest, write_synthetic
from pagelab.units import MIB

_BLOCK_BYTES = 4 * MIB
_LONGEST_STAMP_BYTES = 4096


class Stamp(BaseModel):
    """What a file was when its sha256 was last computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256
    bytes: int
    mtime_ns: int
    ctime_ns: int | None = None  # absent in older stamps, which are of no use then
    inode: int | None = None

    @classmethod
    def of(cls, sha256: str, status: os.stat_result) -> "Stamp":
        """The stamp of a file that has this status."""
        return cls(
            sha256=sha256,
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
        )


def model_path(spec: ModelSpec, models_dir: Path) -> Path:
    """Where the model's file is, or will be once it has been fetched; of a split model, its first file.

    The name of a synthetic model carries its shape and a hash of its whole spec, so that another spec is another file.
    """
    source = spec.source
    if isinstance(source, SyntheticSource):
        shape = source.synthetic
        name = f"{shape.architecture}-{shape.layers}x{shape.width}-{shape.type.lower()}-{digest(shape)[:8]}.gguf"
        return models_dir / name
    return models_dir / (source.file_name if isinstance(source, UrlSource) else source.file)


def file_specs(spec: ModelSpec) -> list[ModelSpec]:
    """A spec for each file of the model, in order: the spec itself, or one for each part of a split model."""
    source = spec.source
    if not isinstance(source, FileSource | UrlSource) or isinstance(source.sha256, str):
        return [spec]
    count = len(source.sha256)
    first = source.file.name if isinstance(source, FileSource) else source.file_name
    names = part_names(first, count) or []
    return [
        ModelSpec(name=f"{spec.name}-{number}-of-{count}", source=_part_of(source, first, name, sha256))
        for number, (name, sha256) in enumerate(zip(names, source.sha256, strict=True), start=1)
    ]


def _part_of(source: FileSource | UrlSource, first: str, name: str, sha256: str) -> FileSource | UrlSource:
    """The source of one part, whose name takes the place of the first one's."""
    if isinstance(source, FileSource):
        return FileSource(file=source.file.with_name(name), sha256=sha256)
    address = urlsplit(source.url)
    return UrlSource(url=address._replace(path=address.path.removesuffix(first) + name).geturl(), sha256=sha256)


def read_model(spec: ModelSpec, models_dir: Path) -> GgufMap:
    """The map of the model's file, or of its files.

    Raises:
        ModelError: as `read_gguf_map`; or the model has more files than the configuration has checksums.
    """
    model, named = read_gguf_map(model_path(spec, models_dir)), len(file_specs(spec))
    if len(model.parts) != named:
        raise ModelError(
            f"{shown(model.path)} is one of {len(model.parts)} files of a model: give its first file, with a list of "
            f"the sha256 of each as `sha256`, or join them with llama-gguf-split --merge"
        )
    return model


def fetch(spec: ModelSpec, models_dir: Path, *, thorough: bool = False) -> bool:
    """Make sure that the model's files are there and are the right ones; returns whether anything had to be done.

    A file that is truncated or altered is fetched anew. `thorough` hashes it even where its stamp says that nothing
    changed. Only one process at a time fetches into a directory.

    Raises:
        ModelError: the model cannot be had, or what was fetched has another sha256 than the configuration says.
    """
    changed = [_fetch_file(one, models_dir, thorough) for one in file_specs(spec)]
    return any(changed)


def _fetch_file(spec: ModelSpec, models_dir: Path, thorough: bool) -> bool:
    path, source = model_path(spec, models_dir), spec.source
    if isinstance(source, FileSource):
        verify_model(spec, models_dir, thorough=thorough)
        return False
    if _is_intact(spec, models_dir, thorough):
        return False
    with _locked(models_dir):
        # Another process may have fetched it while this one waited for the lock.
        if not thorough and _is_intact(spec, models_dir, thorough):
            return False
        _obtain(source, path)
    return True


def require_files(spec: ModelSpec, models_dir: Path) -> None:
    """Refuse a model that is not there.

    Raises:
        ModelError: a file of it is missing.
    """
    for one in file_specs(spec):
        path = model_path(one, models_dir)
        if not path.exists():
            given = isinstance(one.source, FileSource)
            remedy = "correct its path" if given else "`make provision CONFIG=…` or `pagelab model fetch` gets it"
            raise ModelError(f"model {one.name} is not at {shown(path)}; {remedy}")


def verify_model(spec: ModelSpec, models_dir: Path, *, thorough: bool = False) -> str:
    """Check the model's files as `verify` does and return their sha256.

    That of a synthetic model is the one of its stamp; that of a split model is the sha256 of the checksums of its
    files, each in hexadecimal digits on a line.

    Raises:
        ModelError: a file is missing, or is not the one that was fetched.
    """
    require_files(spec, models_dir)
    found = [_verify_file(one, models_dir, thorough) for one in file_specs(spec)]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(f"{one}\n" for one in found).encode()).hexdigest()


def _verify_file(spec: ModelSpec, models_dir: Path, thorough: bool) -> str:
    path, source = model_path(spec, models_dir), spec.source
    if not isinstance(source, SyntheticSource):
        sha256 = cast(str, source.sha256)  # specs with several were taken apart by `file_specs`
    elif (stamp := read_stamp(path)) is not None:
        sha256 = stamp.sha256
    else:
        raise ModelError(f"model {spec.name} has not been generated at {shown(path)}: run pagelab model fetch")
    verify(path, sha256, thorough=thorough)
    return sha256


def verify(path: Path, sha256: str, *, thorough: bool = False) -> None:
    """Check that a file has this sha256. It is read only where it is not the file of its stamp, or if `thorough`.

    Raises:
        ModelError: the file is missing, is no regular one, cannot be read, or has another sha256.
    """
    try:
        stamp, status = read_stamp(path), path.stat()
        fresh = stamp is not None and stamp == Stamp.of(stamp.sha256, status)
        found = stamp.sha256 if stamp and fresh and not thorough else _hash(path)
    except OSError as error:
        raise ModelError(
            f"model file {shown(path)} cannot be read ({error.strerror}): run pagelab model fetch, or correct the path"
        ) from error
    if found != sha256:
        usual = "it is truncated or another file: run pagelab model fetch, or correct the configuration"
        raise ModelError(
            f"model file {shown(path)} has sha256 {found} instead of {sha256}; {another_thing(path) or usual}"
        )
    # A directory that we may not write to has no stamps, and a file of someone else's is not overwritten with one:
    # the model is then read each time.
    if not fresh and (stamp or not _stamp_path(path).exists()):
        with suppress(OSError):
            _write_stamp(path, sha256, status)


def read_stamp(path: Path) -> Stamp | None:
    """The stamp of a model file, or None where there is none that can be read."""
    try:
        with opened(_stamp_path(path)) as descriptor:
            return Stamp.model_validate_json(os.pread(descriptor, _LONGEST_STAMP_BYTES, 0))
    except (ModelError, OSError, ValueError):
        return None


def _stamp_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _hash(path: Path) -> str:
    """The sha256 of a regular file, of as many bytes as it has now."""
    found, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    with opened(path) as descriptor:
        left = size_of(descriptor)
        while left and (count := os.readv(descriptor, [block[: min(left, _BLOCK_BYTES)]])):
            found.update(block[:count])
            left -= count
    return found.hexdigest()


def _write_stamp(path: Path, sha256: str, status: os.stat_result) -> None:
    stamp = Stamp.of(sha256, status)
    part = path.with_name(f".{path.name}.json.part")
    part.write_text(json.dumps(stamp.model_dump()) + "\n")
    part.replace(_stamp_path(path))


def _is_intact(spec: ModelSpec, models_dir: Path, thorough: bool) -> bool:
    try:
        verify_model(spec, models_dir, thorough=thorough)
    except ModelError:
        return False
    return True


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with (models_dir / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ModelError(
            f"models directory {shown(models_dir)} cannot be written ({error.strerror}): make room, choose another one "
            "with --models, or run as a user who may write it"
        ) from error


def _obtain(source: PypiSource | PypiPartsSource | SyntheticSource | UrlSource, path: Path) -> None:
    """Get the file under its name, with a stamp. The stamp of what was there before goes first."""
    _stamp_path(path).unlink(missing_ok=True)
    if isinstance(source, SyntheticSource):
        _write_stamp(path, write_synthetic(source.synthetic, path), path.stat())
        return
    part = path.with_name(f".{path.name}.part")
    if isinstance(source, PypiSource):
        join_pieces(source, part)
    else:
        _receive(source, part)
    sha256 = _hash(part)
    if sha256 != source.sha256:
        what = another_thing(part) or "correct the sha256 or the source in the configuration"
        discard(part)
        raise ModelError(f"what was fetched for {path.name} has sha256 {sha256} instead of {source.sha256}: {what}")
    part.replace(path)
    _write_stamp(path, sha256, path.stat())


def _receive(source: UrlSource | PypiPartsSource, part: Path) -> None:
    """Receive a file, going on where an earlier attempt stopped; where that does not fit together, from the start."""
    attempt = partial(download, source.url) if isinstance(source, UrlSource) else partial(join_parts, source)
    if attempt(part) and _hash(part) != source.sha256:
        discard(part)
        attempt(part)
