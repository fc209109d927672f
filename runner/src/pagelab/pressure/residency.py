"""How much of a file is in the page cache, and how to get it out of there."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

from pagelab.errors import HostError
from pagelab.host.procfs import PAGE_BYTES
from pagelab.units import format_bytes

SYS_CACHESTAT = 451  # the same number on every architecture; Linux 6.5 and newer
DROP_CACHES_FILE = Path("/proc/sys/vm/drop_caches")
MINCORE_STEP_BYTES = 1 << 30


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("nr_cache", "nr_dirty", "nr_writeback", "nr_evicted", "nr_recently_evicted")
    )


_libc = ctypes.CDLL(None, use_errno=True)


def resident_bytes(path: Path, offset: int = 0, length: int | None = None) -> int:
    """Bytes of a file (or of a part of it) that are in the page cache, whoever put them there.

    By cachestat(2); on kernels before 6.5 by mincore(2). Whole pages are counted.

    Raises:
        HostError: the file cannot be read, or the kernel does not say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise HostError(f"cannot open {path} ({error.strerror})") from error
    try:
        size = os.fstat(descriptor).st_size
        wanted = size - offset if length is None else length
        pages = _cachestat_pages(descriptor, offset, wanted)
        if pages is None:
            pages = _mincore_pages(descriptor, offset, wanted)
    finally:
        os.close(descriptor)
    return pages * PAGE_BYTES


def _cachestat_pages(descriptor: int, offset: int, length: int) -> int | None:
    if length == 0:
        return 0
    area, answer = _Range(offset, length), _CacheStat()
    failed = _libc.syscall(SYS_CACHESTAT, descriptor, ctypes.byref(area), ctypes.byref(answer), 0)
    return None if failed else int(answer.nr_cache)


def _mincore_pages(descriptor: int, offset: int, length: int) -> int:
    pages = 0
    first = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    end = offset + length
    while first < end:
        step = min(MINCORE_STEP_BYTES, end - first)
        with mmap.mmap(descriptor, step, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=first) as view:
            vector = np.zeros((step + PAGE_BYTES - 1) // PAGE_BYTES, dtype=np.uint8)
            start = ctypes.c_char.from_buffer(view)
            failed = _libc.mincore(ctypes.byref(start), ctypes.c_size_t(step), ctypes.c_void_p(vector.ctypes.data))
            del start
        if failed:
            raise HostError(f"mincore failed ({os.strerror(ctypes.get_errno())}); run inside the lab's container")
        pages += int((vector & 1).sum())
        first += step
    return pages


def evict(path: Path) -> int:
    """Drop a file from the page cache, prove that it is gone, and return the bytes that were there before.

    posix_fadvise(2) drops what is clean and unmapped; pages still held in per-CPU lists need drop_caches.

    Raises:
        HostError: pages stayed, because a process has the file mapped or locked.
    """
    before = resident_bytes(path)
    if before == 0:
        return 0
    _advise_dontneed(path)
    if resident_bytes(path):
        os.sync()
        DROP_CACHES_FILE.write_text("1")
        _advise_dontneed(path)
    left = resident_bytes(path)
    if left:
        raise HostError(
            f"{format_bytes(left)} of {path} stay in the page cache; stop the process that uses it "
            f"(`fuser -v {path}` names it)"
        )
    return before


def _advise_dontneed(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
