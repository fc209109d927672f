"""Files and runs on their way: to the host through ansible-playbook, from it, and what is done with what arrives."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure

from collection import collecting, experiment_runs, launcher, names, outcome, remote, transfer
from lab import ansible_environment

SLICE_BYTES = 64 * 1024

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - pagelab.lab.send:
      args: {arguments}
      register: answer
    - ansible.builtin.copy:
        content: "{{{{ answer | to_json }}}}"
        dest: {answer}
      check_mode: false
"""


def command(tmp_path: Path, options: Sequence[str], **arguments: object) -> list[str]:
    """How ansible-playbook is called for one task."""
    playbook = tmp_path / "send.yml"
    playbook.write_text(
        PLAYBOOK.format(arguments=json.dumps(arguments), answer=json.dumps(str(tmp_path / "answer.json")))
    )
    return [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(playbook), *options]


def send(tmp_path: Path, *options: str, **arguments: object) -> dict[str, Any]:
    """Bring a file to "the host"; the task's result, with `failed` and the message where it failed."""
    answer = tmp_path / "answer.json"
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        command(tmp_path, options, **arguments),
        capture_output=True,
        text=True,
        env=ansible_environment(),
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        print(done.stdout, done.stderr)  # noqa: T201 - shown where the test fails
        return {"failed": True, "msg": " ".join((done.stdout + done.stderr).split())}
    result: dict[str, Any] = json.loads(answer.read_text())
    return result | {"moved_bytes": result["sent_bytes"]}


class Here(remote.Remote):
    """A host that is this machine; the connection breaks after a number of commands."""

    def __init__(self, commands: int = 1000) -> None:
        super().__init__(None, "here", reconnect_seconds=0.0)
        self.commands = commands

    def _run(self, command: str, data: bytes) -> remote.Answer:
        if self.commands == 0:
            raise AnsibleConnectionFailure("cut")
        self.commands -= 1
        done = subprocess.run(["sh", "-c", command], input=data, capture_output=True, check=False)
        return remote.Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def receive(tmp_path: Path, *, src: str, dest: str, slice_bytes: int = transfer.SLICE_BYTES) -> dict[str, Any]:
    """Bring a file from "the host", as collect_runs does; the same as `send` gives."""
    sha256 = transfer.sha256_of(Path(src)) if Path(src).exists() else ""
    try:
        done = transfer.receive(Here(), src, Path(dest), sha256, slice_bytes=slice_bytes)
    except AnsibleActionFail as failure:
        return {"failed": True, "msg": str(failure)}
    return asdict(done)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of several slices, the last of them short, under a name that a shell would take apart."""
    path = tmp_path / 'a model\'s "$(name)" * .gguf'
    path.write_bytes(os.urandom(10 * SLICE_BYTES + 12345))
    return path


def destination(tmp_path: Path) -> Path:
    """Where it goes."""
    directory = tmp_path / "the other side; $HOME"
    directory.mkdir(exist_ok=True)
    return directory / "it's here.gguf"


BOTH_WAYS = pytest.mark.parametrize("bring", [send, receive])


@BOTH_WAYS
def test_a_file_arrives_once(tmp_path: Path, source: Path, bring: Callable[..., dict[str, Any]]) -> None:
    dest = destination(tmp_path)
    arguments = {"src": str(source), "dest": str(dest), "slice_bytes": SLICE_BYTES}

    first = bring(tmp_path, **arguments)
    assert first["changed"]
    assert first["moved_bytes"] == first["size_bytes"] == source.stat().st_size
    assert first["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert dest.read_bytes() == source.read_bytes()

    second = bring(tmp_path, **arguments)
    assert not second["changed"]
    assert second["moved_bytes"] == 0
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


@BOTH_WAYS
def test_an_empty_file_arrives(tmp_path: Path, bring: Callable[..., dict[str, Any]]) -> None:
    source, dest = tmp_path / "empty", destination(tmp_path)
    source.touch()

    assert bring(tmp_path, src=str(source), dest=str(dest))["changed"]
    assert dest.read_bytes() == b""


def test_a_killed_task_goes_on_where_it_was(tmp_path: Path) -> None:
    source, dest = tmp_path / "large", destination(tmp_path)
    source.write_bytes(os.urandom(400 * SLICE_BYTES))
    arguments = {"src": str(source), "dest": str(dest), "slice_bytes": SLICE_BYTES}

    process = subprocess.Popen(
        command(tmp_path, [], **arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ansible_environment(),
        start_new_session=True,
    )
    wait_for(lambda: size_of_part(dest) >= 10 * SLICE_BYTES, process)
    process.terminate()
    process.wait(timeout=60)
    wait_until_still(dest)
    arrived = size_of_part(dest)
    assert 10 * SLICE_BYTES <= arrived < source.stat().st_size
    assert not dest.exists()

    rest = send(tmp_path, **arguments)
    assert rest["sent_bytes"] == source.stat().st_size - arrived
    assert dest.read_bytes() == source.read_bytes()


def test_what_a_lost_connection_had_brought_is_not_brought_again(tmp_path: Path, source: Path) -> None:
    dest = destination(tmp_path)
    sha256 = transfer.sha256_of(source)
    with pytest.raises(AnsibleConnectionFailure):
        transfer.receive(Here(commands=4), str(source), dest, sha256, slice_bytes=SLICE_BYTES)
    assert size_of_part(dest) == 3 * SLICE_BYTES
    assert not dest.exists()

    rest = transfer.receive(Here(), str(source), dest, sha256, slice_bytes=SLICE_BYTES)
    assert rest.moved_bytes == source.stat().st_size - 3 * SLICE_BYTES
    assert dest.read_bytes() == source.read_bytes()


def test_in_check_mode_nothing_is_sent(tmp_path: Path, source: Path) -> None:
    dest = destination(tmp_path)
    assert send(tmp_path, "--check", src=str(source), dest=str(dest))["changed"]
    assert list(dest.parent.iterdir()) == []


def size_of_part(dest: Path) -> int:
    """How much of it has arrived."""
    return sum(path.stat().st_size for path in dest.parent.glob("*.part"))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait while the process is there."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the transfer ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until_still(dest: Path) -> None:
    """Wait until nobody writes any more: Ansible's workers outlive it for a moment."""
    before = -1
    while (now := size_of_part(dest)) != before:
        before = now
        time.sleep(1.0)


@BOTH_WAYS
def test_what_arrives_damaged_is_removed(tmp_path: Path, source: Path, bring: Callable[..., dict[str, Any]]) -> None:
    dest = destination(tmp_path)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    part = dest.with_name(f"{dest.name}.{sha256[:16]}.part")
    part.write_bytes(b"something else")

    failed = bring(tmp_path, src=str(source), dest=str(dest), slice_bytes=SLICE_BYTES)
    assert "damaged" in failed["msg"]
    assert not part.exists()
    assert not dest.exists()
    assert bring(tmp_path, src=str(source), dest=str(dest))["changed"]


@BOTH_WAYS
def test_two_files_are_never_mixed(tmp_path: Path, source: Path, bring: Callable[..., dict[str, Any]]) -> None:
    """What has arrived of another content is not gone on with, and goes."""
    dest = destination(tmp_path)
    dest.with_name(f"{dest.name}.{'0' * 16}.part").write_bytes(b"of another file")

    assert bring(tmp_path, src=str(source), dest=str(dest))["moved_bytes"] == source.stat().st_size
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_the_mode_is_set(tmp_path: Path, source: Path) -> None:
    dest = destination(tmp_path)
    send(tmp_path, src=str(source), dest=str(dest), mode="0600")
    assert dest.stat().st_mode & 0o777 == 0o600

    again = send(tmp_path, src=str(source), dest=str(dest), mode="0755")
    assert again["changed"]
    assert again["sent_bytes"] == 0
    assert dest.stat().st_mode & 0o777 == 0o755


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for bring in (send, receive):
        failed = bring(tmp_path, src=str(tmp_path / "nothing.gguf"), dest=str(tmp_path / "x"))
        assert "nothing.gguf" in failed["msg"]


# --- runs that arrive -------------------------------------------------------------------------------------------------


RUN = "ssd-spill/lab1/20261123T200000-abcdef01"


def make_run(results: Path, status: str = "complete", trials: int = 2, name: str = RUN) -> Path:
    """A run as the runner leaves it."""
    directory = results / name
    for number in range(1, trials + 1):
        trial = directory / "trials" / f"{number:03d}"
        trial.mkdir(parents=True, exist_ok=True)
        (trial / "llama.log").write_text(f"log {number}")
        (trial / "trial.json").write_text(json.dumps({"validity": {"valid": True}}))
    (directory / "report").mkdir(exist_ok=True)
    (directory / "report" / "index.html").write_text("page")
    (directory / "run.json").write_text(json.dumps({"status": status, "trials_planned": 2}))
    return directory


def bring_run(there: Path, here: Path) -> str:
    """Pack and put in place, as collect_runs does; the checksum of the manifest."""
    packed = experiment_runs.packed(there / "results", there / "outgoing", RUN)
    collecting.put_in_place(Path(packed["archive"]), collecting.read_manifest(packed["manifest"]), here, RUN)
    return str(packed["manifest_sha256"])


def verdict(there: Path, here: Path) -> str:
    """How the run here relates to the one there."""
    (found,) = experiment_runs.listed(there / "results")
    manifest = collecting.read_manifest(found["manifest"])
    return collecting.compare(here / RUN, manifest, complete_there=found["status"] == "complete")


def test_a_complete_run_moves(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    directory = make_run(there / "results")
    os.utime(directory / "run.json", (1_700_000_000, 1_700_000_000))
    assert verdict(there, here) == "missing"

    manifest_sha256 = bring_run(there, here)
    assert verdict(there, here) == "same"
    assert (here / RUN / "run.json").stat().st_mtime == 1_700_000_000
    assert [path.name for path in here.iterdir()] == ["ssd-spill"]

    assert experiment_runs.released(there / "results", there / "outgoing", RUN, manifest_sha256)["removed"]
    assert list((there / "results").iterdir()) == list((there / "outgoing").iterdir()) == []


def test_the_same_run_packs_to_the_same_archive(tmp_path: Path) -> None:
    make_run(tmp_path / "results")
    first = experiment_runs.packed(tmp_path / "results", tmp_path / "outgoing", RUN)
    assert experiment_runs.packed(tmp_path / "results", tmp_path / "outgoing", RUN) == first


def test_an_incomplete_run_stays_on_the_host_and_is_replaced_here(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    make_run(there / "results", "incomplete", trials=1)
    manifest_sha256 = bring_run(there, here)
    assert not experiment_runs.released(there / "results", there / "outgoing", RUN, manifest_sha256)["removed"]
    assert (there / "results" / RUN / "run.json").exists()

    make_run(there / "results")
    assert verdict(there, here) == "older"
    bring_run(there, here)
    assert (here / RUN / "trials" / "002" / "trial.json").exists()
    assert collecting.is_complete(here / RUN)


def test_a_complete_run_here_is_never_replaced(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    make_run(here, trials=2)
    make_run(there / "results", "incomplete", trials=1)
    assert verdict(there, here) == "newer"

    (make_run(there / "results") / "trials" / "001" / "llama.log").write_text("another")
    assert verdict(there, here) == "different"


def test_a_report_that_was_written_again_is_no_difference(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    make_run(there / "results")
    (make_run(here) / "report" / "index.html").write_text("newer page")
    assert verdict(there, here) == "same"


def test_a_run_that_changed_since_is_not_removed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    directory = make_run(there / "results")
    manifest_sha256 = bring_run(there, tmp_path / "here")
    (directory / "trials" / "001" / "trial.json").write_text("{}")

    with pytest.raises(ValueError, match="changed since"):
        experiment_runs.released(there / "results", there / "outgoing", RUN, manifest_sha256)
    assert directory.exists()


def test_a_damaged_archive_never_appears(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    make_run(there / "results")
    packed = experiment_runs.packed(there / "results", there / "outgoing", RUN)
    archive = Path(packed["archive"])
    archive.write_bytes(archive.read_bytes().replace(b"log 2", b"log 3"))

    with pytest.raises(AnsibleActionFail, match="damaged"):
        collecting.put_in_place(archive, collecting.read_manifest(packed["manifest"]), here, RUN)
    assert not (here / RUN).exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.REGTYPE])
def test_an_archive_with_anything_else_is_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("../../evil" if kind == tarfile.REGTYPE else "run.json")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)

    with pytest.raises(AnsibleActionFail, match="did not list"):
        collecting.unpack(archive, {"run.json": "0" * 64}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../x/y", "a/b", "a/b/c/d", "/a/b", "a/../b", "a/.incoming/c", "a//c", "a/b\n/c"])
def test_a_run_with_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(AnsibleActionFail):
        names.check_run_name(name)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_manifest_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(AnsibleActionFail):
        collecting.read_manifest(f"{'0' * 64}  {name}\n")


# --- what became of it ------------------------------------------------------------------------------------------------


def test_a_line_that_was_cut_is_asked_for_again() -> None:
    status = '{"state": "running", "exit_code": 0}'
    assert launcher.parse(f"one\ntwo\n\n{status}\n") == (["one", "two"], json.loads(status))
    assert launcher.parse(f"one\ntw\n{status}\n")[0] == ["one"]
    assert launcher.parse(f"\n{status}\n")[0] == []
    odd = "model\u2028name\x0b\x0c\x1c\x85 of a\rmodel"
    assert launcher.parse(f"one\n{odd}\n\n{status}\n")[0] == ["one", odd], "as many lines as `tail` counts"
    assert launcher.parse("sudo: a password is required\n") == ([], None)


def run_here(complete: bool = True, valid: int = 2, invalid: tuple[str, ...] = ()) -> outcome.Run:
    """A run that was collected."""
    return outcome.Run(Path("/results/e/lab1/r"), complete, 2, valid, invalid)


@pytest.mark.parametrize(
    ("code", "run", "lines", "status", "words"),
    [
        (0, run_here(), [], "done", ""),
        (0, None, [], "failed", "not here"),
        (
            1,
            run_here(valid=1, invalid=("the limit was not reached",)),
            [],
            "invalid trials",
            "the limit was not reached",
        ),
        (1, run_here(complete=False), ["KeyError: 'x'"], "failed", "KeyError: 'x'; to go on where it ended: make exp"),
        (2, None, ["pagelab: no model"], "failed", "no model"),
        (3, None, ["pagelab: preflight: swap: none", ""], "preflight refused", "swap: none"),
        (130, run_here(complete=False), [], "failed", "HOST=lab1 RESUME=1"),
        (137, run_here(complete=False), [], "failed", "killed"),
        (7, None, [], "failed", "exit code 7"),
        (255, run_here(complete=False), ["trial 1"], "failed", "its container engine, went down; to go on"),
    ],
)
def test_every_end_has_its_outcome(
    code: int, run: outcome.Run | None, lines: list[str], status: str, words: str
) -> None:
    found = outcome.outcome_of({"state": "exited", "exit_code": code}, lines, run, "lab1")
    assert (found.status, found.exit_code) == (status, code)
    assert words in found.reason


def test_results_that_are_not_here_are_no_success() -> None:
    found = outcome.outcome_of({"state": "exited", "exit_code": 0}, [], run_here(), "lab1", "the disk is full")
    assert (found.status, found.reason) == ("failed", "the disk is full")


def test_the_run_of_a_container_is_found_by_its_time(tmp_path: Path) -> None:
    old, new = make_run(tmp_path, name="e/lab1/1"), make_run(tmp_path, name="e/lab1/2")
    os.utime(old / "run.json", (1_700_000_000, 1_700_000_000))
    os.utime(new / "run.json", (1_700_000_500, 1_700_000_500))
    found = outcome.find_run(tmp_path, "e", "lab1", "2023-11-14T22:21:00.123Z")
    assert found is not None
    assert (found.directory, found.valid, found.planned) == (new, 2, 2)
    assert outcome.find_run(tmp_path, "e", "lab1", "2023-11-14T22:30:00Z") is None


def test_the_table_names_who_is_not_done() -> None:
    outcomes = {
        "lab2": {"status": "unreachable", "reason": "no\nroute"},
        "lab1": {"status": "done", "trials_valid": 9, "trials_planned": 9, "results": "/r"},
    }
    assert [line.split() for line in outcome.table(outcomes)[1:]] == [
        ["lab1", "done", "9", "of", "9", "/r"],
        ["lab2", "unreachable", "-", "-", "no", "route"],
    ]
    assert outcome.summary(outcomes) == "1 of 2 hosts done; not done: lab2"
