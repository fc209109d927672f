"""The kernel, how it manages memory, and the machine that it runs on.

Sources: Documentation/admin-guide/sysctl/vm.rst and kernel.rst, Documentation/admin-guide/mm/ (transhuge, multigen_lru,
zswap, ksm, damon), Documentation/ABI/testing/sysfs-devices-system-cpu (vulnerabilities), sysfs-firmware-dmi-tables.
"""

import platform
from pathlib import Path
from typing import Any

from pagelab.host.journal import selected
from pagelab.host.procfs import integers, meminfo_bytes, read_pairs, read_text, words
from pagelab.host.settings import present, setting, settings_in

_MM = Path("/sys/kernel/mm")
_VM_TRIGGERS = ("compact_memory", "drop_caches", "stat_refresh")  # they do something, and hold no setting
_KERNEL_SETTINGS = (
    "numa_balancing",
    "nmi_watchdog",
    "perf_event_paranoid",
    "randomize_va_space",
    "sched_autogroup_enabled",
    "sched_rt_runtime_us",
    "tainted",
)
_SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")


def lockdown() -> str | None:
    """The kernel's lockdown mode; None where securityfs is not mounted or the kernel has none."""
    return selected(read_text("/sys/kernel/security/lockdown"))


def multi_generational_lru() -> str | None:
    """The bit mask of the multi-generational LRU; None where the kernel is built without it."""
    return read_text(_MM / "lru_gen" / "enabled")


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
    for kdamond in sorted((_MM / "damon" / "admin" / "kdamonds").glob("[0-9]*")):
        if read_text(kdamond / "state") == "on":
            actions = sorted(kdamond.glob("contexts/*/schemes/*/action"))
            found += [f"kdamond.{kdamond.name} ({action})" for action in map(read_text, actions) if action == "pageout"]
    return found


def kernel_facts() -> dict[str, Any]:
    """Which kernel it is, how it was started, and its settings outside memory management."""
    modules = read_text("/sys/kernel/security/lsm")
    return present(
        release=platform.release(),
        build=platform.version(),
        architecture=platform.machine(),
        command_line=read_text("/proc/cmdline"),
        lockdown=lockdown(),
        security_modules=modules.split(",") if modules else None,
        vulnerabilities=settings_in(Path("/sys/devices/system/cpu/vulnerabilities")),
        clocksource=setting(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        settings=present({name: setting(Path("/proc/sys/kernel") / name) for name in _KERNEL_SETTINGS}),
    )


def memory_facts() -> dict[str, Any]:
    """How much memory there is, and the settings that decide what is reclaimed when it runs short.

    `vm` has every setting of /proc/sys/vm under the kernel's name.
    """
    memory = meminfo_bytes()
    return present(
        total_bytes=memory.get("MemTotal"),
        nodes=memory_nodes(),
        transparent_huge_pages=transparent_huge_pages(),
        reserved_huge_pages_bytes=memory.get("Hugetlb"),
        multi_generational_lru=settings_in(_MM / "lru_gen"),
        ksm=setting(_MM / "ksm" / "run"),
        zswap=settings_in(Path("/sys/module/zswap/parameters")),
        proactive_reclaim=proactive_reclaim(),
        vm=settings_in(Path("/proc/sys/vm"), leave=_VM_TRIGGERS),
    )


def memory_nodes(nodes: Path = Path("/sys/devices/system/node")) -> dict[str, Any]:
    """Size, processors and distances of each NUMA node, by its name; empty where the kernel has no NUMA."""
    found = {}
    for node in sorted(nodes.glob("node[0-9]*"), key=lambda path: int(path.name.removeprefix("node"))):
        total = read_pairs(node / "meminfo", ":").get(f"Node {node.name.removeprefix('node')} MemTotal")
        distances = integers(read_text(node / "distance"))
        found[node.name] = present(
            total_bytes=None if total is None else total * 1024,
            processors=read_text(node / "cpulist"),
            distances=distances or None,
        )
    return found


def transparent_huge_pages(directory: Path = _MM / "transparent_hugepage") -> dict[str, Any]:
    """Settings of transparent huge pages and of khugepaged, and the mode of each size that the kernel has."""
    counters = ("full_scans", "pages_collapsed")
    sizes = sorted(directory.glob("hugepages-*kB"), key=lambda size: int(size.name[len("hugepages-") : -len("kB")]))
    return present(
        settings_in(directory),
        khugepaged=settings_in(directory / "khugepaged", leave=counters),
        modes_by_size=present({size.name.removeprefix("hugepages-"): setting(size / "enabled") for size in sizes}),
    )


def machine_facts(dmi: Path = Path("/sys/class/dmi/id")) -> dict[str, Any]:
    """What the firmware calls the machine, and whether it is a virtual one. Serial numbers are left out."""
    firmware = {name: read_text(dmi / f"bios_{name}") for name in ("vendor", "version", "release", "date")}
    return present(
        vendor=read_text(dmi / "sys_vendor"),
        product=read_text(dmi / "product_name"),
        product_version=read_text(dmi / "product_version"),
        board=read_text(dmi / "board_name"),
        board_version=read_text(dmi / "board_version"),
        # The kernel tells that it was started by UEFI, and nothing of any other way.
        firmware=present(firmware, interface="uefi" if Path("/sys/firmware/efi").is_dir() else None),
        secure_boot=_secure_boot(),
        virtual=_is_virtual(),
        hypervisor=setting(Path("/sys/hypervisor/type")),
    )


def _is_virtual() -> bool | None:
    """Whether the processor says that a hypervisor is below (bit 31 of ECX of CPUID leaf 1), where it can say so."""
    said = words(read_text("/proc/cpuinfo"))
    return "hypervisor" in said if "flags" in said else None


def _secure_boot() -> bool | None:
    """The last byte of the variable, after four of attributes (UEFI specification, section 3.3)."""
    try:
        value = _SECURE_BOOT.read_bytes()
    except OSError:
        return None
    return value[-1] == 1 if len(value) == 5 else None
