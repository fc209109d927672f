"""Where files lie, on file systems made for the test: what the disk has there is what is in the file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import needs_root
from pagelab.errors import HostError
from pagelab.host.blockstack import stack_of
from pagelab.host.extents import file_extents, fragments
from pagelab.host.facts import file_system_facts, manifest, model_file_facts
from pagelab.host.storage import disk_of
from pagelab.units import KIB, MIB

TOOLS = ("losetup", "addpart", "mkfs.ext4", "mkfs.btrfs", "filefrag")
MISSING = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
PARTITION_START = 1 * MIB

pytestmark = [
    needs_root,
    pytest.mark.skipif(
        bool(MISSING), reason=f"missing: {', '.join(MISSING)} (packages util-linux, e2fsprogs and btrfs-progs)"
    ),
]


def tool(*command: str | Path) -> str:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@contextmanager
def mounted(image: Path, kind: str, *, partitioned: bool = False) -> Iterator[Path]:
    """A file system of a kind in an image, perhaps in a partition of it; yields where it is mounted."""
    point = image.with_suffix(".mount")
    point.mkdir()
    device = tool("losetup", "--find", "--show", *(["--partscan"] if partitioned else []), image).strip()
    node = f"{device}p1" if partitioned else device
    try:
        if partitioned:  # told to the kernel, which need not know any partition tables
            sectors = (image.stat().st_size - PARTITION_START) // 512
            tool("addpart", device, "1", str(PARTITION_START // 512), str(sectors))
        tool(f"mkfs.{kind}", "-q", node)
        tool("mount", node, point)
        try:
            yield point
        finally:
            tool("umount", point)
    finally:
        tool("losetup", "--detach", device)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 160 * MIB)
    return path


def write_in_turns(paths: list[Path], rounds: int) -> None:
    """Files that grow by turns, each piece on disk before the next, so that they lie between one another."""
    for _ in range(rounds):
        for path in paths:
            with path.open("ab") as file:
                file.write(os.urandom(64 * KIB))
                file.flush()
                os.fsync(file.fileno())


@pytest.mark.parametrize("partitioned", [False, True])
def test_the_disk_has_there_what_is_in_the_file(image: Path, partitioned: bool) -> None:
    with mounted(image, "ext4", partitioned=partitioned) as point:
        paths = [point / "a", point / "b"]
        write_in_turns(paths, 20)
        start = PARTITION_START if partitioned else 0
        tool("sync", "--file-system", paths[0])
        for path in paths:
            content, extents = path.read_bytes(), file_extents(path)
            assert len(fragments(extents)) > 1
            assert sum(extent.bytes for extent in extents) == len(content) == 20 * 64 * KIB
            with image.open("rb") as disk:
                for extent in extents:
                    there = os.pread(disk.fileno(), extent.bytes, start + extent.device_offset)
                    assert there == content[extent.file_offset : extent.file_offset + extent.bytes]


def test_the_count_is_that_of_filefrag(image: Path) -> None:
    with mounted(image, "ext4") as point:
        paths = [point / "a", point / "b"]
        write_in_turns(paths, 12)
        for path in paths:
            lines = tool("filefrag", "-v", path).splitlines()
            assert len(file_extents(path)) == sum(line.split(":")[0].strip().isdecimal() for line in lines)


def test_more_extents_than_are_asked_for_at_once(image: Path) -> None:
    many = 1500
    with mounted(image, "ext4") as point:
        path = point / "sparse"
        with path.open("wb") as file:
            for number in range(many):
                os.pwrite(file.fileno(), b"x" * 4096, number * 8192)
        extents = file_extents(path)
        assert [extent.file_offset for extent in extents] == [number * 8192 for number in range(many)]
        facts = model_file_facts(path)
        assert facts["extents"]["mapped_bytes"] == many * 4096
        assert facts["file_bytes"] == (2 * many - 1) * 4096


def test_a_file_without_data_has_no_extents(image: Path) -> None:
    with mounted(image, "ext4") as point:
        (point / "empty").touch()
        assert file_extents(point / "empty") == ()
        assert model_file_facts(point / "empty")["extents"] == {"extents": 0, "fragments": 0}


def test_btrfs_is_refused_and_absent(image: Path) -> None:
    with mounted(image, "btrfs") as point:
        path = point / "a"
        path.write_bytes(os.urandom(MIB))
        os.sync()
        with pytest.raises(HostError, match="is on btrfs, which has addresses of its own"):
            file_extents(path)
        facts = model_file_facts(path)
        assert "extents" not in facts
        assert (facts["file_bytes"], facts["file_system"]) == (MIB, "btrfs")


def test_memory_is_refused() -> None:
    with pytest.raises(HostError, match="cannot be read"):
        file_extents(Path("/proc/version"))


def test_the_stack_goes_down_to_the_disk(image: Path) -> None:
    with mounted(image, "ext4", partitioned=True) as point:
        stack = stack_of(point)
        partition, loop, *below = stack
        assert (partition["kind"], partition["start_bytes"]) == ("partition", PARTITION_START)
        assert partition["size_bytes"] == 159 * MIB
        assert (loop["kind"], loop["backing_file"]) == ("loop", str(image))
        assert below[-1]["kind"] == "disk"
        assert below[-1]["name"] == stack_of(image)[-1]["name"]
        assert disk_of(point).name == loop["name"] == partition["on"][0]
        found = manifest(point)
        assert [layer["name"] for layer in found["models_storage"]] == [layer["name"] for layer in stack]
        assert found["models_disk"]["name"] == loop["name"]


def test_options_of_the_mount_and_of_the_file_system_are_told_apart(image: Path) -> None:
    with mounted(image, "ext4") as point:
        tool("mount", "--options", "remount,noatime,ro", point)
        facts = file_system_facts(point)
        assert (facts["file_system"], facts["block_bytes"]) == ("ext4", os.statvfs(point).f_bsize)
        assert {"ro", "noatime"} <= set(facts["mount_options"].split(","))
        assert "noatime" not in facts["options"].split(",")
        assert facts["size_bytes"] > facts["free_bytes"] > 0


LOOK_AT_MOUNT = """
import os, sys
from pathlib import Path
from pagelab.host.procfs import mounts
from pagelab.host.storage import mount_of
place = Path(sys.argv[1])
by_name = [mount for mount in mounts() if mount.mount_point == str(place)]
assert by_name == [mount_of(place)], by_name
print(by_name[0].file_system, end="")
"""


@pytest.mark.parametrize(
    "name",
    [
        "no\u00a0break",
        "carriage\rreturn",
        "\u2028\v\f\x85\x1c",
        "a b\tc\nd\\e#",
        r"written \040",
        os.fsdecode(b"caf\xe9"),
    ],
)
def test_a_mount_point_is_found_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    mount_and_look = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"'  # in a mount table of its own
    command = ["unshare", "--mount", "sh", "-c", mount_and_look, "sh", tmp_path / name, sys.executable, LOOK_AT_MOUNT]
    assert tool(*command) == "tmpfs"
