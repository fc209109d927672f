"""One class reads the groups of both versions, from files as each kernel has them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vanishing import vanishing

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


def test_a_line_of_io_that_does_not_end_belongs_to_its_last_device(tmp_path: Path) -> None:
    found = group(tmp_path, 2)
    # Linux 5.14 to 5.16: the devices before the last one have no figures, and no end of their line.
    (found.path / "io.stat").write_text(
        "7:0 7:1 8:0 rbytes=4096 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0\n253:0 wbytes=7\n"
    )
    numbers = ("7:0", "7:1", "8:0", "8:16", "253:0", "8:32")
    assert [found.read_bytes(number) for number in numbers] == [None, None, 4096, 5, None, 0]
    assert found.read_bytes("8:0", "8:16") == 4101
    assert found.read_bytes("8:0", "7:0") is None


def test_before_linux_5_9_refaults_are_those_of_files(tmp_path: Path) -> None:
    found = group(tmp_path, 2)
    (found.path / "memory.stat").write_text("anon 1\nfile 6500\nshmem 500\nworkingset_refault 12\n")
    counters = found.counters()
    assert (counters.refault_file_pages, counters.refault_anon_pages) == (12, None)


@pytest.mark.parametrize("version", [1, 2])
def test_page_cache_without_its_shared_part_is_absent(tmp_path: Path, version: int) -> None:
    found = group(tmp_path, version)
    (found.path / "memory.stat").write_text("file 6500\ntotal_cache 6500\n")
    assert found.counters().file_bytes is None
    assert found.counters().non_file_bytes is None


@pytest.mark.parametrize(("version", "text"), [(1, "9223372036854771712"), (1, "9223372036854710272"), (2, "max")])
def test_no_limit_is_no_number(tmp_path: Path, version: int, text: str) -> None:
    found = group(tmp_path, version)
    (found.path / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(f"{text}\n")
    assert found.counters().limit_bytes is None


def test_a_limit_is_not_lowered_where_the_charge_is_unknown(tmp_path: Path) -> None:
    found = group(tmp_path, 2)
    (found.path / "memory.current").unlink()
    with pytest.raises(HostError, match="does not say what it is charged"):
        found.lower_limit(PAGE_BYTES)
    assert (found.path / "memory.max").read_text() == f"{LIMIT}\n"


KILL = """
import sys
from pathlib import Path
from pagelab.errors import HostError
from pagelab.host import cgroup
cgroup.KILL_SECONDS = 0.0
try:
    cgroup.Group(Path(sys.argv[1])).kill()
except HostError as error:
    print(error)
"""


def kill_apart(found: Group) -> subprocess.CompletedProcess[str]:
    """In a process group of its own, which is what a kill of 0 would end."""
    command = [sys.executable, "-c", KILL, found.path]
    return subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)


def test_a_process_of_another_pid_namespace_is_not_killed_as_our_own_group(tmp_path: Path) -> None:
    """cgroup.procs has 0 for it, and a kill of 0 would end the killer and all that was started with it."""
    found = group(tmp_path, 2)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        (found.path / "cgroup.procs").write_text(f"0\n{sleeper.pid}\n")
        assert found.processes() == [sleeper.pid]
        answer = kill_apart(found)
        assert answer.returncode == 0
        assert sleeper.wait(60) == -signal.SIGKILL
        (found.path / "cgroup.procs").write_text("0\n")
        alone = kill_apart(found)
        assert alone.returncode == 0
        assert "belongs to another pid namespace" in alone.stdout
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_group_is_killed_by_the_kernel_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = group(tmp_path, 2)
    (found.path / "cgroup.procs").write_text("0\n")
    (found.path / "cgroup.kill").write_text("")
    monkeypatch.setattr("pagelab.host.cgroup.KILL_SECONDS", 0.0)
    with pytest.raises(HostError):
        found.kill()
    assert (found.path / "cgroup.kill").read_text() == "1"


def test_a_child_group_that_vanishes_during_a_look_is_passed_over(tmp_path: Path) -> None:
    found = group(tmp_path, 2)
    (found.path / "cgroup.procs").write_text("12\n")
    for name in ("gone", "there"):
        (found.path / name).mkdir()
    (found.path / "there" / "cgroup.procs").write_text("13\n")
    with vanishing(found.path / "gone"):
        assert found.processes() == [13, 12]
    assert not (found.path / "gone").exists()
