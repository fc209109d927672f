"""Which disks serve what is read from a device: trees as the kernel lays them out in /sys."""

from pathlib import Path

import pytest
from example_devices import device, multipath

from pagelab.host.block_devices import (
    bottom,
    device_named,
    devices_under,
    is_compressed_memory,
    is_memory,
    number_of,
    whole,
)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_disk_is_its_own_bottom(tmp_path: Path) -> None:
    disk = device(tmp_path, "sda")
    assert bottom(disk) == [disk]
    assert bottom(device(tmp_path, "sda/sda1", partition="1")) == [disk]


def test_lvm_on_luks_on_raid_on_two_partitions(tmp_path: Path) -> None:
    for disk in ("sda", "sdb"):
        device(tmp_path, disk)
        device(tmp_path, f"{disk}/{disk}1", partition="1")
    device(tmp_path, "md0", ("sda/sda1", "sdb/sdb1"))
    device(tmp_path, "dm-0", ("md0",))
    assert names(bottom(device(tmp_path, "dm-1", ("dm-0",)))) == ["sda", "sdb"]


def test_a_partition_of_a_raid_is_on_the_raid_s_disks(tmp_path: Path) -> None:
    for disk in ("sda", "sdb"):
        device(tmp_path, disk)
    device(tmp_path, "md0", ("sda", "sdb"))
    assert names(bottom(device(tmp_path, "md0/md0p1", partition="1"))) == ["sda", "sdb"]


def test_bcache_reads_from_its_cache_and_from_what_is_cached(tmp_path: Path) -> None:
    for disk in ("nvme0n1", "sda"):
        device(tmp_path, disk)
    assert names(bottom(device(tmp_path, "bcache0", ("nvme0n1", "sda")))) == ["nvme0n1", "sda"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_head_of_nvme_paths_is_served_by_the_paths(tmp_path: Path, linked: bool) -> None:
    head = multipath(tmp_path, 2, linked=linked)
    assert names(devices_under(head)) == names(bottom(head)) == ["nvme2c0n1", "nvme2c1n1"]
    partition = device(head, "nvme2n1p1", partition="1")
    assert names(bottom(partition)) == ["nvme2c0n1", "nvme2c1n1"]


def test_an_nvme_drive_with_one_way_to_it_has_no_head(tmp_path: Path) -> None:
    disk = device(tmp_path, "nvme0n1", device__transport="pcie")
    assert devices_under(disk) == []
    assert bottom(disk) == [disk]


def test_a_hidden_disk_has_its_number_in_diskstats(tmp_path: Path) -> None:
    multipath(tmp_path, 1)
    path, diskstats = tmp_path / "nvme-subsys2" / "nvme0" / "nvme2c0n1", tmp_path / "diskstats"
    tail = " ".join(["0"] * 17)
    diskstats.write_text(f" 259       4 nvme2n1 {tail}\n 259       6 nvme2c0n1 {tail}\n")
    assert number_of(path, diskstats) == (259, 6)
    diskstats.write_text(f" 259       4 nvme2n1 {tail}\n   0       0 nvme2c0n1 {tail}\n")  # before Linux 5.17
    assert number_of(path, diskstats) is None
    assert number_of(path, tmp_path / "missing") is None
    assert number_of(tmp_path / "nvme2n1", tmp_path / "missing") == (259, 4)


@pytest.mark.parametrize("fields", [14, 18, 20])
def test_diskstats_of_any_kernel_has_the_number(tmp_path: Path, fields: int) -> None:
    (tmp_path / "diskstats").write_text(f"   8      16 sdb {' '.join(['1'] * (fields - 3))}\n")
    assert number_of(tmp_path / "sdb", tmp_path / "diskstats") == (8, 16)


def test_a_mapping_whose_node_is_not_there_is_found_by_its_name(tmp_path: Path) -> None:
    crypt = device(tmp_path, "dm-0", dm__name="crypt data")
    volume = device(tmp_path, "dm-3", dm__name="my--group-models")
    disk = device(tmp_path, "sda")
    array = device(tmp_path, "cciss!c0d0")
    assert device_named("/dev/mapper/crypt data", tmp_path) == crypt
    assert device_named("/dev/mapper/my--group-models", tmp_path) == volume
    assert device_named("/dev/my-group/models", tmp_path) == volume
    assert device_named("/dev/dm-0", tmp_path) == crypt
    assert device_named("/dev/sda", tmp_path) == disk
    assert device_named("/dev/cciss/c0d0", tmp_path) == array


@pytest.mark.parametrize("source", ["", "/dev", "/dev/", "overlay", "tank/data", "server:/share", "/dev/mapper/gone"])
def test_what_is_no_device_is_none(tmp_path: Path, source: str) -> None:
    device(tmp_path, "dm-0", dm__name="crypt")
    assert device_named(source, tmp_path) is None


def test_memory_is_no_disk() -> None:
    found = {name: (is_memory(Path(name)), is_compressed_memory(Path(name))) for name in ("zram0", "ram1", "sdram1")}
    assert found == {"zram0": (True, True), "ram1": (True, False), "sdram1": (False, False)}


def test_a_whole_disk(tmp_path: Path) -> None:
    disk = device(tmp_path, "sda")
    assert whole(device(tmp_path, "sda/sda1", partition="1")) == whole(disk) == disk
