"""What the disk delivers, and how far the kernel reads ahead: held against readers that are known."""

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import DISK_DIRECTORY, needs_root
from pagelab.analysis.bound import random_rate
from pagelab.config.factors import Readahead
from pagelab.host import disk_rates
from pagelab.host.cgroup import Group
from pagelab.host.disk_rates import RANDOM_BYTES, RANDOM_DEPTHS, DiskRates, measure_disk_rates
from pagelab.host.journal import Journal
from pagelab.host.page_cache import evict, resident_bytes
from pagelab.host.procfs import process_read_bytes, vmstat
from pagelab.host.readahead import effective_readahead_kib
from pagelab.host.storage import disk_of
from pagelab.run.disk_profile import disk_rates_of
from pagelab.run.trial import put_back_afterwards
from pagelab.units import KIB, MIB

FILE_BYTES = 128 * MIB
REQUEST_BYTES = 64 * KIB
WITHIN = 4.0  # times, between two measurements of one disk some seconds apart

pytestmark = needs_root


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=DISK_DIRECTORY, prefix="pagelab-test-") as name:
        file = Path(name) / "a file: of 100%"  # what fio takes for two names, and for a format
        file.write_bytes(os.urandom(FILE_BYTES))
        os.sync()
        yield file


needs_fio = pytest.mark.skipif(shutil.which("fio") is None, reason="fio is missing (package fio)")


@pytest.fixture(scope="module")
def rates(path: Path) -> DiskRates:
    return measure_disk_rates(path)


@needs_fio
def test_every_way_is_measured(rates: DiskRates, path: Path) -> None:
    assert rates.file_bytes == FILE_BYTES
    assert {(one.request_bytes, one.depth) for one in rates.random} == {
        (size, depth) for size in RANDOM_BYTES for depth in RANDOM_DEPTHS
    }
    assert all(one.bytes_per_second > MIB for one in rates.random)
    assert min(rates.direct_bytes_per_second, rates.page_cache_bytes_per_second) > MIB
    assert rates.first_second_bytes_per_second is not None
    assert rates.last_second_bytes_per_second is not None
    assert resident_bytes(path) == 0, "what was read through the page cache is evicted"


def known_reader(path: Path, depth: int, seconds: float = 0.3) -> float:
    """Bytes a second of direct reads at random places by so many threads."""
    started = time.monotonic()
    places = [number * 7919 % (FILE_BYTES // REQUEST_BYTES) * REQUEST_BYTES for number in range(20_000)]
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)

    def read(worker: int) -> int:
        total = 0
        with mmap.mmap(-1, REQUEST_BYTES) as buffer:
            for place in places[worker::depth]:
                if time.monotonic() >= started + seconds:
                    break
                total += os.preadv(descriptor, [buffer], place)
        return total

    try:
        with ThreadPoolExecutor(depth) as pool:
            total = sum(pool.map(read, range(depth)))
    finally:
        os.close(descriptor)
    return total / (time.monotonic() - started)


@needs_fio
@pytest.mark.parametrize("depth", [1, 32])
def test_a_known_reader_gets_its_share_of_what_the_disk_can(rates: DiskRates, path: Path, depth: int) -> None:
    expected = random_rate(rates, REQUEST_BYTES, depth)
    assert expected is not None
    share = max(known_reader(path, depth) for _ in range(5)) / expected
    assert 1 / WITHIN < share < WITHIN, f"{share:.2f} of the rate for {depth} under way"


@needs_fio
def test_what_was_measured_is_kept_for_this_disk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DIRECT_SECONDS", 1), ("RANDOM_SECONDS", 0.05), ("PASSES", 1)):
        monkeypatch.setattr(disk_rates, name, value)  # the rates themselves are looked at above
    first = disk_rates_of(path, disk_of(path), tmp_path)
    assert disk_rates_of(path, disk_of(path), tmp_path) == first
    (kept,) = (tmp_path / "disk-rates").iterdir()
    kept.write_text(kept.read_text().replace(first.measured_at, "not measured here"))
    assert disk_rates_of(path, disk_of(path), tmp_path).measured_at == "not measured here"
    kept.write_text("{")
    assert disk_rates_of(path, disk_of(path), tmp_path).measured_at != "not measured here", "damaged: measured again"


def read_by_one_fault(path: Path) -> int:
    """Bytes that this process has to wait for, or asks for, with one touch of a file that is advised as sequential."""
    evict(path)
    before = process_read_bytes(os.getpid()) or 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        assert len(view[FILE_BYTES // 2 : FILE_BYTES // 2 + 1]) == 1
    return (process_read_bytes(os.getpid()) or 0) - before


def caches_dropped() -> int:
    """How often somebody wrote to drop_caches since boot."""
    return vmstat()["drop_pagecache"]


@pytest.mark.parametrize("kib", [128, 2048])
def test_the_advice_doubles_the_readahead(path: Path, tmp_path: Path, kib: int) -> None:
    disk, journal = disk_of(path), Journal(tmp_path)
    with put_back_afterwards(journal):
        for one in Readahead().settings(kib, disk, Group(tmp_path / "group")):
            one.apply(journal)
        before = caches_dropped()
        assert effective_readahead_kib(path, advised_sequential=False) == kib
        assert effective_readahead_kib(path, advised_sequential=True) == 2 * kib
        assert caches_dropped() == before, "everybody's programs would go too"
        assert read_by_one_fault(path) == 2 * kib * KIB, "the kernel's own count of what was asked of the disk"
    assert resident_bytes(path) in (0, 2 * kib * KIB)


def test_a_window_that_is_larger_than_the_file_cannot_be_told(path: Path, tmp_path: Path) -> None:
    small = path.with_name("small")
    small.write_bytes(os.urandom(MIB))
    os.sync()
    disk, journal = disk_of(small), Journal(tmp_path)
    with put_back_afterwards(journal):
        for one in Readahead().settings(4096, disk, Group(tmp_path / "group")):
            one.apply(journal)
        assert effective_readahead_kib(small, advised_sequential=True) is None
