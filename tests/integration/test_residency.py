"""What of a file is in the page cache: seen by the kernel, and evicted from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import needs_root
from pagelab.errors import HostError
from pagelab.host import page_cache as residency
from pagelab.host.page_cache import evict, resident_bytes
from pagelab.host.procfs import PAGE_BYTES
from pagelab.units import MIB

pytestmark = needs_root

SIZE = 8 * MIB + PAGE_BYTES + 100  # no whole number of pages or large folios
ROUNDED = 8 * MIB + 2 * PAGE_BYTES

HOLD_LOCKED = """
import ctypes, mmap, sys
with open(sys.argv[1], "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
address = ctypes.addressof(ctypes.c_char.from_buffer(view))
assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(view))) == 0
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(disk_path: Path) -> Path:
    path = disk_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


def test_a_file_just_written_or_read_is_resident_in_whole(file: Path) -> None:
    assert resident_bytes(file) == ROUNDED
    evict(file)
    file.read_bytes()
    assert resident_bytes(file) == ROUNDED


def test_evict_returns_what_was_there_and_leaves_nothing(file: Path) -> None:
    assert evict(file) == ROUNDED
    assert resident_bytes(file) == 0
    assert evict(file) == 0


def test_an_empty_file_has_nothing_resident(disk_path: Path) -> None:
    (disk_path / "empty").touch()
    assert resident_bytes(disk_path / "empty") == 0
    assert evict(disk_path / "empty") == 0


def test_both_ways_to_count_agree_to_the_page(file: Path) -> None:
    evict(file)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no readahead: single pages
        for page in (0, 3, 4, 100, 101, 102, 700, SIZE // PAGE_BYTES):
            os.pread(descriptor, 1, page * PAGE_BYTES)
        ranges = [(0, SIZE), (0, 4 * PAGE_BYTES), (3 * PAGE_BYTES, 98 * PAGE_BYTES), (101 * PAGE_BYTES, SIZE // 2)]
        stat = [residency._cachestat_pages(descriptor, *area) for area in ranges]
        core = [int(residency._mincore_pages(descriptor, [first, first + length])[0]) for first, length in ranges]
    finally:
        os.close(descriptor)
    if None in stat:
        pytest.skip("this kernel has no cachestat(2) to compare with")
    assert stat == core
    assert core == [8, 2, 3, 3]


def test_a_part_of_a_file_is_counted_by_itself(file: Path) -> None:
    half = 4 * MIB
    with file.open("rb") as stream:
        os.fsync(stream.fileno())  # what is not on disk yet is not dropped
        os.posix_fadvise(stream.fileno(), 0, half, os.POSIX_FADV_DONTNEED)
    assert resident_bytes(file, half, SIZE - half) == ROUNDED - half
    assert resident_bytes(file, 0, half) == resident_bytes(file) - (ROUNDED - half) < half


def test_a_file_that_a_process_holds_locked_is_refused_by_name(file: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCKED, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(HostError, match=f"of {file} stay in the page cache; stop the process.*fuser"):
            evict(file)
    finally:
        holder.communicate()
    assert evict(file) == ROUNDED
    assert resident_bytes(file) == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot open .*missing \(No such file"):
        resident_bytes(tmp_path / "missing")
