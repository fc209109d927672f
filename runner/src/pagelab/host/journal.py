"""The journal of changes to the host: each is on disk before it is made, so that any later start can undo it."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pagelab.errors import HostError
from pagelab.host.cgroup import Group, parent_path, remove_parent, stale_groups
from pagelab.host.procfs import lines, read_text
from pagelab.host.tracefs import Instance, stale_instances, tracefs


class Journal:
    """Changes made and not yet put back, one JSON object a line in `journal.jsonl` of the state directory."""

    def __init__(self, state_directory: Path) -> None:
        self._directory = state_directory
        self._file = state_directory / "journal.jsonl"

    def note_setting(self, file: Path, value: str) -> None:
        """Record that a kernel setting is about to be changed, with the value that it has now."""
        self._append({"setting": str(file), "value": value})

    def note_group(self, path: Path) -> None:
        """Record that a control group is about to be made."""
        self._append({"group": str(path)})

    def note_trace_instance(self, name: str) -> None:
        """Record that a trace instance is about to be made."""
        self._append({"trace_instance": name})

    def entries(self) -> list[dict[str, Any]]:
        """All changes not yet put back, oldest first; a line cut short by a crash was never acted on."""
        entries = []
        for line in lines(read_text(self._file)):
            with suppress(ValueError):
                entries.append(json.loads(line))
        return entries

    def undo(self) -> list[str]:
        """Put everything back, newest first, and say in a sentence each what was undone.

        Raises:
            HostError: something could not be put back; the journal is then kept.
        """
        undone = [sentence for entry in reversed(self.entries()) for sentence in _undo(entry)]
        self._file.unlink(missing_ok=True)
        return undone

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise HostError(
                f"cannot write the journal {self._file} ({error.strerror}), so nothing was changed; make room there"
            ) from error


def _undo(entry: dict[str, Any]) -> list[str]:
    if "group" in entry:
        return _remove_group(Path(entry["group"]))
    if "trace_instance" in entry:
        return _remove_instance(Instance(tracefs(), entry["trace_instance"]))
    file, value = Path(entry["setting"]), str(entry["value"])
    found = selected(read_text(file))
    if found is None or found == value:
        return []
    try:
        file.write_text(value)
    except OSError as error:
        raise HostError(
            f"cannot put {file} back to {value} ({error.strerror}); run `pagelab restore` as root"
        ) from error
    return [f"set {file} back from {found} to {value}"]


def _remove_group(path: Path) -> list[str]:
    if not path.exists():
        return []
    group = Group(path)
    pids = group.kill()
    group.remove()
    killed = f" and killed its {len(pids)} process{'es' if len(pids) != 1 else ''}" if pids else ""
    return [f"removed the control group {path}{killed}"]


def _remove_instance(instance: Instance) -> list[str]:
    if not instance.path.exists():
        return []
    instance.remove()
    return [f"removed the trace instance {instance.path}"]


def selected(text: str | None) -> str | None:
    """The chosen word of a setting that lists its choices, such as `always [madvise] never`; else the text itself."""
    found = re.search(r"\[([^\[\]]*)\]", text or "")
    return found[1] if found else text


def restore(state_directory: Path) -> list[str]:
    """Undo what the journal holds, remove every group and trace instance of the lab, and say what was undone.

    Call it with the lock of `exclusive` held, so that it never takes away the group of a running trial.
    """
    undone = Journal(state_directory).undo()
    for group in stale_groups():
        undone += _remove_group(group.path)
    remove_parent()
    for instance in stale_instances():
        undone += _remove_instance(instance)
    return undone


@contextmanager
def exclusive(state_directory: Path) -> Iterator[None]:
    """Hold the locks that only one experiment on a host can hold; the kernel drops them when the holder dies.

    One is a file of the state directory. The other is the root of the memory controller's hierarchy itself, which every
    container and every state directory of a host share: where it is held, groups belong to somebody.

    Raises:
        HostError: another experiment holds one, or the state directory cannot be written.
    """
    with ExitStack() as opened:
        try:
            state_directory.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context((state_directory / "lock").open("a+", encoding="utf-8"))
        except OSError as error:
            raise HostError(
                f"cannot use the state directory {state_directory} ({error.strerror}); run as root"
            ) from error
        _lock(file.fileno(), file)
        try:
            hierarchy = os.open(parent_path().parent, os.O_RDONLY | os.O_DIRECTORY)
        except (HostError, OSError):
            hierarchy = None  # no control groups here, so nobody's to take away
        if hierarchy is not None:
            opened.callback(os.close, hierarchy)
            _lock(hierarchy, file)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(descriptor: int, holder: TextIO) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder.seek(0)
        raise HostError(
            f"an experiment is running on this host (process {holder.read().strip() or 'unknown'}); "
            "wait for it, or stop it with Ctrl-C in its terminal"
        ) from None
