"""One class reads the groups of both versions, from files as each kernel has them."""

from pathlib import Path

import pytest

from pagelab.errors import HostError
from pagelab.host.cgroup import Group, GroupCounters
from pagelab.host.procfs import PAGE_BYTES

LIMIT = 100 * PAGE_BYTES
COUNTERS = GroupCounters(
    memory_bytes=9000,
    file_bytes=6000,
    swap_bytes=50,
    major_faults=3,
    faults=40,
    refault_file_pages=7,
    refault_anon_pages=8,
    limit_bytes=LIMIT,
)
V1 = {
    "memory.limit_in_bytes": f"{LIMIT}",
    "memory.usage_in_bytes": "9000",
    "memory.max_usage_in_bytes": "9500",
    "memory.failcnt": "12",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    # The group's own counters, then those of its children too, which count.
    "memory.stat": "cache 1\nshmem 1\nswap 1\npgfault 1\npgmajfault 1\n"
    "total_cache 6500\ntotal_shmem 500\ntotal_swap 50\n"
    "total_pgfault 40\ntotal_pgmajfault 3\ntotal_workingset_refault_file 7\ntotal_workingset_refault_anon 8",
}
V2 = {
    "memory.max": f"{LIMIT}",
    "memory.current": "9000",
    "memory.peak": "9500",
    "memory.swap.current": "50",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1",
    "memory.stat": "anon 2000\nfile 6500\nshmem 500\npgfault 40\npgmajfault 3\n"
    "workingset_refault_file 7\nworkingset_refault_anon 8",
    "io.stat": "8:0 rbytes=4096 wbytes=0 rios=1\n8:16",
}


def group(root: Path, version: int) -> Group:
    path = root / "pagelab" / "trial"
    path.mkdir(parents=True)
    if version == 2:
        (root / "pagelab" / "cgroup.controllers").write_text("memory io\n")
    for name, text in (V1 if version == 1 else V2).items():
        (path / name).write_text(f"{text}\n")
    return Group(path)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_say_the_same_of_the_same_group(tmp_path: Path, version: int) -> None:
    found = group(tmp_path, version)
    assert found.version == version
    assert found.counters() == COUNTERS
    assert (found.memory_bytes(), found.peak_bytes(), found.limit_hits(), found.oom_kills()) == (9000, 9500, 12, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_kernel_does_not_have_is_absent(tmp_path: Path, version: int) -> None:
    found = group(tmp_path, version)
    for file in found.path.iterdir():
        file.unlink()
    assert found.counters() == GroupCounters()
    assert [found.peak_bytes(), found.limit_hits(), found.oom_kills(), found.read_bytes("8:0")] == [None] * 4


def test_reads_of_a_disk_are_known_to_version_2_alone(tmp_path: Path) -> None:
    found = group(tmp_path / "2", 2)
    assert [found.read_bytes(number) for number in ("8:0", "8:16", "8:32")] == [4096, None, 0]
    assert group(tmp_path / "1", 1).read_bytes("8:0") is None


def test_only_version_1_has_a_swappiness_of_the_group(tmp_path: Path) -> None:
    assert group(tmp_path / "1", 1).swappiness_file == tmp_path / "1" / "pagelab" / "trial" / "memory.swappiness"
    assert group(tmp_path / "2", 2).swappiness_file is None


def test_version_2_reclaims_before_it_lowers_a_limit(tmp_path: Path) -> None:
    found = group(tmp_path, 2)
    (found.path / "memory.current").write_text(f"{3 * PAGE_BYTES}")
    assert found.lower_limit(2 * PAGE_BYTES) == 3 * PAGE_BYTES  # nothing was reclaimed here, so nothing is killed
    assert (found.path / "memory.reclaim").read_text() == f"{PAGE_BYTES}"


def test_a_parent_that_does_not_hand_the_controller_on_is_said(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    with pytest.raises(HostError, match=r"write \+memory to .*cgroup\.subtree_control"):
        Group(tmp_path / "trial").create()
    assert not (tmp_path / "trial").exists()
