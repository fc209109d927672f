"""Counters and tables of /proc. Each function reads one file and answers None, never 0, for what is not there.

psutil reads the same files, but answers 0 for a line that a kernel does not have, and knows nothing of refaults and
locked memory. Processors are counted by it (host.cpu).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from pagelab.errors import HostError

P = ParamSpec("P")
T = TypeVar("T")

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class SwapArea:
    """One line of /proc/swaps; sizes in bytes."""

    path: str
    kind: str
    size_bytes: int
    used_bytes: int
    priority: int


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)).

    `mount_options` belong to this mount, `file_system_options` to all mounts of the file system.
    """

    mount_point: str
    file_system: str
    source: str
    mount_options: str
    file_system_options: str
    device: str

    @property
    def options(self) -> str:
        """Both kinds of options, each once."""
        return ",".join(dict.fromkeys(f"{self.mount_options},{self.file_system_options}".rstrip(",").split(",")))


def if_known(look: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """What a look at the host finds, or None where it raises HostError because the host does not say."""
    try:
        return look(*arguments, **options)
    except HostError:
        return None


def read_text(path: Path | str) -> str | None:
    """The stripped content of a small kernel file, or None where it is absent or unreadable."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path | str, unit: int = 1) -> int | None:
    """The integer in a small kernel file, times what it counts in; None where there is none."""
    try:
        return int(read_text(path) or "") * unit
    except ValueError:
        return None


def read_pairs(path: Path | str, separator: str | None = None) -> dict[str, int]:
    """A file of `name value` lines, such as vmstat, memory.stat or /proc/PID/io; empty where it is absent."""
    pairs: dict[str, int] = {}
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(separator or " ")
        first = value.split()[:1]
        if first and first[0].lstrip("-").isdigit():
            pairs[name] = int(first[0])
    return pairs


def fields(text: str, separator: str = ":") -> dict[str, str]:
    """The stripped names and values of a text of `name: value` lines."""
    pairs = (line.partition(separator) for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def meminfo_bytes() -> dict[str, int]:
    """/proc/meminfo in bytes (the file counts in KiB)."""
    return {name: kib * 1024 for name, kib in read_pairs("/proc/meminfo", ":").items()}


def vmstat() -> dict[str, int]:
    """/proc/vmstat: host-wide event counters since boot, in pages or events."""
    return read_pairs("/proc/vmstat")


def process_read_bytes(pid: int) -> int | None:
    """Bytes that all threads of a process caused to be fetched from storage (proc_pid_io(5) `read_bytes`).

    Counted when a read is submitted, readahead and swap-in on behalf of a page fault included.
    """
    return read_pairs(f"/proc/{pid}/io", ":").get("read_bytes")


def process_faults(pid: int) -> tuple[int, int] | None:
    """Major and minor page faults of a process, all its threads together and the ended ones too (proc_pid_stat(5)).

    Exact, where a group's memory.stat is not: the kernel lets that lag by 64 events a processor
    (memcg_vmstats_needs_flush in mm/memcontrol.c).
    """
    _, closing, rest = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")
    words = rest.split()
    return (int(words[9]), int(words[7])) if closing and len(words) > 9 else None


def host_read_bytes(vmstat_pairs: dict[str, int]) -> int | None:
    """Bytes that all disks of the host were asked for since boot: pgpgin, which the kernel counts in KiB.

    Counted when a read is submitted (submit_bio in block/blk-core.c), by whomever and from whichever disk.
    """
    kib = vmstat_pairs.get("pgpgin")
    return None if kib is None else kib * 1024


def swap_areas() -> list[SwapArea]:
    """Active swap areas from /proc/swaps (which counts in KiB)."""
    areas = []
    for line in (read_text("/proc/swaps") or "").splitlines()[1:]:
        path, kind, size, used, priority = line.split()
        areas.append(SwapArea(path.replace("\\040", " "), kind, int(size) * 1024, int(used) * 1024, int(priority)))
    return areas


def mounts() -> list[Mount]:
    """The mount table as this process sees it."""
    table = []
    for line in (read_text("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        own, rest = left.split(), right.split(" ", 2)
        shared = rest[2] if len(rest) > 2 else ""
        table.append(Mount(own[4].replace("\\040", " "), rest[0], rest[1], own[5], shared, own[2]))
    return table
