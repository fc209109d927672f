"""What a disk counts, and which setting of readahead governs it."""

from pathlib import Path

import pytest
from example_devices import device, multipath

from pagelab.host.procfs import parse_mounts
from pagelab.host.storage import (
    Disk,
    btrfs_devices,
    disk_of,
    disks_behind,
    is_read_by_others,
    mount_above,
    mount_of,
    own_bdi,
    share_a_disk,
)

STAT = {11: "", 15: " 0 0 0 0", 17: " 0 0 0 0 0 0"}  # before Linux 4.18, since then, since 5.5


def stat(read_sectors: int, fields: int = 17) -> str:
    return f"  3  0  {read_sectors}  1  2  0  8  1  0  2  3{STAT[fields]}"


@pytest.mark.parametrize("fields", STAT)
def test_the_counters_of_any_kernel(tmp_path: Path, fields: int) -> None:
    path = device(tmp_path, "sda", stat=stat(100, fields), dev="8:0")
    assert Disk("sda", path).read_and_written_bytes() == (51200, 4096)


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 x 4 5 6 7 8 9 10 11"])
def test_counters_that_cannot_be_read_are_absent(tmp_path: Path, text: str) -> None:
    assert Disk("sda", device(tmp_path, "sda", stat=text)).read_and_written_bytes() == (None, None)


def test_counters_that_stand_still_are_absent(tmp_path: Path) -> None:
    path = device(tmp_path, "sda", stat=stat(0), queue__iostats="0")
    assert Disk("sda", path).read_and_written_bytes() == (None, None)
    (path / "queue" / "iostats").write_text("1\n")
    assert Disk("sda", path).read_and_written_bytes() == (0, 4096)


def test_a_head_of_nvme_paths_counts_what_the_paths_count(tmp_path: Path) -> None:
    head = multipath(tmp_path, 2)
    disk = Disk(head.name, head)
    for number in range(2):
        (tmp_path / "nvme-subsys2" / f"nvme{number}" / f"nvme2c{number}n1" / "stat").write_text(stat(10 * (number + 1)))
    assert disk.read_and_written_bytes() == (30 * 512, 2 * 4096)
    assert disk.readahead_file == head / "queue" / "read_ahead_kb"
    assert disk.device_numbers == ("259:4",)


def test_two_volumes_of_one_disk_share_its_counters(tmp_path: Path) -> None:
    device(tmp_path, "sda", stat=stat(70))
    models, swap = (device(tmp_path, name, ("sda",), stat=stat(1)) for name in ("dm-0", "dm-1"))
    disk, other = Disk("dm-0", models), Disk("dm-1", swap)
    assert share_a_disk(disk, other)
    assert disk.read_and_written_bytes() == other.read_and_written_bytes() == (70 * 512, 4096)
    assert disk.readahead_file == models / "queue" / "read_ahead_kb"


def test_of_a_file_system_on_several_disks_all_count(tmp_path: Path) -> None:
    first, second = (device(tmp_path, name, stat=stat(5), dev=dev) for name, dev in (("sda", "8:0"), ("sdb", "8:16")))
    disk = Disk("sda+sdb", first, (second,))
    assert disk.read_and_written_bytes() == (10 * 512, 2 * 4096)
    assert disk.device_numbers == ("8:0", "8:16")
    (second / "stat").unlink()
    assert disk.read_and_written_bytes() == (None, None), "half of it would be a wrong number"


def test_btrfs_names_its_devices(tmp_path: Path) -> None:
    devices = [device(tmp_path, name) for name in ("dm-0", "sdb")]
    listed = tmp_path / "uuid" / "devices"
    listed.mkdir(parents=True)
    for one in devices:
        (listed / one.name).symlink_to(one)
    assert btrfs_devices(tmp_path / "uuid") == devices
    assert btrfs_devices(tmp_path / "missing") == []


def test_a_file_system_s_own_readahead_governs(tmp_path: Path) -> None:
    disk, bdis, directory = device(tmp_path, "sda", queue__read_ahead_kb="128"), tmp_path / "bdi", tmp_path / "uuid"
    for number in (1, 7):
        (bdis / f"btrfs-{number}").mkdir(parents=True)
        (bdis / f"btrfs-{number}" / "read_ahead_kb").write_text(f"{4096 * number}\n")
    directory.mkdir()
    unknown = Disk("sda", disk, own_readahead=own_bdi("btrfs", directory, bdis))
    assert unknown.readahead_kib() is None, "with two of them, an older kernel does not tell which it is"
    (directory / "bdi").symlink_to(bdis / "btrfs-7")
    known = Disk("sda", disk, own_readahead=own_bdi("btrfs", directory, bdis))
    assert known.readahead_kib() == known.describe()["readahead_kib"] == 7 * 4096
    assert known.readahead_owner == "the file system (btrfs-7)"
    (directory / "bdi").unlink()
    (bdis / "btrfs-1" / "read_ahead_kb").unlink()
    (bdis / "btrfs-1").rmdir()
    assert own_bdi("btrfs", directory, bdis) == bdis / "btrfs-7", "the only one is it"
    assert Disk("sda", disk).readahead_kib() == 128


def test_a_loop_device_is_behind_its_file_s_disk(tmp_path: Path) -> None:
    image = Path(__file__)
    loop = Disk("loop9", device(tmp_path, "loop9", loop__backing_file=str(image), stat=stat(9)))
    assert loop.serving == (loop,)
    assert loop.read_and_written_bytes() == (9 * 512, 4096)
    assert share_a_disk(loop, disk_of(image))
    gone = Disk("loop9", device(tmp_path / "2", "loop9", loop__backing_file="/images/gone (deleted)"))
    assert disks_behind(gone) == {gone}


def test_file_systems_of_programs_are_read_by_others() -> None:
    kinds = ("fuseblk", "fuse", "fuse.sshfs", "fusectl", "ext4", "ntfs3")
    assert [kind for kind in kinds if is_read_by_others(kind)] == ["fuseblk", "fuse", "fuse.sshfs"]


def test_the_mount_of_a_path_is_found_by_its_number_and_else_by_its_name() -> None:
    found = mount_of(Path("/proc/self/status"))
    assert found is not None
    assert found.file_system == "proc"
    table = parse_mounts(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /a rw - xfs /dev/sda2 rw\n3 1 8:3 / /a rw - ext4 /dev/sda3 rw\n"
        "4 1 8:4 / /a\u2028b rw - ext4 /dev/sda4 rw"
    )
    places = {"/a/x": "/dev/sda3", "/ab": "/dev/sda1", "/a\u2028b/x": "/dev/sda4"}
    above = {path: mount_above(Path(path), table) for path in places}
    assert {path: mount and mount.source for path, mount in above.items()} == places
    assert mount_above(Path("/"), []) is None
