"""Pressure by pinning: dummy memory locked by a child process, so that the model's pages find no room.

Run as a module this is the child: `python -m pagelab.pressure.pin BYTES KEEP_AVAILABLE_BYTES` locks the memory, writes
`locked BYTES`, and holds it until its standard input closes or its parent dies.
"""

import ctypes
import mmap
import os
import select
import subprocess
import sys
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.cgroup import Group
from pagelab.host.child import enter
from pagelab.host.procfs import PAGE_BYTES, meminfo_bytes
from pagelab.units import MIB, format_bytes

STEP_BYTES = 64 * MIB
LOCK_TIMEOUT_SECONDS = 600.0
HOST_MINIMUM_BYTES = 256 * MIB  # free beside the locked memory at the worst moment, so that the host stays alive


def pin_bytes(host_bytes: int, os_reserve_bytes: int, beside_bytes: int) -> int:
    """Memory to lock: host - os_reserve - beside, in whole pages, never negative.

    With `beside_bytes` = resident * weights this is the notes' formula, which leaves llama.cpp's own anonymous memory
    to the reserve. Under a fence that memory cannot come from the reserve, so it is part of `beside_bytes`.
    """
    return max(0, host_bytes - os_reserve_bytes - beside_bytes) // PAGE_BYTES * PAGE_BYTES


def refuse_unsafe(size: int, os_reserve_bytes: int) -> None:
    """Refuse to lock what the host cannot spare.

    Raises:
        HostError: what is in use now does not fit beside the locked memory, with HOST_MINIMUM_BYTES to spare; or
            nothing is left to lock.
    """
    if size == 0:
        raise HostError(
            f"a reserve of {format_bytes(os_reserve_bytes)} leaves nothing to lock here; lower memory.os_reserve"
        )
    available = meminfo_bytes().get("MemAvailable", 0)
    if size + HOST_MINIMUM_BYTES > available:
        raise HostError(
            f"locking {format_bytes(size)} would leave less than the reserve of {format_bytes(os_reserve_bytes)} "
            f"to a host with {format_bytes(available)} available; stop other programs or raise memory.os_reserve"
        )


class PinnedMemory:
    """A child process that holds locked memory; leaving the context frees it."""

    def __init__(self, size: int, group: Group | None = None) -> None:
        self.size = size
        self._group = group
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PinnedMemory":
        """Lock the memory and wait until all of it is.

        Raises:
            HostError: the kernel or the guard for the host's memory refused.
        """
        command = [sys.executable, "-m", "pagelab.pressure.pin", str(self.size), str(HOST_MINIMUM_BYTES)]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=enter(self._group),  # system calls only
            start_new_session=True,  # Ctrl-C is for the parent, which then frees the memory in order
        )
        try:
            answer = _first_line(self._child)
            if answer != f"locked {self.size}":
                reason = answer or "the locking process was killed"
                raise HostError(f"could not lock {format_bytes(self.size)}: {reason}")
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def alive(self) -> bool:
        """Whether the memory is still held."""
        return self._child is not None and self._child.poll() is None

    def __exit__(self, *_: object) -> None:
        """Free the memory; the process is gone when this returns."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()


def _first_line(child: subprocess.Popen[bytes]) -> str:
    if child.stdout is None or not select.select([child.stdout], [], [], LOCK_TIMEOUT_SECONDS)[0]:
        return "timed out"
    return child.stdout.readline().decode().strip()


def _lock(size: int, keep_available: int) -> mmap.mmap:
    """Map and lock memory step by step; stops before the host's available memory falls below the minimum."""
    libc = ctypes.CDLL(None, use_errno=True)
    region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    for offset in range(0, size, STEP_BYTES):
        step = min(STEP_BYTES, size - offset)
        if meminfo_bytes().get("MemAvailable", 0) < keep_available + step:
            raise HostError(f"after {offset} bytes the host had less than {keep_available + step} bytes available")
        if libc.mlock(ctypes.c_void_p(address + offset), ctypes.c_size_t(step)) != 0:
            problem = os.strerror(ctypes.get_errno())
            raise HostError(f"mlock refused after {offset} bytes ({problem}); allow CAP_IPC_LOCK or raise ulimit -l")
    return region


def can_lock_page() -> bool:
    """Whether this process may lock memory, shown by locking one page and letting it go."""
    try:
        _lock(PAGE_BYTES, 0).close()
    except HostError:
        return False
    return True


def _hold(size: int, keep_available: int) -> int:
    """The child: lock, say so, wait for the end of standard input."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # if the host runs out after all, the dummy memory goes first
    try:
        region = _lock(size, keep_available)
    except HostError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"locked {size}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    del region
    return 0


if __name__ == "__main__":
    sys.exit(_hold(int(sys.argv[1]), int(sys.argv[2])))
