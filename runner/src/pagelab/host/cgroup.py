"""Memory control groups: one small interface, with cgroup v1 and v2 behind it.

Counter names and meanings: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of the kernel.
"""

import os
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from pagelab.errors import HostError
from pagelab.host.procfs import PAGE_BYTES, mounts, read_int, read_pairs, read_text

PARENT_NAME = "pagelab"
KILL_SECONDS = 20.0


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


class Group(ABC):
    """One memory control group, in a parent group of the lab's own."""

    version: int
    path: Path

    @abstractmethod
    def set_limit(self, limit_bytes: int) -> int:
        """Limit the group's memory and return the limit that the kernel reads back (rounded down to a page).

        Raises:
            HostError: the kernel refused, or holds another limit afterwards.
        """

    def lower_limit(self, limit_bytes: int) -> int:
        """Lower the limit as far as the kernel can without killing anything, and return what it is now.

        Raises:
            HostError: the kernel refused, because it could not reclaim enough.
        """
        return self.set_limit(limit_bytes)

    @abstractmethod
    def counters(self) -> GroupCounters:
        """Read all counters once."""

    @abstractmethod
    def memory_bytes(self) -> int | None:
        """What the group is charged now; the cheapest of the readings."""

    @abstractmethod
    def read_bytes(self, device_number: str) -> int | None:
        """Bytes that the group asked a disk (`major:minor`) for; None where groups have no io statistics."""

    @abstractmethod
    def limit_hits(self) -> int | None:
        """How often the group's usage ran into its limit."""

    @abstractmethod
    def peak_bytes(self) -> int | None:
        """The most that the group was ever charged."""

    @abstractmethod
    def oom_kills(self) -> int | None:
        """Processes of the group that the kernel killed for want of memory."""

    @property
    @abstractmethod
    def swappiness_file(self) -> Path | None:
        """The group's own swappiness setting, where the kernel has one."""

    @property
    def processes_file(self) -> Path:
        """Writing `0` here moves the writing process into the group."""
        return self.path / "cgroup.procs"

    def processes(self) -> list[int]:
        """Ids of the processes in the group, child groups included."""
        pids: list[int] = []
        for directory in (self.path, *(child for child in self.path.rglob("*") if child.is_dir())):
            pids += [int(line) for line in (read_text(directory / "cgroup.procs") or "").split()]
        return pids

    def create(self) -> None:
        """Make the group, which must not exist yet.

        Raises:
            HostError: the kernel refused.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=False)
        except OSError as error:
            raise HostError(
                f"cannot make the control group {self.path} ({error.strerror}); "
                "run inside the lab's container, or `pagelab restore` if it was left behind"
            ) from error

    def kill(self) -> list[int]:
        """Kill every process of the group and wait until they are gone; returns the ids that were there.

        Raises:
            HostError: a process outlived SIGKILL for KILL_SECONDS.
        """
        found = self.processes()
        deadline = time.monotonic() + KILL_SECONDS
        pids = found
        while pids:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                raise HostError(f"process {pids[0]} in {self.path} does not die; look at its state in /proc/{pids[0]}")
            time.sleep(0.005)
            pids = self.processes()
        return found

    def remove(self) -> None:
        """Kill what is in the group, and remove it and its children.

        Raises:
            HostError: the kernel would not remove it within KILL_SECONDS.
        """
        if not self.path.exists():
            return
        self.kill()
        children = sorted((child for child in self.path.rglob("*") if child.is_dir()), reverse=True)
        for directory in (*children, self.path):
            _remove_directory(directory)


def _remove_directory(directory: Path) -> None:
    """Remove an empty group; the kernel answers EBUSY for a moment after its last process has gone."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise HostError(f"cannot remove the control group {directory} ({error.strerror})") from error
            time.sleep(0.01)
        else:
            return


class GroupV1(Group):
    """A group of the v1 memory controller."""

    version = 1

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def set_limit(self, limit_bytes: int) -> int:
        file = self.path / "memory.limit_in_bytes"
        return _write_and_read_back(file, limit_bytes)

    @override
    def counters(self) -> GroupCounters:
        stat = read_pairs(self.path / "memory.stat")
        cache, shmem = stat.get("total_cache"), stat.get("total_shmem", 0)
        return GroupCounters(
            memory_bytes=self.memory_bytes(),
            file_bytes=None if cache is None else cache - shmem,
            swap_bytes=stat.get("total_swap"),
            major_faults=stat.get("total_pgmajfault"),
            faults=stat.get("total_pgfault"),
            refault_file_pages=stat.get("total_workingset_refault_file"),
            refault_anon_pages=stat.get("total_workingset_refault_anon"),
            limit_bytes=read_int(self.path / "memory.limit_in_bytes"),
        )

    @override
    def memory_bytes(self) -> int | None:
        return read_int(self.path / "memory.usage_in_bytes")

    @override
    def read_bytes(self, device_number: str) -> int | None:
        return None  # v1 counts reads in another hierarchy, whose groups are not ours

    @override
    def limit_hits(self) -> int | None:
        return read_int(self.path / "memory.failcnt")

    @override
    def peak_bytes(self) -> int | None:
        return read_int(self.path / "memory.max_usage_in_bytes")

    @override
    def oom_kills(self) -> int | None:
        return read_pairs(self.path / "memory.oom_control").get("oom_kill")

    @property
    @override
    def swappiness_file(self) -> Path | None:
        return self.path / "memory.swappiness"


class GroupV2(Group):
    """A group of the unified hierarchy."""

    version = 2

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def create(self) -> None:
        super().create()
        if not (self.path / "memory.max").exists():
            self.remove()
            raise HostError(
                f"the memory controller is not enabled for {self.path}; "
                f"write +memory to {self.path.parent}/cgroup.subtree_control and to those above it"
            )

    @override
    def set_limit(self, limit_bytes: int) -> int:
        return _write_and_read_back(self.path / "memory.max", limit_bytes)

    @override
    def lower_limit(self, limit_bytes: int) -> int:
        """Reclaim first: where memory.max cannot be met, writing it kills (memory_max_write in mm/memcontrol.c)."""
        charged = self.memory_bytes() or 0
        if charged > limit_bytes:
            with suppress(OSError):  # less was reclaimed than asked for, or the kernel is older than 5.19
                (self.path / "memory.reclaim").write_text(str(charged - limit_bytes))
        return self.set_limit(max(limit_bytes, self.memory_bytes() or 0))

    @override
    def counters(self) -> GroupCounters:
        stat = read_pairs(self.path / "memory.stat")
        file, shmem = stat.get("file"), stat.get("shmem", 0)
        return GroupCounters(
            memory_bytes=self.memory_bytes(),
            file_bytes=None if file is None else file - shmem,
            swap_bytes=read_int(self.path / "memory.swap.current"),
            major_faults=stat.get("pgmajfault"),
            faults=stat.get("pgfault"),
            refault_file_pages=stat.get("workingset_refault_file"),
            refault_anon_pages=stat.get("workingset_refault_anon"),
            swapped_in_pages=stat.get("pswpin"),  # Linux 6.13 and newer
            limit_bytes=read_int(self.path / "memory.max"),
        )

    @override
    def memory_bytes(self) -> int | None:
        return read_int(self.path / "memory.current")

    @override
    def read_bytes(self, device_number: str) -> int | None:
        for line in (read_text(self.path / "io.stat") or "").splitlines():
            number, *pairs = line.split()
            if number == device_number:
                found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                return int(found["rbytes"]) if "rbytes" in found else None
        return 0 if (self.path / "io.stat").exists() else None

    @override
    def limit_hits(self) -> int | None:
        return read_pairs(self.path / "memory.events").get("max")

    @override
    def peak_bytes(self) -> int | None:
        return read_int(self.path / "memory.peak")

    @override
    def oom_kills(self) -> int | None:
        return read_pairs(self.path / "memory.events").get("oom_kill")

    @property
    @override
    def swappiness_file(self) -> Path | None:
        return None


def _write_and_read_back(file: Path, limit_bytes: int) -> int:
    limit = limit_bytes // PAGE_BYTES * PAGE_BYTES
    try:
        file.write_text(str(limit))
    except OSError as error:
        raise HostError(f"cannot write {limit} to {file} ({error.strerror}); run inside the lab's container") from error
    found = read_int(file)
    if found != limit:
        raise HostError(f"{file} holds {found} after {limit} was written; another manager sets this group's limit")
    return limit


def parent_path() -> Path:
    """Where the lab's groups live: `pagelab` at the root of the hierarchy that has the memory controller.

    Raises:
        HostError: no hierarchy with a memory controller is mounted.
    """
    v2_root = None
    for mount in mounts():
        if mount.file_system == "cgroup" and "memory" in mount.options.split(","):
            return Path(mount.mount_point) / PARENT_NAME
        if mount.file_system == "cgroup2" and "memory" in _controllers(mount.mount_point):
            v2_root = Path(mount.mount_point)
    if v2_root is None:
        raise HostError("no memory controller is mounted under /sys/fs/cgroup; run inside the lab's container")
    return v2_root / PARENT_NAME


def _controllers(mount_point: str) -> list[str]:
    return (read_text(f"{mount_point}/cgroup.controllers") or "").split()


def open_parent() -> Path:
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
            if "io" in _controllers(str(parent)):  # where the host hands it on: nothing of the host's is changed for it
                _hand_on(parent, "io")
    except OSError as error:
        raise HostError(
            f"cannot make control groups in {parent.parent} ({error.strerror}); run inside the lab's container"
        ) from error
    return parent


def _hand_on(directory: Path, controller: str) -> None:
    file = directory / "cgroup.subtree_control"
    if controller not in (read_text(file) or "").split():
        file.write_text(f"+{controller}")


def group_at(path: Path) -> Group:
    """The group at a path, in the version of the hierarchy that it is in."""
    unified = (path.parent / "cgroup.controllers").exists()
    return GroupV2(path) if unified else GroupV1(path)


def new_group(name: str) -> Group:
    """A group of the lab's own that does not exist yet; call its `create`."""
    return group_at(open_parent() / name)


def stale_groups() -> list[Group]:
    """Groups of the lab that exist now; outside a run, they were left behind."""
    try:
        parent = parent_path()
    except HostError:
        return []
    if not parent.exists():
        return []
    return [group_at(child) for child in sorted(parent.iterdir()) if child.is_dir()]


def remove_parent() -> None:
    """Remove the lab's parent group once it is empty, so that nothing stays behind."""
    try:
        parent = parent_path()
    except HostError:
        return
    if parent.exists() and not any(child.is_dir() for child in parent.iterdir()):
        _remove_directory(parent)
