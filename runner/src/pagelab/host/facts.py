"""Facts about the host that a result needs beside it to be understood later."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from pagelab.host.cgroup import parent_path
from pagelab.host.journal import selected
from pagelab.host.procfs import meminfo_bytes, mounts, read_text, swap_areas
from pagelab.host.storage import disk_of, mount_of

CAP_IPC_LOCK = 14  # linux/capability.h
VM_SETTINGS = (
    "swappiness",
    "min_free_kbytes",
    "watermark_scale_factor",
    "vfs_cache_pressure",
    "page-cluster",
    "overcommit_memory",
    "dirty_ratio",
    "dirty_background_ratio",
    "zone_reclaim_mode",
)


def cpu_model() -> str | None:
    """The processor's name as the kernel gives it."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def physical_cores() -> int:
    """Cores that this process may use, counting each core once."""
    available = len(os.sched_getaffinity(0))
    return min(psutil.cpu_count(logical=False) or available, available)


def capabilities() -> set[int]:
    """Numbers of this process's effective capabilities (capabilities(7))."""
    status = read_text("/proc/self/status") or ""
    mask = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff")), 0)
    return {number for number in range(64) if mask >> number & 1}


def lockdown() -> str | None:
    """The kernel's lockdown mode; None where securityfs is not mounted or the kernel has none."""
    return selected(read_text("/sys/kernel/security/lockdown"))


def huge_pages() -> str | None:
    """The chosen mode of transparent huge pages."""
    return selected(read_text("/sys/kernel/mm/transparent_hugepage/enabled"))


def cpu_governor() -> str | None:
    """The frequency governor of the first processor; None on virtual machines."""
    return read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def multi_generational_lru() -> str | None:
    """The bit mask of the multi-generational LRU; None where the kernel is built without it."""
    return read_text("/sys/kernel/mm/lru_gen/enabled")


def zswap() -> str | None:
    """`Y` where swapped pages are first compressed in RAM."""
    return read_text("/sys/module/zswap/parameters/enabled")


def proactive_reclaim() -> list[str]:
    """What pages cold memory out without any shortage: running DAMON schemes (Documentation/admin-guide/mm/damon).

    Such a scheme evicts pages of a model that would have stayed, and swaps anonymous memory of every process.
    """
    found = []
    if read_text("/sys/module/damon_reclaim/parameters/enabled") == "Y":
        found.append("damon_reclaim")
    for kdamond in sorted(Path("/sys/kernel/mm/damon/admin/kdamonds").glob("[0-9]*")):
        if read_text(kdamond / "state") == "on":
            actions = sorted(kdamond.glob("contexts/*/schemes/*/action"))
            found += [f"kdamond.{kdamond.name} ({action})" for action in map(read_text, actions) if action == "pageout"]
    return found


def manifest(models_directory: Path) -> dict[str, Any]:
    """Everything known of the host; a fact that is absent is left out."""
    memory = meminfo_bytes()
    facts: dict[str, Any] = {
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "kernel_command_line": read_text("/proc/cmdline"),
        "operating_system": platform.freedesktop_os_release().get("PRETTY_NAME"),
        "cpu": {"model": cpu_model(), "physical_cores": physical_cores(), "logical_cores": os.cpu_count()},
        "cpu_governor": cpu_governor(),
        "memory_total_bytes": memory.get("MemTotal"),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "huge_pages": huge_pages(),
        "multi_generational_lru": multi_generational_lru(),
        "zswap": zswap(),
        "proactive_reclaim": proactive_reclaim(),
        "lockdown": lockdown(),
        "memory_controller": str(parent_path().parent),
        "vm": {name: read_text(f"/proc/sys/vm/{name}") for name in VM_SETTINGS},
        "swap": [area.__dict__ for area in swap_areas()],
        "models_disk": disk_of(models_directory).describe(),
        "models_mount": _mount(models_directory),
        "container_mode": os.environ.get("PAGELAB_CONTAINER_MODE"),
        "tracefs": any(mount.file_system == "tracefs" for mount in mounts()),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _mount(path: Path) -> dict[str, str] | None:
    mount = mount_of(path)
    return (
        None if mount is None else {"file_system": mount.file_system, "options": mount.options, "source": mount.source}
    )
