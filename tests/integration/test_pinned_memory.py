"""Dummy memory, locked and freed. Never more of it than a small host can spare."""

import os
import signal
import subprocess
import sys

import pytest

from lab import eventually, needs_root
from pagelab.errors import HostError
from pagelab.host.cgroup import new_group, remove_parent
from pagelab.host.procfs import PAGE_BYTES, meminfo_bytes, read_text
from pagelab.pressure.pin import HOST_MINIMUM_BYTES, PinnedMemory, can_lock_page, pin_bytes, refuse_unsafe
from pagelab.units import GIB, MIB

pytestmark = needs_root

SIZE = 64 * MIB
SLACK = 2 * MIB  # the kernel books locked pages in batches, one a processor

PIN_AND_WAIT = """
import sys
from pagelab.pressure.pin import PinnedMemory
with PinnedMemory(int(sys.argv[1])) as pin:
    print(pin._child.pid, flush=True)
    sys.stdin.read()
"""


def locked_bytes() -> int:
    return meminfo_bytes()["Mlocked"]


def wait_for_locked(expected: int) -> None:
    eventually(lambda: abs(locked_bytes() - expected) <= SLACK, f"{expected} bytes are locked on the host", 10)


def test_locked_memory_is_locked_and_comes_back() -> None:
    before = locked_bytes()
    with PinnedMemory(SIZE) as pin:
        wait_for_locked(before + SIZE)
        assert pin.alive
    wait_for_locked(before)
    assert not pin.alive


def test_it_comes_back_when_something_fails_beside_it() -> None:
    before, error = locked_bytes(), ValueError("something else")

    def failing() -> None:
        with PinnedMemory(SIZE):
            wait_for_locked(before + SIZE)
            raise error

    with pytest.raises(ValueError, match="something else"):
        failing()
    wait_for_locked(before)


def test_inside_a_group_it_is_charged_to_the_group() -> None:
    group = new_group("test")
    group.create()
    try:
        with PinnedMemory(SIZE, group):
            charged = group.counters().non_file_bytes
            assert charged is not None
            assert SIZE < charged < SIZE + 64 * MIB
    finally:
        group.remove()
        remove_parent()


def test_it_does_not_outlive_the_process_that_asked_for_it() -> None:
    before = locked_bytes()
    parent = subprocess.Popen(
        [sys.executable, "-c", PIN_AND_WAIT, str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for_locked(before + SIZE)
        assert f"VmLck:\t   {SIZE // 1024} kB" in (read_text(f"/proc/{child}/status") or "")
        os.kill(parent.pid, signal.SIGKILL)
        eventually(lambda: "VmLck" not in (read_text(f"/proc/{child}/status") or ""), "the locking process is gone", 10)
        wait_for_locked(before)
    finally:
        parent.kill()
        parent.communicate()


def test_what_the_host_cannot_spare_is_refused() -> None:
    available = meminfo_bytes()["MemAvailable"]
    refuse_unsafe(available // 2, 2 * GIB)
    with pytest.raises(
        HostError,
        match=r"locking .* would leave less than the reserve of .* to a host with .* available; stop other programs",
    ):
        refuse_unsafe(available + HOST_MINIMUM_BYTES, 2 * GIB)


def test_a_reserve_that_leaves_nothing_to_lock_is_refused() -> None:
    with pytest.raises(HostError, match=r"a reserve of .* leaves nothing to lock here; lower memory\.os_reserve"):
        refuse_unsafe(0, meminfo_bytes()["MemTotal"])


def test_the_locking_process_stops_by_itself_before_the_host_suffers() -> None:
    """Asked to keep more available than there is, it locks nothing."""
    total, before = meminfo_bytes()["MemTotal"], locked_bytes()
    command = [sys.executable, "-m", "pagelab.pressure.pin", str(SIZE), str(total)]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stdout == f"after 0 bytes the host had less than {total + SIZE} bytes available\n"
    assert abs(locked_bytes() - before) <= SLACK


def test_the_formula_of_the_notes() -> None:
    assert pin_bytes(16 * GIB, 2 * GIB, 3 * GIB) == 11 * GIB
    assert pin_bytes(16 * GIB + 5, 2 * GIB, PAGE_BYTES + 1) % PAGE_BYTES == 0
    assert pin_bytes(2 * GIB, 2 * GIB, 1) == 0


def test_a_page_can_be_locked() -> None:
    assert can_lock_page()
