"""Facts about the host that a result needs beside it to be understood, and repeated, years later."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pagelab.documents import load_json, read_file
from pagelab.errors import printable
from pagelab.host.blockstack import stack_of
from pagelab.host.cgroup import parent_path
from pagelab.host.cpu import cpu_facts
from pagelab.host.environment import host_operating_system, moment, runner_facts
from pagelab.host.extents import file_extents, summarise
from pagelab.host.kernel import kernel_facts, machine_facts, memory_facts
from pagelab.host.procfs import PAGE_BYTES, if_known, mounts
from pagelab.host.settings import present, setting
from pagelab.host.storage import disk_of, mount_of
from pagelab.host.swap import SwapPlace, swap_places
from pagelab.units import MIB


def manifest(models_directory: Path) -> dict[str, Any]:
    """Everything known of the host, as plain JSON; a fact that cannot be read is left out.

    What is of the runner's container and not of the host is under `runner`, what only describes this moment under
    `at_start`. Nothing identifies the machine (no serial numbers, addresses or UUIDs, except in the kernel's
    command line and in names of mappings).
    """
    disk, kinds = if_known(disk_of, models_directory), {mount.file_system for mount in mounts()}
    return present(
        operating_system=host_operating_system(),
        machine=machine_facts(),
        kernel=kernel_facts(),
        cpu=cpu_facts(),
        memory={"page_bytes": PAGE_BYTES, **memory_facts()},
        control_groups=_control_groups(kinds),
        models_disk=disk.describe() if disk else None,
        models_storage=_models_storage(models_directory),
        models_file_system=file_system_facts(models_directory),
        swap=[_swap_facts(place) for place in swap_places()],
        tracefs="tracefs" in kinds if kinds else None,  # no mounts at all: they cannot be seen
        runner=runner_facts(),
        at_start=moment(),
    )


def model_file_facts(path: Path) -> dict[str, Any]:
    """Where one model's file lies: its size, its disk, and its extents, which are absent where they cannot be read.

    Sizes are in bytes; `allocated_bytes` is what the file takes on the disk (less than its size where it has holes).

    Raises:
        OSError: the file is missing.
    """
    status = path.stat()
    mount, disk = mount_of(path), if_known(disk_of, path)
    return present(
        file_bytes=status.st_size,
        allocated_bytes=status.st_blocks * 512,
        file_system=mount.file_system if mount else None,
        disk=disk.name if disk else None,
        extents=_extents(path),
    )


def build_facts(build_directory: Path) -> dict[str, Any]:
    """What `build.json` says of a llama.cpp build: commit, flags, toolchain, sha256 of each binary; else empty."""
    try:
        document = load_json(read_file(build_directory / "build.json", MIB))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def file_system_facts(path: Path) -> dict[str, Any]:
    """Kind, source, options, size and free space of the file system of a path.

    `options` are those of the file system, `mount_options` those of this process's mount of it (in a container often
    read-only). The source is a device, never a share of the network with its server's name.
    """
    mount = mount_of(path)
    if mount is None:
        return {}
    usage = os.statvfs(path)
    return present(
        file_system=mount.file_system,
        source=printable(mount.source) if mount.source.startswith("/") and not mount.source.startswith("//") else None,
        options=printable(mount.file_system_options),
        mount_options=printable(mount.mount_options),
        block_bytes=usage.f_bsize,
        size_bytes=usage.f_blocks * usage.f_frsize,
        free_bytes=usage.f_bavail * usage.f_frsize,
    )


def _control_groups(kinds: set[str]) -> dict[str, Any]:
    """Which versions are mounted (cgroups(7)), and where the memory controller is."""
    versions = [version for version, kind in (("v1", "cgroup"), ("v2", "cgroup2")) if kind in kinds]
    parent = if_known(parent_path)
    return present(versions=versions, memory_controller=str(parent.parent) if parent else None)


def _models_storage(path: Path) -> list[dict[str, Any]] | None:
    """The stack down to the disks; of the disk that is described as `models_disk`, only the name."""
    stack, described = if_known(stack_of, path), if_known(disk_of, path)
    if stack is None or described is None:
        return None
    short = {"kind": "disk", "name": described.name}
    return [short if short.items() <= layer.items() else layer for layer in stack]


def _swap_facts(place: SwapPlace) -> dict[str, Any]:
    """An active swap area: size and use in bytes, what it is on, and where a swap file lies."""
    area, disk = place.area, place.disk
    compressed = disk if place.is_compressed_memory else None
    return present(
        asdict(area) | {"path": printable(area.path)},
        disk=disk and disk.name,
        rotational=disk and setting(disk.sys_path / "queue" / "rotational"),
        compressed_memory=place.is_compressed_memory,
        algorithm=compressed and setting(compressed.sys_path / "comp_algorithm"),
        written_back_to=compressed and setting(compressed.sys_path / "backing_dev"),
        extents=_extents(Path(area.path)) if area.kind == "file" else None,
    )


def _extents(path: Path) -> dict[str, Any] | None:
    extents = if_known(file_extents, path)
    return None if extents is None else summarise(extents)
