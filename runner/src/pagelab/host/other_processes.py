"""The CPU time that processes took which are not of this lab: who competed with an inference.

Kernel threads are left out: what they do while a trial decodes (reclaim, block I/O, paging) they do for it as well.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pagelab.host.procfs import integers

PROC = Path("/proc")
KTHREAD = 0x00200000  # PF_KTHREAD in include/linux/sched.h, the ninth field of /proc/PID/stat
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """What /proc/PID/stat says of one process (proc_pid_stat(5)).

    `cpu_seconds` in user and kernel mode, with those of its children that have ended and were waited for.
    """

    name: str
    parent: int
    cpu_seconds: float


@dataclass(frozen=True)
class OtherProcess:
    """A process that competed, and the CPU time that it and its ended children took meanwhile."""

    pid: int
    name: str
    cpu_seconds: float


def processes(root: Path = PROC) -> dict[int, Process]:
    """All processes that this one can see, by pid, without kernel threads."""
    found = {}
    for directory in root.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            process = parse_stat((directory / "stat").read_bytes())
        except OSError:  # it has ended
            continue
        if process is not None:
            found[int(directory.name)] = process
    return found


def parse_stat(stat: bytes) -> Process | None:
    """One process; None for a kernel thread, and for what is no such line. A name may hold blanks and parentheses."""
    left, _, right = stat.rpartition(b")")
    numbers = integers(right.decode(errors="replace").lstrip(" ")[1:])  # after one letter for the state
    if len(numbers) < 14 or numbers[5] & KTHREAD:
        return None
    ticks = sum(numbers[10:14])
    return Process(left.partition(b"(")[2].decode(errors="replace"), numbers[0], ticks / TICKS_PER_SECOND)


def cpu_time_of_others(
    before: dict[int, Process], after: dict[int, Process], ours: Iterable[int]
) -> tuple[float, list[OtherProcess]]:
    """The CPU seconds that others took between two looks, and who, the busiest first.

    The sum over processes with their ended children only grows: who ends hands its time to the process that waits for
    it. So a process that is new counts whole, and one that has ended is taken off again where its time has arrived.
    The time of one that nobody waits for (SIGCHLD ignored) is lost.

    Args:
        before, after: what `processes` saw at either end.
        ours: pids of this lab; what descends from them is left out too.
    """
    family = {*ours, *descendants({**before, **after}, set(ours))}
    taken = {
        pid: process.cpu_seconds - (before[pid].cpu_seconds if pid in before else 0.0)
        for pid, process in after.items()
        if pid not in family
    }
    for pid, process in before.items():
        if pid not in after and pid not in family and process.parent in taken:
            taken[process.parent] -= process.cpu_seconds
    others = [OtherProcess(pid, after[pid].name, max(0.0, seconds)) for pid, seconds in taken.items()]
    busiest = sorted((other for other in others if other.cpu_seconds > 0), key=lambda other: -other.cpu_seconds)
    return sum(other.cpu_seconds for other in busiest), busiest


def descendants(table: dict[int, Process], ancestors: set[int]) -> set[int]:
    """The pids of all processes below some."""
    family = set(ancestors)
    while grown := {pid for pid, process in table.items() if process.parent in family} - family:
        family |= grown
    return family - ancestors
