"""What took processor time from an inference: others, CPU quotas, heat, and a hypervisor that served others."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagelab.host.procfs import Mount, integers, lines, mounts, read_int, read_names, read_pairs, read_text
from pagelab.host.scheduling import run_delay, stall_seconds

THERMAL_COUNTERS = "cpu[0-9]*/thermal_throttle/*_throttle_count"


@dataclass(frozen=True)
class CpuInterference:
    """Counters at one moment.

    `throttled_seconds` of the process's CPU group (cpu.stat). `thermal_events` of all cores and packages
    (Documentation/ABI/testing/sysfs-devices-system-cpu). `stolen_ticks` and `all_ticks` of /proc/stat (proc_stat(5)).
    `processors` that are online. `run_seconds` and `run_delay_seconds` of the process's threads, on a processor and
    waiting for one. `cpu_stall_seconds` and `memory_stall_seconds` of the host (PSI), the trial's own among them.
    """

    throttled_seconds: float | None = None
    thermal_events: int | None = None
    stolen_ticks: int | None = None
    all_ticks: int | None = None
    monotonic_seconds: float | None = None
    processors: int | None = None
    run_seconds: float | None = None
    run_delay_seconds: float | None = None
    cpu_stall_seconds: float | None = None
    memory_stall_seconds: float | None = None


def cpu_interference(pid: int) -> CpuInterference:
    """Read the counters for a process and the host; what the kernel does not have is None."""
    first_line = (read_text("/proc/stat") or "").partition("\n")[0]
    ticks = integers(first_line.removeprefix("cpu "))
    counts = [read_int(path) for path in Path("/sys/devices/system/cpu").glob(THERMAL_COUNTERS)]
    present = [count for count in counts if count is not None]
    threads = run_delay(pid)
    return CpuInterference(
        throttled_seconds=_throttled_seconds(pid),
        thermal_events=sum(present) if present else None,
        stolen_ticks=ticks[7] if len(ticks) > 7 else None,
        all_ticks=sum(ticks[:8]) if len(ticks) > 7 else None,
        monotonic_seconds=time.monotonic(),
        processors=os.cpu_count(),
        run_seconds=threads.run_seconds if threads else None,
        run_delay_seconds=threads.delay_seconds if threads else None,
        cpu_stall_seconds=stall_seconds("cpu"),
        memory_stall_seconds=stall_seconds("memory"),
    )


def _throttled_seconds(pid: int) -> float | None:
    """Of the group that was held back longest: the process's own, or one above it, whose quota holds it back too."""
    directories = cpu_groups(read_names(f"/proc/{pid}/cgroup"), mounts())
    found = [throttled_seconds(read_pairs(directory / "cpu.stat")) for directory in directories]
    return max((seconds for seconds in found if seconds is not None), default=None)


def throttled_seconds(pairs: dict[str, int]) -> float | None:
    """From cpu.stat: microseconds in cgroup v2, nanoseconds in v1 (Documentation/scheduler/sched-bwc.rst).

    None where the CPU controller is not enabled for the group, which then has no quota of its own.
    """
    if "throttled_usec" in pairs:
        return pairs["throttled_usec"] / 1e6
    return pairs["throttled_time"] / 1e9 if "throttled_time" in pairs else None


def cpu_groups(text: str | None, table: Sequence[Mount]) -> list[Path]:
    """The directories of the group that schedules a process and of those above it, by its /proc/PID/cgroup.

    In a container its own group may be the mount's root, and the path one that is not there.
    """
    for line in lines(text):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        for mount in table:
            unified = number == "0" and mount.file_system == "cgroup2"
            both = mount.options.split(","), controllers.split(",")
            if not (unified or (mount.file_system == "cgroup" and all("cpu" in names for names in both))):
                continue
            parts = Path(path.lstrip("/")).parts
            upwards = [Path(mount.mount_point, *parts[:count]) for count in range(len(parts), -1, -1)]
            found = [directory for directory in upwards if (directory / "cpu.stat").exists()]
            if found:
                return found
    return []
