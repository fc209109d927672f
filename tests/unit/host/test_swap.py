"""Which swap is memory, and which is on the models' disk."""

from pathlib import Path

import pytest
from example_devices import device

from pagelab.host.procfs import SwapArea
from pagelab.host.storage import Disk
from pagelab.host.swap import SwapPlace


def place(path: str, kind: str, disk: Path | None) -> SwapPlace:
    return SwapPlace(SwapArea(path, kind, 2**30, 0, -2), None if disk is None else Disk(disk.name, disk))


@pytest.mark.parametrize("path", ["/instead-of-zram/swap", "/var/zram0", "/dev/zram-like/x"])
def test_a_file_on_a_disk_is_no_compressed_memory_whatever_its_name(tmp_path: Path, path: str) -> None:
    assert not place(path, "file", device(tmp_path, "sda")).is_compressed_memory
    assert not place(path, "file", None).is_compressed_memory


def test_zram_and_what_lies_on_it_is_compressed_memory(tmp_path: Path) -> None:
    zram = device(tmp_path, "zram0", comp_algorithm="[lzo]")
    assert place("/dev/zram0", "partition", zram).is_compressed_memory
    assert place("/mnt/swap", "file", zram).is_compressed_memory
    assert place("/dev/dm-0", "partition", device(tmp_path, "dm-0", ("zram0",))).is_compressed_memory


def test_swap_on_another_volume_of_the_models_disk_is_on_it(tmp_path: Path) -> None:
    device(tmp_path, "sda")
    models, swap = (device(tmp_path, name, ("sda",)) for name in ("dm-0", "dm-1"))
    other = device(tmp_path, "sdb")
    assert place("/dev/dm-1", "partition", swap).is_on(Disk("dm-0", models)) is True
    assert place("/dev/dm-1", "partition", swap).is_on(Disk("sdb", other)) is False
    assert place("/dev/dm-1", "partition", None).is_on(Disk("sdb", other)) is None
