#!/usr/bin/python
"""experiment_runs: lists, packs and removes runs of experiments on a host; the standard library is enough for it."""

import hashlib
import json
import os
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: experiment_runs
short_description: List, pack and remove the runs of experiments
description:
  - Used by the action collect_runs. A run is a directory EXPERIMENT/HOST/RUN_ID with a run.json.
options:
  results: {type: path, required: true, description: The directory that holds all results.}
  outgoing: {type: path, required: true, description: Where packed runs go.}
  state:
    type: str
    choices: [listed, packed, released]
    default: listed
    description:
      - C(listed) names the runs, and files that are not what they were when they were written.
      - C(packed) writes one run to a tar file.
      - C(released) removes the packed file and, if the run is complete and still is what was packed, the run.
  run: {type: str, description: EXPERIMENT/HOST/RUN_ID}
  manifest_sha256: {type: str, description: What C(packed) has returned.}
author: pagelab
"""

BOOKS = ("checksums.json", "derived.json")
LISTS = {"observation.json": "raw_files", "trial.json": "derived_files"}
TEMPORARY_SUFFIX = ".partial"  # a file that the runner was writing


def files_of(directory):
    """The files of a run, by name; a link or a device is nothing that the runner writes, and is refused."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ValueError(f"{path} is not a plain file: remove it, then collect again")
        if path.is_file() and not path.name.endswith(TEMPORARY_SUFFIX):
            found.append(path)
    return found


def checksum(path):
    """The sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1024**2), b""):
            digest.update(block)
    return digest.hexdigest()


def manifest_of(directory):
    """What `sha256sum` would say about the files of a run, by name."""
    return "".join(f"{checksum(path)}  {path.relative_to(directory).as_posix()}\n" for path in files_of(directory))


def digest(text):
    """The sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def status_of(directory):
    """`complete` or `incomplete`; a run.json that cannot be read is not complete."""
    with suppress(ValueError, OSError):
        return json.loads((directory / "run.json").read_text(encoding="utf-8")).get("status", "incomplete")
    return "incomplete"


def damage_of(directory, manifest):
    """Sentences on files that are not what their run says they were when they were written.

    checksums.json and derived.json know the files that list the others: observation.json the raw ones of its trial,
    trial.json the derived ones. A run of a pagelab that wrote no checksums is not judged.
    """
    sums = {name: checksum for checksum, name in (line.split("  ", 1) for line in manifest.split("\n") if line)}
    expected = {}
    for book in BOOKS:
        if book in sums:
            try:
                expected |= listed_in(directory, sums, read_json(directory / book)["files"])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                expected[book] = []
    wrong = {
        name: "is not what was written" if name in sums else "is missing"
        for name, allowed in expected.items()
        if sums.get(name) not in allowed
    }
    damaged = {name.split("/")[1] for name in wrong if name.startswith("trials/")}
    computed = {name.split("/")[1] for name in expected if name.endswith("/trial.json")}
    if not sums.keys() >= set(BOOKS) or not wrong.keys().isdisjoint(BOOKS):
        computed = set()  # what the others list is not known
    for name in sums:
        if name.startswith("trials/") and name not in expected and name.split("/")[1] in computed - damaged:
            wrong[name] = "was added"
    return [f"{name} {what}" for name, what in sorted(wrong.items())]


def listed_in(directory, sums, files):
    """What each file of a list of checksums may be, and what the files may be that those list."""
    expected = {name: list(allowed) for name, allowed in files.items()}
    for name in files:
        key = LISTS.get(name.rpartition("/")[2])
        if key and sums.get(name) in expected[name]:
            listed_there = read_json(directory / name).get(key, {})
            expected |= {f"{name.rpartition('/')[0]}/{each}": [checksum] for each, checksum in listed_there.items()}
    return expected


def read_json(path):
    """What JSON a file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def listed(results):
    """The runs with what tells whether the same is at the other end already."""
    found = []
    for path in sorted(results.glob("*/*/*/run.json")):
        directory = path.parent
        manifest = manifest_of(directory)
        found.append(
            {
                "run": directory.relative_to(results).as_posix(),
                "status": status_of(directory),
                "manifest": manifest,
                "manifest_sha256": digest(manifest),
                "damage": damage_of(directory, manifest),
            }
        )
    return found


def packed(results, outgoing, run):
    """Pack a run; the same files always give the same archive, so that an interrupted transfer can go on."""
    directory = results / run
    manifest = manifest_of(directory)
    outgoing.mkdir(mode=0o755, parents=True, exist_ok=True)
    archive = archive_of(outgoing, run)
    temporary = archive.with_name(f"{archive.name}{TEMPORARY_SUFFIX}")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in files_of(directory):
            entry = tar.gettarinfo(path, path.relative_to(directory).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o644
            entry.mtime = int(entry.mtime)
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    if manifest_of(directory) != manifest:
        temporary.unlink()
        raise ValueError(f"{directory} changed while it was packed: collect again when its experiment has ended")
    temporary.replace(archive)
    return {
        "archive": str(archive),
        "sha256": checksum(archive),
        "manifest": manifest,
        "manifest_sha256": digest(manifest),
        "damage": damage_of(directory, manifest),
    }


def archive_of(outgoing, run):
    """The packed file of a run; the names of two runs could become one without a checksum."""
    return outgoing / f"{run.rpartition('/')[2][:40]}-{digest(run)[:16]}.tar"


def released(results, outgoing, run, manifest_sha256):
    """Remove what is not needed here any more. A run disappears at once, so that half of one is never seen."""
    directory, archive = results / run, archive_of(outgoing, run)
    changed = archive.exists()
    archive.unlink(missing_ok=True)
    if not directory.is_dir() or status_of(directory) != "complete":
        return {"changed": changed, "removed": False}
    if digest(manifest_of(directory)) != manifest_sha256:
        raise ValueError(f"{directory} is not what was collected: it changed since; collect again")
    outgoing.mkdir(mode=0o755, parents=True, exist_ok=True)
    going = outgoing / f"removed--{archive.stem}"
    shutil.rmtree(going, ignore_errors=True)
    directory.replace(going)
    shutil.rmtree(going)
    for parent in (directory.parent, directory.parent.parent):
        with suppress(OSError):  # not empty
            parent.rmdir()
    return {"changed": True, "removed": True}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "results": {"type": "path", "required": True},
            "outgoing": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["listed", "packed", "released"], "default": "listed"},
            "run": {"type": "str"},
            "manifest_sha256": {"type": "str"},
        },
        required_if=[("state", "packed", ["run"]), ("state", "released", ["run", "manifest_sha256"])],
        supports_check_mode=False,
    )
    given = module.params
    results, outgoing = Path(given["results"]), Path(given["outgoing"])
    try:
        if given["state"] == "listed":
            module.exit_json(changed=False, runs=listed(results))
        elif given["state"] == "packed":
            module.exit_json(changed=True, **packed(results, outgoing, given["run"]))
        else:
            module.exit_json(**released(results, outgoing, given["run"], given["manifest_sha256"]))
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
