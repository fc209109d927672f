"""What the runner itself runs in: its image and packages, which are not those of the host, and its limits."""

import importlib.metadata
import os
import platform
import re
import resource
from pathlib import Path
from typing import Any

from pagelab.host.procfs import decimal, fields, meminfo_bytes, read_text, words
from pagelab.host.settings import present

# Set by the lab's launcher, which sees the host while the runner sees its container.
CONTAINER_MODE, IMAGE = "PAGELAB_CONTAINER_MODE", "PAGELAB_IMAGE"
HOST_SYSTEM, ENGINE = "PAGELAB_HOST_SYSTEM", "PAGELAB_ENGINE"

CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23  # linux/capability.h


def host_operating_system() -> str | None:
    """The host's distribution: what the launcher says or, from within a container, what the host's first process sees.

    None where the runner is in a container and neither is to be had: the container's own is not the host's.
    """
    if told := os.environ.get(HOST_SYSTEM):
        return told
    if CONTAINER_MODE not in os.environ:
        return _system_of(Path("/"))
    try:
        elsewhere = Path("/proc/1/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return None
    return _system_of(Path("/proc/1/root")) if elsewhere else None


def runner_facts() -> dict[str, Any]:
    """What the runner runs in. `packages` are Python's, `image_packages` Debian's: NAME=VERSION."""
    in_container = CONTAINER_MODE in os.environ
    return present(
        container_mode=os.environ.get(CONTAINER_MODE),
        container_engine=os.environ.get(ENGINE),
        image=os.environ.get(IMAGE),
        image_operating_system=_system_of(Path("/")) if in_container else None,
        c_library=" ".join(platform.libc_ver()).strip(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=python_packages(),
        image_packages=debian_packages(Path("/var/lib/dpkg/status")) if in_container else None,
        limits=limits(),
        capabilities=_effective_capabilities(),
    )


def capabilities() -> set[int]:
    """Numbers of this process's effective capabilities (capabilities(7))."""
    mask = int(_effective_capabilities() or "0", 16)
    return {number for number in range(64) if mask >> number & 1}


def python_packages() -> list[str]:
    """NAME==VERSION of every package that this Python can import, sorted."""
    found = {(one.metadata["Name"] or "").lower(): one.version for one in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name]


def debian_packages(status: Path) -> list[str] | None:
    """NAME=VERSION of every installed package of a dpkg status file (deb822 stanzas), sorted; None without a file."""
    text = read_text(status)
    if text is None:
        return None
    whole = re.sub(r"\n[ \t].*", "", text)  # without lines that continue the one before
    stanzas = map(fields, whole.split("\n\n"))
    installed = [one for one in stanzas if one.get("Status", "").endswith(" installed")]
    return sorted(f"{one['Package']}={one['Version']}" for one in installed)


def limits() -> dict[str, Any]:
    """The resource limits of this process that its children inherit and that matter here (getrlimit(2)), soft ones.

    A limit that is not there is `unlimited`, its number absent. What may be locked is also a matter of capabilities:
    with CAP_IPC_LOCK the kernel does not look at the limit.
    """
    facts: dict[str, Any] = {}
    for name, kind in (("locked_memory", resource.RLIMIT_MEMLOCK), ("address_space", resource.RLIMIT_AS)):
        soft, _ = resource.getrlimit(kind)
        facts |= {f"{name}_unlimited": True} if soft == resource.RLIM_INFINITY else {f"{name}_bytes": soft}
    facts["open_files"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return facts


def moment() -> dict[str, Any]:
    """How busy the host is now: time since its start, load (proc_loadavg(5)) and memory in use."""
    load, uptime = ([decimal(word) for word in words(read_text(f"/proc/{name}"))] for name in ("loadavg", "uptime"))
    memory = meminfo_bytes()
    names = ("load_average_1_minute", "load_average_5_minutes", "load_average_15_minutes")
    return present(
        uptime_seconds=next(iter(uptime), None),
        **dict(zip(names, load, strict=False)),
        memory_available_bytes=memory.get("MemAvailable"),
        memory_cached_bytes=memory.get("Cached"),
        memory_locked_bytes=memory.get("Mlocked"),
        memory_dirty_bytes=memory.get("Dirty"),
    )


def _system_of(root: Path) -> str | None:
    """PRETTY_NAME of os-release(5) below a root; under /usr first, since a link of /etc may lead out of that root."""
    text = read_text(root / "usr/lib/os-release") or read_text(root / "etc/os-release") or ""
    return fields(text, "=").get("PRETTY_NAME", "").strip("\"'") or None


def _effective_capabilities() -> str | None:
    mask = fields(read_text("/proc/self/status") or "").get("CapEff")
    return mask if mask and re.fullmatch("[0-9a-f]{1,16}", mask) else None
