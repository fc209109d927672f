"""The processor: what it is, its caches, and what decides how fast its clock runs.

Sources: Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/admin-guide/pm/cpufreq.rst.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from pagelab.host.procfs import fields, integer, read_int, read_text, words
from pagelab.host.settings import present, setting, settings_in

_CPUS = Path("/sys/devices/system/cpu")
# Instructions that decide which of llama.cpp's kernels run, and what else makes a processor slower or faster here.
_FLAGS = re.compile(
    r"ssse3|sse4_\w+|avx\w*|amx_\w+|fma|f16c|bmi\d|vaes|gfni|erms|fsrm|pcid|pdpe1gb|la57|constant_tsc|nonstop_tsc"
    r"|hypervisor|asimd\w*|sve\w*|i8mm|bf16"
)
_KIB = {"K": 1, "M": 1024, "G": 1024 * 1024}


def physical_cores() -> int:
    """Cores that this process may use, counting each core once."""
    return distinct_cores(os.sched_getaffinity(0))


def distinct_cores(processors: Iterable[int], cpus: Path = _CPUS) -> int:
    """Cores that some processors belong to: siblings are one. A processor of which nothing is told is a core."""
    topologies = [cpus / f"cpu{number}" / "topology" for number in processors]
    return len({read_text(topology / "thread_siblings_list") or str(topology) for topology in topologies})


def cpu_governor() -> str | None:
    """The frequency governor of the first processor; None on virtual machines."""
    return read_text(_CPUS / "cpu0" / "cpufreq" / "scaling_governor")


def cpu_facts() -> dict[str, Any]:
    """What the processor is and how it is set; the caches are those of the first processor."""
    first = _first_processor()
    return present(
        model=first.get("model name"),
        vendor=first.get("vendor_id"),
        family=integer(first.get("cpu family")),
        model_number=integer(first.get("model")),
        stepping=integer(first.get("stepping")),
        microcode=first.get("microcode"),
        sockets=_sockets(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=os.cpu_count(),
        usable_physical_cores=physical_cores(),
        online=read_text(_CPUS / "online"),
        isolated=read_text(_CPUS / "isolated"),
        nohz_full=read_text(_CPUS / "nohz_full"),
        smt=setting(_CPUS / "smt" / "control"),
        flags=flags_that_matter(first.get("flags") or first.get("Features") or ""),
        caches=cpu_caches(),
        frequency=_frequency(),
        idle=present({name: setting(_CPUS / "cpuidle" / f"current_{name}") for name in ("driver", "governor")}),
    )


def flags_that_matter(flags: str) -> list[str]:
    """Of a processor's flags, in the kernel's names, those on which the speed of an inference depends."""
    return sorted(flag for flag in words(flags) if _FLAGS.fullmatch(flag))


def cpu_caches(processor: Path = _CPUS / "cpu0") -> list[dict[str, Any]]:
    """The caches that a processor uses: level, type (Data, Instruction, Unified), size and who shares it."""
    return [
        present(
            level=read_int(directory / "level"),
            type=read_text(directory / "type"),
            size_kib=_kib(read_text(directory / "size")),
            ways=read_int(directory / "ways_of_associativity"),
            line_bytes=read_int(directory / "coherency_line_size"),
            shared_by_processors=read_text(directory / "shared_cpu_list"),
        )
        for directory in sorted((processor / "cache").glob("index*"))
    ]


def _first_processor() -> dict[str, str]:
    return fields((read_text("/proc/cpuinfo") or "").partition("\n\n")[0])


def _sockets() -> int | None:
    ids = set(re.findall(r"^physical id\s*:\s*(\d+)$", read_text("/proc/cpuinfo") or "", re.MULTILINE))
    return len(ids) or None


def _frequency() -> dict[str, Any]:
    """Drivers, governors and limits; each once, where processors differ a list of them. Absent on virtual machines."""
    policies = sorted((_CPUS / "cpufreq").glob("policy*"))
    names = {
        "driver": "scaling_driver",
        "governor": "scaling_governor",
        "energy_performance_preference": "energy_performance_preference",
        "scaling_min_khz": "scaling_min_freq",
        "scaling_max_khz": "scaling_max_freq",
        "hardware_max_khz": "cpuinfo_max_freq",
    }
    return present(
        {name: _distinct(policies, file) for name, file in names.items()},
        boost=setting(_CPUS / "cpufreq" / "boost"),
        intel_pstate=settings_in(_CPUS / "intel_pstate", leave=("num_pstates", "turbo_pct")),
        amd_pstate=settings_in(_CPUS / "amd_pstate"),
    )


def _distinct(directories: list[Path], file: str) -> int | str | list[int | str] | None:
    values = list(dict.fromkeys(setting(directory / file) for directory in directories))
    known = [value for value in values if value is not None]
    return (known[0] if len(known) == 1 else known) or None


def _kib(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+)([KMG])", text or "")
    return int(match[1]) * _KIB[match[2]] if match else None
