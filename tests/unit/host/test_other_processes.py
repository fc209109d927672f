import os
import subprocess
import sys

import pytest

from pagelab.host.other_processes import Process, cpu_time_of_others, parse_stat, processes

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
WAITS_FOR_ONE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print(flush=True); input()"


def stat_line(name: bytes, flags: int = 0) -> bytes:
    return b"42 (" + name + b") S 7 42 42 0 -1 " + str(flags).encode() + b" 0 0 0 0 100 50 30 20 20 0 1 0 99"


@pytest.mark.parametrize("name", [b"python3", b"a b", b"x) R 1 (y", b"\xff)"])
def test_a_name_may_hold_anything(name: bytes) -> None:
    process = parse_stat(stat_line(name))
    assert process == Process(name.decode(errors="replace"), 7, 200 / os.sysconf("SC_CLK_TCK"))


def test_kernel_threads_are_left_out() -> None:
    assert parse_stat(stat_line(b"kswapd0", flags=0x00200000)) is None
    assert all(process.parent != 2 for process in processes().values())


@pytest.mark.parametrize("line", [b"", b"42", b"42 (x) S 1"])
def test_a_line_that_was_cut_is_no_process(line: bytes) -> None:
    assert parse_stat(line) is None


def test_a_child_that_came_and_went_is_counted_with_its_parent() -> None:
    before = processes()
    with subprocess.Popen(
        [sys.executable, "-c", WAITS_FOR_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdout.readline()
        after = processes()
        parent.stdin.close()
    _, all_others = cpu_time_of_others(before, after, ours=[])
    assert {one.pid: one.cpu_seconds for one in all_others}[parent.pid] >= 0.25
    _, without_ours = cpu_time_of_others(before, after, ours=[os.getpid()])
    assert parent.pid not in {one.pid for one in without_ours}


def test_what_ended_is_not_counted_twice() -> None:
    shell, job = Process("sh", 1, 1.0), Process("cc1", 10, 5.0)
    before = {10: shell, 11: job}
    after = {10: Process("sh", 1, 1.0 + 7.0)}
    taken, busiest = cpu_time_of_others(before, after, ours=[])
    assert taken == pytest.approx(2.0)
    assert [(one.name, one.pid) for one in busiest] == [("sh", 10)]
