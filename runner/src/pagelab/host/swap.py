"""Where swap goes: the disk under each active area, and whether it is a disk at all."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.host.procfs import SwapArea, if_known, swap_areas
from pagelab.host.storage import Disk, disk_of, physical_disks, sys_path_of, whole_disk


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
        return not set(physical_disks(self.disk.sys_path)).isdisjoint(physical_disks(disk.sys_path))


def swap_places() -> list[SwapPlace]:
    """All active swap areas, with their disks."""
    return [SwapPlace(area, _disk(area)) for area in swap_areas()]


def _disk(area: SwapArea) -> Disk | None:
    path = Path(area.path)
    if not path.is_block_device():
        return if_known(disk_of, path) if path.exists() else None
    sys_path = sys_path_of(path.stat().st_rdev)
    return whole_disk(sys_path) if sys_path.exists() else None
