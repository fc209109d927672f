"""Where swap goes: the disk under each active area, and whether it is a disk at all."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.procfs import SwapArea, swap_areas
from pagelab.host.storage import Disk, disk_of


@dataclass(frozen=True)
class SwapPlace:
    """An active swap area; `disk` is None where the kernel does not show it here, `is_compressed_memory` is zram."""

    area: SwapArea
    disk: Disk | None

    @property
    def is_compressed_memory(self) -> bool:
        """Whether it is no disk but compressed RAM (zram)."""
        return "zram" in self.area.path or (self.disk is not None and self.disk.name.startswith("zram"))

    def is_on(self, disk: Disk) -> bool | None:
        """Whether it shares a physical disk with `disk`, through LVM, LUKS and RAID; None where it cannot be seen."""
        if self.disk is None:
            return None
        return bool(_physical_names(self.disk.sys_path) & _physical_names(disk.sys_path))


def swap_places() -> list[SwapPlace]:
    """All active swap areas, with their disks."""
    return [SwapPlace(area, _disk(area)) for area in swap_areas()]


def _disk(area: SwapArea) -> Disk | None:
    path = Path(area.path)
    try:
        found = path.stat()
        if not stat.S_ISBLK(found.st_mode):
            return disk_of(path)
    except (OSError, HostError):
        return None
    sys_path = Path(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}").resolve()
    if (sys_path / "partition").exists():
        sys_path = sys_path.parent
    return Disk(sys_path.name, sys_path) if sys_path.exists() else None


def _physical_names(sys_path: Path) -> set[str]:
    """Names of the disks at the bottom of a stack (`slaves` of Documentation/ABI/stable/sysfs-block)."""
    try:
        below = [link.resolve() for link in (sys_path / "slaves").iterdir()]
    except OSError:
        below = []
    if not below:
        return {sys_path.parent.name if (sys_path / "partition").exists() else sys_path.name}
    return set().union(*(_physical_names(device) for device in below))
