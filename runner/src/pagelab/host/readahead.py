"""How far the kernel really reads ahead for an open file: seen by one page fault, not taken from a setting.

`posix_fadvise(SEQUENTIAL)` doubles the window of the open file that it is called for (generic_fadvise, mm/fadvise.c),
and llama.cpp calls it for what it maps. A fault in the middle of a mapped file reads the window around it
(do_sync_mmap_readahead, mm/filemap.c). So the effective window is what one fault brings in.
"""

import mmap
import os
import time
from pathlib import Path

from pagelab.host.page_cache import evict, resident_bytes
from pagelab.units import KIB

_LOOKS = 100
_SECONDS_BETWEEN_LOOKS = 0.005


def effective_readahead_kib(path: Path, advised_sequential: bool) -> int | None:
    """KiB that come with one fault in the middle of a mapped file, which is evicted before and after.

    Args:
        path: the file; nobody else may use it meanwhile.
        advised_sequential: advise it as llama.cpp does for weights that it maps.

    Returns:
        None where the window is cut off by an end of the file, so that its size cannot be told.

    Raises:
        HostError: the file cannot be evicted.
    """
    evict(path)
    size = path.stat().st_size
    middle = size // 2 // mmap.PAGESIZE * mmap.PAGESIZE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        if advised_sequential:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        _ = view[middle]
        kib = _settled_bytes(path) // KIB
    evict(path)
    return kib if kib * KIB < 2 * middle else None


def _settled_bytes(path: Path) -> int:
    """Resident bytes once they do not grow any more: the fault waits for its own page, and others may still come.

    Where the kernel has no cachestat(2), pages are only counted when they have been read (mincore(2)).
    """
    found = resident_bytes(path)
    for _ in range(_LOOKS):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        before, found = found, resident_bytes(path)
        if before == found:
            break
    return found
