"""Where swap goes: the disk under each active area, and whether it is a disk at all."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.host.block_devices import device_named, is_compressed_memory
from pagelab.host.procfs import SwapArea, if_known, swap_areas
from pagelab.host.storage import Disk, disk_of, share_a_disk, whole_disk


@dataclass(frozen=True)
class SwapPlace:
    """An active swap area; `disk` is None where the kernel does not show it here, `is_compressed_memory` is zram."""

    area: SwapArea
    disk: Disk | None

    @property
    def is_compressed_memory(self) -> bool:
        """Whether it is no disk but compressed RAM: a zram device, or a file or mapping on one."""
        return self.disk is not None and any(is_compressed_memory(one.sys_path) for one in self.disk.serving)

    def is_on(self, disk: Disk) -> bool | None:
        """Whether it shares a physical disk with `disk`, through all that is between; None where it cannot be seen."""
        return None if self.disk is None else share_a_disk(self.disk, disk)


def swap_places() -> list[SwapPlace]:
    """All active swap areas, with their disks."""
    return [SwapPlace(area, _disk(area)) for area in swap_areas()]


def _disk(area: SwapArea) -> Disk | None:
    path = Path(area.path)
    if area.kind == "partition":
        device = device_named(area.path)
        return None if device is None else whole_disk(device)
    return if_known(disk_of, path) if path.is_file() else None
