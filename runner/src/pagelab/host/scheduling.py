"""How long threads waited for a processor, and how long tasks of the host stalled (PSI)."""

from dataclasses import dataclass
from pathlib import Path

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
    for file in root.glob(f"{pid}/task/*/schedstat"):
        try:
            words = file.read_bytes().split()
        except OSError:  # the thread has ended
            continue
        if len(words) >= 2:
            seen, run, delay = True, run + int(words[0]), delay + int(words[1])
    return RunDelay(run / NANOSECONDS, delay / NANOSECONDS) if seen else None


def stall_seconds(resource: str, root: Path = PROC) -> float | None:
    """How long at least one task of the host waited for `cpu`, `memory` or `io`, since boot.

    The line `some` of Documentation/accounting/psi.rst. None where the kernel has no PSI, or psi=0 switched it off.
    """
    try:
        text = (root / "pressure" / resource).read_bytes()
    except OSError:
        return None
    for line in text.split(b"\n"):
        kind, *fields = line.split(b" ")
        totals = [field for field in fields if field.startswith(b"total=")]
        if kind == b"some" and totals and totals[0][6:].isdigit():
            return int(totals[0][6:]) / MICROSECONDS
    return None
