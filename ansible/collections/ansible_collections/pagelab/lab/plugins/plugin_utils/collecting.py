"""Runs as they arrive here: compared with what is here already, unpacked aside, verified, and put in place whole."""

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ansible.errors import AnsibleActionFail
from ansible_collections.pagelab.lab.plugins.plugin_utils.transfer import sha256_of

Verdict = Literal["missing", "older", "same", "newer", "different"]

# At this depth nothing that looks for EXPERIMENT/HOST/RUN_ID/run.json takes a half-unpacked run for one.
STAGING = ".incoming"

# What is made anew from the measured files, here as there: a report that was written again here is no difference.
DERIVED = re.compile(r"report/|(summary\.parquet|derived\.json)$")

_MANIFEST_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>.+)")


def read_manifest(text: str) -> dict[str, str]:
    """The checksums of a run's files by name.

    Raises:
        AnsibleActionFail: it is damaged, or names a file outside the run.
    """
    found: dict[str, str] = {}
    for line in text.removesuffix("\n").split("\n") if text else ():
        match = _MANIFEST_LINE.fullmatch(line)
        if match is None or match["name"].startswith("/") or ".." in match["name"].split("/"):
            raise AnsibleActionFail(f"the host's list of files has a line that is none: {line!r}")
        found[match["name"]] = match["sha256"]
    return found


def compare(here: Path, manifest: Mapping[str, str], *, complete_there: bool) -> Verdict:
    """How the run in `here` relates to the one on the host.

    `older` may be replaced by the host's; `newer` is complete and the host's is not; `different` is complete, as the
    host's is, and has other content: nothing of both may be touched.
    """
    if not (here / "run.json").is_file():
        return "missing"
    measured = {name: digest for name, digest in manifest.items() if not DERIVED.match(name)}
    if all((here / name).is_file() and sha256_of(here / name) == digest for name, digest in measured.items()):
        return "same"
    if not is_complete(here):
        return "older"
    return "different" if complete_there else "newer"


def shortened(sentences: Sequence[str], shown: int = 3) -> list[str]:
    """The first of many sentences, and how many more there are."""
    more = len(sentences) - shown
    return [*sentences[:shown], f"and {more} more files"] if more > 0 else list(sentences)


def is_complete(directory: Path) -> bool:
    """Whether its run.json says so."""
    with suppress(OSError, ValueError):
        return bool(json.loads((directory / "run.json").read_text(encoding="utf-8"))["status"] == "complete")
    return False


def put_in_place(archive: Path, manifest: Mapping[str, str], results: Path, run: str) -> Path:
    """Unpack a run aside, verify every file, and only then let it appear, in the place of an older state of itself.

    Raises:
        AnsibleActionFail: the archive holds something else than the manifest says; nothing in `results` has changed.
    """
    staging, target = results / STAGING / hashlib.sha256(run.encode()).hexdigest(), results / run
    replaced = staging.with_name(f"{staging.name}--replaced")
    for leftover in (staging, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    unpack(archive, manifest, staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(replaced)
    staging.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)
    with suppress(OSError):  # another host's run is arriving
        staging.parent.rmdir()
    return target


def unpack(archive: Path, manifest: Mapping[str, str], directory: Path) -> None:
    """Unpack exactly the files of the manifest, and verify them as they are on this disk.

    Raises:
        AnsibleActionFail: one is missing, damaged, or none of them.
    """
    missing = set(manifest)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isreg() or member.name not in missing:
                    raise AnsibleActionFail(f"{archive} holds {member.name!r}, which the host did not list")
                _extract(tar, member, directory / member.name)
                missing.discard(member.name)
    except (tarfile.TarError, OSError) as error:
        raise AnsibleActionFail(f"cannot unpack {archive}: {error}") from error
    if missing:
        raise AnsibleActionFail(f"{archive} does not hold {min(missing)}")
    for name, digest in manifest.items():
        if sha256_of(directory / name) != digest:
            raise AnsibleActionFail(f"{name} of {archive} is damaged: its sha256 is not what it was on the host")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Content and time only: owner and mode are those of who collects. No link is in the way in a new directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise AnsibleActionFail(f"{member.name!r} in the archive of the run is no file")
    with source, path.open("xb") as stream:
        shutil.copyfileobj(source, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.utime(path, (member.mtime, member.mtime))
