"""How long threads waited for a processor, and how long tasks of the host stalled (PSI)."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.host.procfs import entries, integer, integers, lines, read_text, words

PROC = Path("/proc")
NANOSECONDS = 1e9
MICROSECONDS = 1e6


@dataclass(frozen=True)
class RunDelay:
    """Of all threads of a process that live: seconds on a processor, and seconds runnable without one."""

    run_seconds: float
    delay_seconds: float


def run_delay(pid: int, root: Path = PROC) -> RunDelay | None:
    """From /proc/PID/task/*/schedstat (Documentation/scheduler/sched-stats.rst).

    None on a kernel without CONFIG_SCHED_INFO, and where the process has ended.
    """
    run = delay = 0
    seen = False
    for thread in entries(root / str(pid) / "task"):
        numbers = integers(read_text(thread / "schedstat"))  # none where the thread has ended
        if len(numbers) >= 2:
            seen, run, delay = True, run + numbers[0], delay + numbers[1]
    return RunDelay(run / NANOSECONDS, delay / NANOSECONDS) if seen else None


def stall_seconds(resource: str, root: Path = PROC) -> float | None:
    """How long at least one task of the host waited for `cpu`, `memory` or `io`, since boot.

    The line `some` of Documentation/accounting/psi.rst. None where the kernel has no PSI (4.19 and older,
    or built without it), and where it is switched off: reading is refused then, or the file is not there.
    """
    for line in lines(read_text(root / "pressure" / resource)):
        kind, *figures = words(line) or [""]
        total = integer(dict(figure.partition("=")[::2] for figure in figures).get("total"))
        if kind == "some" and total is not None:
            return total / MICROSECONDS
    return None
