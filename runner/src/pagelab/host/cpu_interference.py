"""What took processor time from an inference: others, CPU quotas, heat, and a hypervisor that served others."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pagelab.host.procfs import integers, lines, mounts, read_int, read_names, read_pairs, read_text
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
    """From cpu.stat: microseconds in cgroup v2, nanoseconds in v1 (Documentation/scheduler/sched-bwc.rst)."""
    directory = _cpu_group(pid)
    found = read_pairs(directory / "cpu.stat") if directory else {}
    if "throttled_usec" in found:
        return found["throttled_usec"] / 1e6
    return found["throttled_time"] / 1e9 if "throttled_time" in found else None


def _cpu_group(pid: int) -> Path | None:
    """The directory of the group that schedules a process; in a container its own group may be the mount's root."""
    table = mounts()
    for line in lines(read_names(f"/proc/{pid}/cgroup")):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        for mount in table:
            unified = number == "0" and mount.file_system == "cgroup2"
            both = mount.options.split(","), controllers.split(",")
            if not (unified or (mount.file_system == "cgroup" and all("cpu" in names for names in both))):
                continue
            for directory in (Path(mount.mount_point + path), Path(mount.mount_point)):
                if (directory / "cpu.stat").exists():
                    return directory
    return None
