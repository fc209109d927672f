"""Memory control groups: one small interface, with cgroup v1 and v2 behind it.

Counter names and meanings: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of the kernel.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pagelab.errors import HostError
from pagelab.host.kernel_mounts import remove_directory
from pagelab.host.procfs import PAGE_BYTES, if_known, integer, lines, mounts, read_int, read_pairs, read_text, words

PARENT_NAME = "pagelab"
KILL_SECONDS = 20.0
_NO_LIMIT = 2**62  # version 1 shows no limit as the most pages that a long can count, version 2 as `max`
_REMEDY = "end the processes in it, then type: pagelab restore"


@dataclass(frozen=True)
class GroupCounters:
    """Counters of a group and its children at one moment; bytes, or events since the group was made."""

    memory_bytes: int | None = None
    file_bytes: int | None = None
    swap_bytes: int | None = None
    major_faults: int | None = None
    faults: int | None = None
    refault_file_pages: int | None = None
    refault_anon_pages: int | None = None
    swapped_in_pages: int | None = None
    limit_bytes: int | None = None

    @property
    def non_file_bytes(self) -> int | None:
        """Charged bytes that are no page cache: anonymous and shared memory, page tables, other kernel memory."""
        if self.memory_bytes is None or self.file_bytes is None:
            return None
        return max(0, self.memory_bytes - self.file_bytes)


@dataclass(frozen=True)
class _Names:
    """What a version of the controller calls its files and counters; a counter is `FILE`, or `FILE NAME` for a line."""

    limit: str
    usage: str
    peak: str
    limit_hits: str
    oom_kills: str
    page_cache: str
    all_groups: str  # how counters of memory.stat begin that count child groups too


_NAMES = {
    1: _Names(
        limit="memory.limit_in_bytes",
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        limit_hits="memory.failcnt",
        oom_kills="memory.oom_control oom_kill",
        page_cache="cache",
        all_groups="total_",
    ),
    2: _Names(
        limit="memory.max",
        usage="memory.current",
        peak="memory.peak",
        limit_hits="memory.events max",
        oom_kills="memory.events oom_kill",
        page_cache="file",
        all_groups="",
    ),
}


class Group:
    """One memory control group, in a parent group of the lab's own; `version` is that of the hierarchy it is in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 2 if (path.parent / "cgroup.controllers").exists() else 1
        self._names = _NAMES[self.version]

    def create(self) -> None:
        """Make the group, which must not exist yet.

        Raises:
            HostError: the kernel refused, or the parent group does not hand the memory controller on.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=False)
        except OSError as error:
            raise HostError(
                f"cannot make the control group {self.path} ({error.strerror}); "
                "run inside the lab's container, or `pagelab restore` if it was left behind"
            ) from error
        if not (self.path / self._names.limit).exists():
            self.remove()
            raise HostError(
                f"the memory controller is not enabled for {self.path}; "
                f"write +memory to {self.path.parent}/cgroup.subtree_control and to those above it"
            )

    def set_limit(self, limit_bytes: int) -> int:
        """Limit the group's memory and return the limit that the kernel reads back (rounded down to a page).

        Raises:
            HostError: the kernel refused, or holds another limit afterwards.
        """
        file, limit = self.path / self._names.limit, limit_bytes // PAGE_BYTES * PAGE_BYTES
        try:
            file.write_text(str(limit))
        except OSError as error:
            raise HostError(
                f"cannot write {limit} to {file} ({error.strerror}); run inside the lab's container"
            ) from error
        found = read_int(file)
        if found != limit:
            raise HostError(f"{file} holds {found} after {limit} was written; another manager sets this group's limit")
        return limit

    def lower_limit(self, limit_bytes: int) -> int:
        """Lower the limit as far as the kernel can without killing anything, and return what it is now.

        Version 1 refuses what it cannot reclaim. In version 2, writing memory.max where it cannot be met kills
        (memory_max_write in mm/memcontrol.c), so memory is reclaimed first.

        Raises:
            HostError: the kernel refused, because it could not reclaim enough.
        """
        if self.version == 1:
            return self.set_limit(limit_bytes)
        if (charged := self._charged()) > limit_bytes:
            with suppress(OSError):  # less was reclaimed than asked for, or the kernel is older than 5.19
                (self.path / "memory.reclaim").write_text(str(charged - limit_bytes))
        return self.set_limit(max(limit_bytes, self._charged()))

    def _charged(self) -> int:
        charged = self.memory_bytes()
        if charged is None:
            raise HostError(f"{self.path} does not say what it is charged, so its limit cannot be lowered safely")
        return charged

    def counters(self) -> GroupCounters:
        """Read all counters once."""
        pairs, prefix = read_pairs(self.path / "memory.stat"), self._names.all_groups
        stat = {name.removeprefix(prefix): value for name, value in pairs.items() if name.startswith(prefix)}
        cache, shared, limit = stat.get(self._names.page_cache), stat.get("shmem"), self._counter(self._names.limit)
        return GroupCounters(
            memory_bytes=self.memory_bytes(),
            file_bytes=None if cache is None or shared is None else cache - shared,
            swap_bytes=stat.get("swap") if self.version == 1 else read_int(self.path / "memory.swap.current"),
            major_faults=stat.get("pgmajfault"),
            faults=stat.get("pgfault"),
            # Before Linux 5.9 version 2 has one line, and counts pages of files alone.
            refault_file_pages=stat.get("workingset_refault_file", stat.get("workingset_refault")),
            refault_anon_pages=stat.get("workingset_refault_anon"),
            swapped_in_pages=stat.get("pswpin"),  # version 2 of Linux 6.13 and newer
            limit_bytes=None if limit is None or limit >= _NO_LIMIT else limit,
        )

    def memory_bytes(self) -> int | None:
        """What the group is charged now; the cheapest of the readings."""
        return self._counter(self._names.usage)

    def limit_hits(self) -> int | None:
        """How often the group's usage ran into its limit."""
        return self._counter(self._names.limit_hits)

    def peak_bytes(self) -> int | None:
        """The most that the group was ever charged."""
        return self._counter(self._names.peak)

    def oom_kills(self) -> int | None:
        """Processes of the group that the kernel killed for want of memory."""
        return self._counter(self._names.oom_kills)

    def _counter(self, name: str) -> int | None:
        file, _, line = name.partition(" ")
        return read_pairs(self.path / file).get(line) if line else read_int(self.path / file)

    def read_bytes(self, *device_numbers: str) -> int | None:
        """Bytes that the group asked disks (`major:minor`) for, together.

        None where groups have no io statistics: version 1 has them in another hierarchy, whose groups are not ours.
        """
        text = read_text(self.path / "io.stat")
        if text is None:
            return None
        found = read_bytes_by_device(text)
        counts = [found.get(number, 0) for number in device_numbers]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def swappiness_file(self) -> Path | None:
        """The group's own swappiness setting, which version 2 does not have."""
        return self.path / "memory.swappiness" if self.version == 1 else None

    @property
    def processes_file(self) -> Path:
        """Writing `0` here moves the writing process into the group."""
        return self.path / "cgroup.procs"

    def _directories(self) -> list[Path]:
        """The group's directory and those of its child groups, inner ones first, without what vanishes meanwhile."""
        return [Path(directory) for directory, _, _ in os.walk(self.path, topdown=False)]

    def _members(self) -> list[int]:
        """Ids of the processes, child groups included; 0 stands for one that this pid namespace cannot see."""
        listed = [read_text(directory / "cgroup.procs") for directory in self._directories()]
        return [pid for text in listed for word in words(text) if (pid := integer(word)) is not None]

    def processes(self) -> list[int]:
        """Ids of the processes in the group that can be seen from here, child groups included."""
        return [pid for pid in self._members() if pid > 0]

    def kill(self) -> list[int]:
        """Kill every process of the group and wait until they are gone; returns the ids that were there.

        Raises:
            HostError: a process outlived SIGKILL for KILL_SECONDS, or is out of reach in another pid namespace.
        """
        deadline, found = time.monotonic() + KILL_SECONDS, self.processes()
        while members := self._members():
            self._send_kill(members)
            if time.monotonic() > deadline:
                raise HostError(_survivor(self.path, max(members)))
            time.sleep(0.005)
        return found

    def _send_kill(self, members: list[int]) -> None:
        """By the group itself where the kernel can (Linux 5.14 and newer), else each; a 0 would be our own group."""
        everyone = self.path / "cgroup.kill"
        if everyone.exists():
            with suppress(OSError):
                everyone.write_text("1")
        for pid in members:
            if pid > 0:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        """Kill what is in the group, and remove it and its children.

        Raises:
            HostError: the kernel would not remove it within KILL_SECONDS.
        """
        if self.path.exists():
            self.kill()
            for directory in self._directories():
                remove_directory(directory, KILL_SECONDS, _REMEDY)


def _survivor(path: Path, pid: int) -> str:
    if pid == 0:
        return f"a process in {path} belongs to another pid namespace; end it there, or start through `make`"
    return f"process {pid} in {path} does not die; look at its state in /proc/{pid}"


def read_bytes_by_device(text: str) -> dict[str, int | None]:
    """Bytes read by `major:minor` in the text of io.stat (blkcg_print_one_stat in block/blk-cgroup.c).

    None for a device without figures. Linux 5.14 to 5.16 do not end the line of such a device, so that several stand
    before the figures of the last.
    """
    found: dict[str, int | None] = {}
    for line in lines(text):
        device = ""
        for word in words(line):
            name, is_figure, value = word.partition("=")
            if not is_figure:
                device, found[word] = word, None
            elif device and name == "rbytes":
                found[device] = integer(value)
    return found


def parent_path() -> Path:
    """Where the lab's groups live: `pagelab` at the root of the hierarchy that has the memory controller.

    Raises:
        HostError: no hierarchy with a memory controller is mounted.
    """
    v2_root = None
    for mount in mounts():
        if mount.file_system == "cgroup" and "memory" in mount.options.split(","):
            return Path(mount.mount_point) / PARENT_NAME
        if mount.file_system == "cgroup2" and "memory" in _controllers(Path(mount.mount_point)):
            v2_root = Path(mount.mount_point)
    if v2_root is None:
        raise HostError("no memory controller is mounted under /sys/fs/cgroup; run inside the lab's container")
    return v2_root / PARENT_NAME


def _controllers(directory: Path) -> list[str]:
    return words(read_text(directory / "cgroup.controllers"))


def _open_parent() -> Path:
    """Make sure that the parent of the lab's groups exists and hands its memory controller on; returns its path.

    Raises:
        HostError: the kernel refused.
    """
    parent = parent_path()
    try:
        parent.mkdir(exist_ok=True)
        if (parent / "cgroup.controllers").exists():
            for directory in (parent.parent, parent):
                _hand_on(directory, "memory")
            if "io" in _controllers(parent):  # where the host hands it on: nothing of the host's is changed for it
                _hand_on(parent, "io")
    except OSError as error:
        raise HostError(
            f"cannot make control groups in {parent.parent} ({error.strerror}); run inside the lab's container"
        ) from error
    return parent


def _hand_on(directory: Path, controller: str) -> None:
    file = directory / "cgroup.subtree_control"
    if controller not in words(read_text(file)):
        file.write_text(f"+{controller}")


def new_group(name: str) -> Group:
    """A group of the lab's own that does not exist yet; call its `create`."""
    return Group(_open_parent() / name)


def limiting_groups() -> list[Group]:
    """The groups that this process is in and that have a limit of memory, inner ones first.

    By /proc/self/cgroup (cgroups(7)). What lies above the root of a mounted hierarchy, as in a container, is not seen.
    """
    parent = parent_path()
    root, inside = parent.parent, PurePosixPath(_own_group(Group(parent).version))
    paths = [root / part.relative_to("/") for part in (inside, *inside.parents)]
    groups = [Group(path) for path in paths if path != root and path.is_dir()]
    return [group for group in [*groups, Group(root)] if group.counters().limit_bytes is not None]


def _own_group(version: int) -> str:
    """Where this process is in the memory controller's hierarchy, of that version, as a path below its root."""
    for line in lines(read_text("/proc/self/cgroup")):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if path.startswith("/") and ("memory" in controllers.split(",") if version == 1 else number == "0"):
            return path
    return "/"


def stale_groups() -> list[Group]:
    """Groups of the lab that exist now; outside a run, they were left behind."""
    parent = if_known(parent_path)
    return [Group(child) for child in sorted(parent.glob("*/"))] if parent is not None else []


def remove_parent() -> None:
    """Remove the lab's parent group once it is empty, so that nothing stays behind."""
    parent = if_known(parent_path)
    if parent is not None and parent.exists() and not any(child.is_dir() for child in parent.iterdir()):
        remove_directory(parent, KILL_SECONDS, _REMEDY)
