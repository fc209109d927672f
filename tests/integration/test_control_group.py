"""Control groups of this very kernel."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import needs_root
from pagelab.errors import HostError
from pagelab.host.cgroup import Group, new_group, parent_path, remove_parent, stale_groups
from pagelab.host.child import enter
from pagelab.host.journal import Journal, restore
from pagelab.host.page_cache import evict
from pagelab.host.procfs import PAGE_BYTES, read_int
from pagelab.units import MIB

pytestmark = needs_root

LIMIT = 24 * MIB
FILE = 96 * MIB
LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


@pytest.fixture
def group() -> Iterator[Group]:
    made = new_group("test")
    made.create()
    yield made
    made.remove()
    remove_parent()


@pytest.fixture
def sleeper(group: Group) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], preexec_fn=enter(group))
    yield process
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


def read_inside(group: Group, path: Path) -> None:
    """Have a child inside the group read a file that is not in the page cache."""
    evict(path)
    subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, preexec_fn=enter(group), check=True)


@pytest.fixture
def large_file(disk_path: Path) -> Path:
    path = disk_path / "large"
    path.write_bytes(bytes(FILE))
    return path


def test_the_limit_is_what_the_kernel_holds(group: Group) -> None:
    assert group.set_limit(LIMIT + 5) == LIMIT
    assert read_int(group.path / LIMIT_FILES[group.version]) == LIMIT
    assert LIMIT % PAGE_BYTES == 0


def test_the_limit_binds_a_child_that_reads_more(group: Group, large_file: Path) -> None:
    group.set_limit(LIMIT)
    read_inside(group, large_file)
    counters, peak, hits = group.counters(), group.peak_bytes(), group.limit_hits()
    assert hits is not None
    assert hits > 0
    assert peak is not None
    assert LIMIT / 2 < peak <= LIMIT
    assert counters.file_bytes is not None
    assert counters.memory_bytes is not None
    assert LIMIT / 2 < counters.file_bytes <= counters.memory_bytes <= LIMIT
    assert group.oom_kills() == 0


def test_without_a_limit_the_file_is_charged_in_whole(group: Group, large_file: Path) -> None:
    read_inside(group, large_file)
    charged = group.counters().file_bytes
    assert charged is not None
    assert FILE <= charged < FILE + LIMIT
    assert group.limit_hits() == 0


def test_what_the_kernel_kills_for_memory_is_counted(group: Group) -> None:
    """Swap must not save it: a group of swappiness 0 does not swap (v1), and a group may be told to have none (v2)."""
    group.set_limit(LIMIT)
    without_swap = {1: ("memory.swappiness", "0"), 2: ("memory.swap.max", "0")}
    name, value = without_swap[group.version]
    (group.path / name).write_text(value)
    command = [sys.executable, "-c", f"b'x' * {FILE}"]
    result = subprocess.run(command, preexec_fn=enter(group), check=False, timeout=60)
    assert result.returncode == -9
    assert group.oom_kills() == 1


def test_kill_removes_the_processes(group: Group, sleeper: subprocess.Popen[bytes]) -> None:
    assert group.processes() == [sleeper.pid]
    assert group.kill() == [sleeper.pid]
    assert sleeper.wait() == -9
    assert group.processes() == []


def test_remove_takes_processes_and_child_groups_along(group: Group, sleeper: subprocess.Popen[bytes]) -> None:
    (group.path / "inner").mkdir()
    (group.path / "inner" / "innermost").mkdir()
    group.remove()
    assert sleeper.wait() == -9
    assert not group.path.exists()
    group.remove()  # of what is gone already is no error


def test_a_group_is_made_only_once(group: Group) -> None:
    with pytest.raises(HostError, match=r"File exists.*pagelab restore"):
        Group(group.path).create()


def test_a_group_left_behind_is_found_and_removed(
    group: Group, sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert [found.path for found in stale_groups()] == [group.path]
    assert restore(tmp_path) == [f"removed the control group {group.path} and killed its 1 process"]
    assert sleeper.wait() == -9
    assert stale_groups() == []
    assert not parent_path().exists()


def test_a_group_is_removed_from_the_journal(group: Group, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note_group(group.path)
    assert journal.undo() == [f"removed the control group {group.path}"]
    assert journal.entries() == []
    assert not group.path.exists()
