"""Where swap goes: the disk under each active area, and whether it is a disk at all."""

import stat
from dataclasses import dataclass
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.procfs import SwapArea, swap_areas
from pagelab.host.storage import Disk, devices_under, disk_of, sys_path_of, whole_disk


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
    sys_path = sys_path_of(found.st_rdev)
    return whole_disk(sys_path) if sys_path.exists() else None


def _physical_names(sys_path: Path) -> set[str]:
    """Names of the disks at the bottom of a stack."""
    below = devices_under(sys_path)
    return set().union(*map(_physical_names, below)) if below else {whole_disk(sys_path).name}
