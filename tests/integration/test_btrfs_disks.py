"""btrfs over two disks: what both deliver is summed, and the file system's own readahead is the one that works.

PAGELAB_TEST_BTRFS may name one that is mounted already, and its two loop devices: `MOUNT_POINT LOOP LOOP`.
"""

import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import DISK_DIRECTORY, needs_root
from pagelab.config.factors import Readahead
from pagelab.errors import HostError
from pagelab.host.blockstack import stack_of
from pagelab.host.cgroup import Group
from pagelab.host.journal import Journal
from pagelab.host.kernel_setting import KernelSetting
from pagelab.host.page_cache import evict, resident_bytes
from pagelab.host.storage import block_device_of, disk_of, disk_of_all, disks_behind
from pagelab.observe.traced_files import traced_devices
from pagelab.run.models_disk import models_disk_check
from pagelab.run.trial import put_back_afterwards
from pagelab.units import KIB, MIB

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
GIVEN = os.environ.get("PAGELAB_TEST_BTRFS", "").split()
MISSING = [tool for tool in ("losetup", "mkfs.btrfs") if not GIVEN and shutil.which(tool, path=PATH) is None]
FILE_BYTES = 64 * MIB

pytestmark = [
    needs_root,
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)} (packages util-linux and btrfs-progs)"),
]


def tool(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": PATH}).stdout


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=DISK_DIRECTORY, prefix="pagelab-test-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def loops(directory: Path) -> Iterator[list[str]]:
    """Two loop devices that go past the page cache."""
    if GIVEN:
        yield GIVEN[1:]
        return
    before: dict[str, str] = {}
    try:
        for name in ("first.img", "second.img"):
            image = directory / name
            with image.open("wb") as file:
                os.truncate(file.fileno(), 300 * MIB)
            loop = tool("losetup", "--find").strip()
            before[loop] = readahead_of(loop).read_text()
            tool("losetup", "--direct-io=on", loop, image)
        yield list(before)
    finally:
        for loop, kib in before.items():
            tool("losetup", "--detach", loop)
            readahead_of(loop).write_text(kib)  # which follows from the image's disk while there is one


def readahead_of(loop: str) -> Path:
    return Path("/sys/block") / Path(loop).name / "queue" / "read_ahead_kb"


@pytest.fixture(scope="module")
def path(loops: list[str], directory: Path) -> Iterator[Path]:
    """A file whose pieces lie on both by turns."""
    with mounted(directory / "mount", loops) as point:
        file = point / "model"
        file.write_bytes(os.urandom(FILE_BYTES))
        os.sync()
        yield file


@contextmanager
def mounted(point: Path, loops: list[str]) -> Iterator[Path]:
    if GIVEN:
        yield Path(GIVEN[0])
        return
    point.mkdir()
    tool("mkfs.btrfs", "-q", "-d", "raid0", "-m", "raid1", *loops)
    tool("mount", loops[0], point)
    try:
        yield point
    finally:
        tool("umount", point)


def kernel_reads(loop: str) -> int:
    """Bytes read from a device, as the kernel says it."""
    return int(Path(f"/sys/block/{Path(loop).name}/stat").read_text().split()[2]) * 512


def kib_by_one_fault(path: Path) -> int:
    """How much of a file comes with one touch of its middle."""
    evict(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert len(view[FILE_BYTES // 2 : FILE_BYTES // 2 + 1]) == 1
        return resident_bytes(path) // KIB


def test_the_file_system_lists_both(path: Path, loops: list[str]) -> None:
    names = [Path(loop).name for loop in loops]
    disk = disk_of_all([path, path.parent])
    assert disk.name == "+".join(names)
    assert [one.name for one in disk.serving] == names
    assert [device.name for device in traced_devices([path])] == names
    assert {device["name"] for device in stack_of(path)} >= set(names)
    assert [device["name"] for device in disk.describe()["devices"]] == names  # type: ignore[attr-defined]
    assert disks_behind(disk) >= disks_behind(disk_of(path.parents[1])), "the images' disk is behind them"


def test_the_counter_is_the_sum_of_both(path: Path, loops: list[str]) -> None:
    disk, before = disk_of(path), [kernel_reads(loop) for loop in loops]
    evict(path)
    counted = disk.read_and_written_bytes()[0]
    path.read_bytes()
    each = [kernel_reads(loop) - start for loop, start in zip(loops, before, strict=True)]
    assert all(one >= FILE_BYTES // 4 for one in each), "raid0 reads from both"
    found = disk.read_and_written_bytes()[0]
    assert counted is not None
    assert found is not None
    assert found - counted >= FILE_BYTES
    assert found - counted <= sum(each)


def test_the_file_system_s_readahead_is_the_factor_that_works(path: Path, loops: list[str], tmp_path: Path) -> None:
    disk, journal, group = disk_of(path), Journal(tmp_path), Group(tmp_path / "group")
    before = disk.readahead_kib()
    seen = {}
    for kib in (128, 2048):
        with put_back_afterwards(journal):
            for one in Readahead().settings(kib, disk, group):
                one.apply(journal)
            seen[kib] = kib_by_one_fault(path)
            found = Readahead().found(disk).value
            assert found is not None
            assert found.startswith(f"{kib} KiB on the file system (btrfs-")
    assert disk.readahead_kib() == before
    assert seen[128] <= 128 < seen[2048] <= 2048, "a fault brings what the setting says"
    with put_back_afterwards(journal):  # that of the disks has no effect, so it is no factor
        for one in disk.serving:
            KernelSetting(one.readahead_file, "64").apply(journal)
        assert kib_by_one_fault(path) > 64


def test_where_a_part_lies_is_not_told(path: Path) -> None:
    with pytest.raises(HostError, match="is spread over 2 devices"):
        block_device_of(path)


def test_a_loop_device_that_the_page_cache_keeps_too_is_refused(path: Path, loops: list[str]) -> None:
    found = models_disk_check(disk_of(path), readahead_is_set=True)
    assert found.verdict == "warn"
    assert "is a file on another disk" in found.found
    tool("losetup", "--direct-io=off", loops[0])
    refused = models_disk_check(disk_of(path), readahead_is_set=False)
    assert refused.verdict == "fail"
    assert refused.fix is not None
    assert f"losetup --direct-io=on {loops[0]}" in refused.fix
    tool("losetup", "--direct-io=on", loops[0])
    assert models_disk_check(disk_of(path), readahead_is_set=False).verdict == "warn"
