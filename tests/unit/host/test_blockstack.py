"""Stacks of block devices, as the kernel lays them out in /sys."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.host.blockstack import devices_below
from pagelab.host.extents import Extent, fragments, summarise


class Sys:
    """A tree of block devices in files and links."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, files: dict[str, str], on: tuple[str, ...] = ()) -> Path:
        """A device that lies on others, which are there already."""
        device = self.root / name
        (device / "slaves").mkdir(parents=True)
        for file, text in files.items():
            (device / file).parent.mkdir(parents=True, exist_ok=True)
            (device / file).write_text(f"{text}\n")
        for below in on:
            (device / "slaves" / Path(below).name).symlink_to(self.root / below)
        return device


@pytest.fixture
def sys(tmp_path: Path) -> Sys:
    return Sys(tmp_path)


def names(stack: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(device["name"], device["kind"]) for device in stack]


def test_a_disk_alone(sys: Sys) -> None:
    (found,) = devices_below(sys.add("sda", {"device/model": "Disk", "queue/rotational": "1"}))
    assert found == {"kind": "disk", "name": "sda", "model": "Disk", "rotational": 1}


def test_a_partition_says_where_it_starts(sys: Sys) -> None:
    sys.add("nvme0n1", {"size": "4096"})
    partition = sys.add(
        "nvme0n1/nvme0n1p2", {"partition": "2", "start": "2048", "size": "1024", "alignment_offset": "0"}
    )
    first, disk = devices_below(partition)
    assert first == {
        "name": "nvme0n1p2",
        "kind": "partition",
        "start_bytes": 2048 * 512,
        "size_bytes": 1024 * 512,
        "alignment_offset_bytes": 0,
        "on": ["nvme0n1"],
    }
    assert disk["size_bytes"] == 4096 * 512


def test_lvm_on_luks_on_raid_on_two_disks(sys: Sys) -> None:
    for disk in ("sda", "sdb"):
        sys.add(disk, {"device/serial": "secret"})
        sys.add(f"{disk}/{disk}1", {"partition": "1", "start": "8"})
    raid = {"md/level": "raid0", "md/raid_disks": "2", "md/chunk_size": "524288", "md/degraded": "0"}
    sys.add("md0", raid, ("sda/sda1", "sdb/sdb1"))
    sys.add("dm-0", {"dm/uuid": "CRYPT-LUKS2-secret", "dm/name": "cryptdata"}, ("md0",))
    top = sys.add("dm-1", {"dm/uuid": "LVM-secret", "dm/name": "vg-models", "queue/read_ahead_kb": "4096"}, ("dm-0",))
    stack = devices_below(top)
    assert names(stack) == [
        ("dm-1", "lvm"),
        ("dm-0", "crypt"),
        ("md0", "raid"),
        ("sda1", "partition"),
        ("sda", "disk"),
        ("sdb1", "partition"),
        ("sdb", "disk"),
    ]
    assert stack[0] == {
        "name": "dm-1",
        "kind": "lvm",
        "mapped_name": "vg-models",
        "readahead_kib": 4096,
        "on": ["dm-0"],
    }
    assert stack[2]["on"] == ["sda1", "sdb1"]
    assert (stack[2]["level"], stack[2]["disks"], stack[2]["chunk_bytes"], stack[2]["degraded"]) == (
        "raid0",
        2,
        524288,
        0,
    )
    assert "secret" not in json.dumps(stack)


def test_a_disk_that_two_devices_lie_on_comes_once(sys: Sys) -> None:
    sys.add("sda", {})
    for number in (1, 2):
        sys.add(f"sda/sda{number}", {"partition": str(number)})
    top = sys.add("dm-0", {"dm/name": "striped", "dm/uuid": ""}, ("sda/sda1", "sda/sda2"))
    stack = devices_below(top)
    assert names(stack) == [("dm-0", "device_mapper"), ("sda1", "partition"), ("sda", "disk"), ("sda2", "partition")]


def test_a_loop_device_whose_file_is_not_to_be_seen(sys: Sys) -> None:
    (found,) = devices_below(sys.add("loop3", {"loop/backing_file": "/missing/image", "loop/dio": "1"}))
    assert found == {"name": "loop3", "kind": "loop", "backing_file": "/missing/image", "direct_io": 1}


def test_extents_that_go_on_are_one_fragment() -> None:
    extents = [Extent(0, 1000, 100), Extent(100, 1100, 50), Extent(150, 5000, 10), Extent(200, 5010, 40)]
    assert fragments(extents) == (Extent(0, 1000, 150), Extent(150, 5000, 10), Extent(200, 5010, 40))
    assert summarise(extents) == {
        "extents": 4,
        "fragments": 3,
        "mapped_bytes": 200,
        "largest_fragment_bytes": 150,
        "mean_fragment_bytes": pytest.approx(200 / 3),
        "first_device_offset_bytes": 1000,
    }
    assert summarise([]) == {"extents": 0, "fragments": 0}


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1))
def test_joining_keeps_every_byte_in_its_place(pieces: list[tuple[int, bool]]) -> None:
    extents, file_offset, device_offset = [], 0, 7
    for size, jump in pieces:
        device_offset += 1000 if jump else 0
        extents.append(Extent(file_offset, device_offset, size))
        file_offset, device_offset = file_offset + size, device_offset + size

    def places(found: tuple[Extent, ...]) -> dict[int, int]:
        return {one.file_offset + n: one.device_offset + n for one in found for n in range(one.bytes)}

    joined = fragments(extents)
    assert places(joined) == places(tuple(extents))
    assert len(joined) == 1 + sum(jump for _, jump in pieces[1:])
