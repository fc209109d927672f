"""How much may be held: the least that a group or the host leaves."""

from pathlib import Path

import pytest

from pagelab.host.cgroup import Group
from pagelab.host.procfs import meminfo_bytes
from pagelab.keeper.room import HOST_RESERVE_SHARE, room_bytes
from pagelab.units import MIB


def group(directory: Path, limit: str, charged: int, of_files: int) -> Group:
    """What a group of version 2 says."""
    path = directory / "hierarchy" / "group"
    path.mkdir(parents=True)
    (path.parent / "cgroup.controllers").write_text("memory\n")
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{charged}\n")
    (path / "memory.stat").write_text(f"anon {charged - of_files}\nfile {of_files}\nshmem 0\n")
    return Group(path)


def test_a_group_leaves_its_limit_without_what_cannot_be_dropped_and_the_headroom(tmp_path: Path) -> None:
    one = group(tmp_path, str(500 * MIB), charged=480 * MIB, of_files=400 * MIB)
    assert room_bytes([one], held_bytes=300 * MIB, headroom_bytes=60 * MIB) == (500 - 80 - 60) * MIB


def test_it_is_never_negative(tmp_path: Path) -> None:
    one = group(tmp_path, str(100 * MIB), charged=100 * MIB, of_files=10 * MIB)
    assert room_bytes([one], 0, 60 * MIB) == 0


def test_without_a_limit_the_host_decides(tmp_path: Path) -> None:
    one = group(tmp_path, "max", charged=100 * MIB, of_files=10 * MIB)
    memory = meminfo_bytes()
    expected = memory["MemAvailable"] - memory["MemTotal"] * HOST_RESERVE_SHARE
    assert room_bytes([one], 0, 0) == pytest.approx(expected, abs=256 * MIB)
