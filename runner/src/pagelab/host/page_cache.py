"""How much of a file is in the page cache, and how to get it out of there."""

import ctypes
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagelab.errors import HostError
from pagelab.host.environment import capabilities
from pagelab.host.procfs import PAGE_BYTES
from pagelab.units import format_bytes

CAP_FOWNER = 3  # linux/capability.h
SYS_CACHESTAT = 451  # the same number on every architecture; Linux 6.5 and newer
DROP_CACHES_FILE = Path("/proc/sys/vm/drop_caches")
_ASKED_AGAIN = 50
_SECONDS_OF_A_READ = 0.01
MINCORE_STEP_BYTES = 1 << 30

Pages = NDArray[np.int64]
Flags = NDArray[np.uint8]


# Of include/uapi/linux/mman.h: offset and length; numbers of pages cached, dirty, in writeback, evicted, and lately so.
_CacheStatRange, _CacheStat = ctypes.c_uint64 * 2, ctypes.c_uint64 * 5

_libc = ctypes.CDLL(None, use_errno=True)


def resident_bytes(path: Path, offset: int = 0, length: int | None = None) -> int:
    """Bytes of a file (or of a part of it) that are in the page cache, whoever put them there.

    By cachestat(2); on kernels before 6.5 by mincore(2). Whole pages are counted.

    Raises:
        HostError: the file cannot be read, or the kernel does not say.
    """
    with opened(path) as descriptor:
        end = os.fstat(descriptor).st_size if length is None else offset + length
        return int(resident_pages(descriptor, [offset, end])[0]) * PAGE_BYTES


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file, to look at its pages through.

    Raises:
        HostError: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise HostError(f"cannot open {path} ({error.strerror})") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def resident_pages(descriptor: int, bounds: Sequence[int]) -> Pages:
    """Pages in the page cache of each stretch of a file from one bound to the next.

    Args:
        descriptor: the file, open for reading.
        bounds: n + 1 ascending offsets in bytes. A page that a bound cuts counts on both its sides.

    Returns:
        n counts of pages.

    Raises:
        HostError: the kernel does not say.
    """
    counts = np.zeros(len(bounds) - 1, dtype=np.int64)
    for index, (first, end) in enumerate(pairwise(bounds)):
        pages = _cachestat_pages(descriptor, first, end - first)
        if pages is None:
            return _mincore_pages(descriptor, bounds)
        counts[index] = pages
    return counts


def _cachestat_pages(descriptor: int, offset: int, length: int) -> int | None:
    if length == 0:
        return 0
    area, answer = _CacheStatRange(offset, length), _CacheStat()
    failed = _libc.syscall(SYS_CACHESTAT, descriptor, ctypes.byref(area), ctypes.byref(answer), 0)
    return None if failed else int(answer[0])


def _is_told(descriptor: int) -> bool:
    """Whether mincore(2) tells this process the truth.

    Since Linux 5.2 it calls every page resident to one that neither owns the file nor may write it (can_do_mincore in
    mm/mincore.c), and cachestat(2) then refuses, since 6.13.
    """
    if os.fstat(descriptor).st_uid == os.geteuid() or CAP_FOWNER in capabilities():
        return True
    return os.access(f"/proc/self/fd/{descriptor}", os.W_OK, effective_ids=True)


def _mincore_pages(descriptor: int, bounds: Sequence[int]) -> Pages:
    if not _is_told(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        raise HostError(f"the kernel does not tell which pages of {name} are in RAM; run as its owner or as root")
    first, end = bounds[0] // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY, bounds[-1]
    steps = [
        _mincore(descriptor, start, min(MINCORE_STEP_BYTES, end - start))
        for start in range(first, end, MINCORE_STEP_BYTES)
    ]
    resident_before = np.concatenate([[0], np.cumsum(np.concatenate(steps) if steps else [], dtype=np.int64)])
    starts = (np.asarray(bounds[:-1]) - first) // PAGE_BYTES
    ends = -(-(np.asarray(bounds[1:]) - first) // PAGE_BYTES)
    return np.where(np.diff(bounds) == 0, 0, resident_before[ends] - resident_before[starts])


def _mincore(descriptor: int, offset: int, length: int) -> Flags:
    """One entry a page, 1 where it is in the page cache."""
    with mmap.mmap(descriptor, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset) as view:
        vector = np.zeros((length + PAGE_BYTES - 1) // PAGE_BYTES, dtype=np.uint8)
        start = ctypes.c_char.from_buffer(view)
        failed = _libc.mincore(ctypes.byref(start), ctypes.c_size_t(length), ctypes.c_void_p(vector.ctypes.data))
        del start
    if failed:
        raise HostError(f"mincore failed ({os.strerror(ctypes.get_errno())}); run inside the lab's container")
    return vector & np.uint8(1)


def evict(*paths: Path) -> int:
    """Drop files from the page cache, prove that they are gone, and return the bytes that were there before.

    posix_fadvise(2) drops what is clean and unmapped, and leaves what is still being read: that is asked for again.
    What stays then, as pages in per-CPU lists can, needs drop_caches. That is the last resort, since it drops the
    programs of everybody too, and who reads them next is charged for them: a trial's group, which then evicts them all
    the time.

    Raises:
        HostError: pages stayed, because a process has the file mapped or locked.
    """
    return sum(_evict(path) for path in paths)


def _evict(path: Path) -> int:
    before = resident_bytes(path)
    if before == 0:
        return 0
    _advise_dontneed(path)
    for _ in range(_ASKED_AGAIN):
        if not resident_bytes(path):
            return before
        time.sleep(_SECONDS_OF_A_READ)
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
    with opened(path) as descriptor:
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
