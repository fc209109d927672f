"""The swap role by its effects, on real file systems: what the kernel lists, what is on the disk, what is refused.

The hosts of a playbook here are all this machine, each with a disk, a lab directory and a table of its own, so that one
call tries several things at once.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lab import DISK_DIRECTORY, needs_root, play_role
from pagelab.host.procfs import read_text

PLAYBOOK = Path(__file__).parent / "playbooks" / "swapfile.yml"
FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
# Sparse files, hardly any of which is ever written; xfs takes no disk smaller than 300 MiB.
DISK_MIB = 384
KERNELS_CHOICE = range(-32768, 0)

MISSING = [
    tool
    for tool in ("losetup", "fallocate", "mkswap", "swapon", *(f"mkfs.{name}" for name in FILE_SYSTEMS))
    if not shutil.which(tool)
]
if not Path("/dev/loop-control").exists():
    MISSING.append("/dev/loop-control")

pytestmark = [
    needs_root,
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)} (packages xfsprogs and btrfs-progs)"),
]


def tool(*words: str | Path | int) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@dataclass(frozen=True)
class Area:
    """A line of /proc/swaps."""

    kib: int
    priority: int


def active(path: Path) -> Area | None:
    """How the kernel lists a swap file, if it is on."""
    for line in (read_text("/proc/swaps") or "").splitlines()[1:]:
        name, _, kib, _, priority = line.split()
        if name == str(path):
            return Area(int(kib), int(priority))
    return None


@dataclass(frozen=True)
class Host:
    """A "host": a disk of this machine, with a lab directory and a table of file systems of its own."""

    name: str
    disk: Path
    directory: Path

    @property
    def lab(self) -> Path:
        return self.directory / "lab"

    @property
    def swap_file(self) -> Path:
        return self.lab / "swapfile"

    @property
    def fstab(self) -> Path:
        return self.disk / "fstab"

    @property
    def record(self) -> Path:
        return self.lab / "installed" / "swapfile.fact"

    def make_lab(self) -> None:
        self.record.parent.mkdir(parents=True)

    def make_file(self, mib: int, path: Path | None = None) -> Path:
        """Make a file by hand that would do for swap."""
        path = path or self.swap_file
        path.touch(mode=0o600)
        if self.disk.name == "btrfs":
            tool("chattr", "+C", path)
        tool("fallocate", "--length", f"{mib}MiB", path)
        return path

    def make_swap(self, mib: int, path: Path | None = None) -> None:
        """Make a swap file by hand and switch it on."""
        path = self.make_file(mib, path)
        tool("mkswap", path)
        tool("swapon", path)

    def listing(self) -> list[tuple[str, int, int, int]]:
        """Everything on the disk: what it is, how large, and when it changed."""
        paths = sorted(self.disk.rglob("*"))
        return [(str(path), (stat := path.lstat()).st_mode, stat.st_size, stat.st_ctime_ns) for path in paths]


@dataclass(frozen=True)
class Played:
    """What a playbook printed, and how it ended for each host."""

    output: str

    def _count(self, host: Host, what: str) -> int:
        recap = re.search(rf"^{host.name} .*\b{what}=(\d+)", self.output, re.MULTILINE)
        assert recap, self.output
        return int(recap[1])

    def changed(self, host: Host) -> int:
        """The number of its tasks that changed something; none may have failed."""
        assert not self._count(host, "failed"), self.output
        assert self._count(host, "ok") > 3, self.output
        return self._count(host, "changed")

    def refusal(self, host: Host) -> str:
        """Why it failed, on one line; it must not have changed anything before."""
        assert self._count(host, "failed") == 1, self.output
        assert self._count(host, "changed") == 0, self.output
        message = re.search(
            rf"^fatal: \[{host.name}\].*\n +changed: false\n +msg: (.*\n(?: {{6,}}.*\n)*)", self.output, re.M
        )
        assert message, self.output
        return " ".join(message[1].split())


def play(hosts: dict[Host, dict[str, object]], *options: str, **variables: object) -> Played:
    """Run the role on hosts with variables of their own, and with those that all have."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "swapfile_reserve_mib": 16,
        **variables,
    }
    entries = {
        host.name: {"pagelab_dir": str(host.lab), "swapfile_fstab": str(host.fstab), **common, **own}
        for host, own in hosts.items()
    }
    inventory = next(iter(hosts)).disk.parent / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": entries}}))
    answer = play_role(PLAYBOOK, inventory, *options)
    return Played(answer.stdout + answer.stderr)


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[str, Path]]:
    """A mounted disk for each kind of file system."""
    base = DISK_DIRECTORY / f"pagelab-test-swapfile-{os.getpid()}"
    found = {}
    try:
        for kind in FILE_SYSTEMS:
            image, disk = base / f"{kind}.img", base / kind
            disk.mkdir(parents=True)
            with image.open("wb") as file:
                file.truncate(DISK_MIB * 2**20)
            tool(f"mkfs.{kind}", "-q", image)
            tool("mount", "-o", "loop", image, disk)
            found[kind] = disk
        yield found
    finally:
        for disk in found.values():
            tool("umount", disk)
        shutil.rmtree(base)


@pytest.fixture
def hosts(disks: dict[str, Path]) -> Iterator[dict[str, Host]]:
    """A bare host on each disk; the disks are emptied afterwards."""
    found = {kind: Host(kind, disk, disk) for kind, disk in disks.items()}
    for host in found.values():
        host.fstab.write_text("/dev/other none swap sw 0 0\n")
    try:
        yield found
    finally:
        for line in (read_text("/proc/swaps") or "").splitlines():
            if any(line.startswith(f"{disk}/") for disk in disks.values()):
                tool("swapoff", line.split()[0])
        for disk in disks.values():
            for entry in disk.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


def check_is_on(host: Host, path: Path, mib: int, priorities: range | tuple[int, ...] = KERNELS_CHOICE) -> None:
    """The kernel uses it, it can be used by root alone, and the record and the table say so."""
    area = active(path)
    assert area is not None
    # Without its first page; where a file system's blocks are of 1 KiB the kernel leaves some more out.
    assert 0.99 * mib * 1024 < area.kib <= mib * 1024 - 4
    assert area.priority in priorities
    stat = path.stat()
    assert (stat.st_size, stat.st_mode & 0o777, stat.st_uid) == (mib * 2**20, 0o600, 0)
    assert json.loads(host.record.read_text()) == {"path": str(path)}
    priority = f",pri={area.priority}" if area.priority >= 0 else ""
    assert host.fstab.read_text() == f"/dev/other none swap sw 0 0\n{path} none swap sw{priority} 0 0\n"


def test_check_mode_on_a_bare_host_says_what_would_change(hosts: dict[str, Host]) -> None:
    host = hosts["btrfs"]
    before = host.listing()
    played = play({host: {}}, "--check", "--diff", swapfile_size_mib="32")  # text, as from the command line
    assert played.changed(host) > 0
    assert f"+path: {host.swap_file}\n+size: 32 MiB\n+priority: the kernel's choice\n" in played.output
    assert re.search(r"^\+free on its disk: \d+ MiB, btrfs$", played.output, re.MULTILINE)
    assert f"+{host.swap_file} none swap sw 0 0" in played.output
    assert active(host.swap_file) is None
    assert host.listing() == before


def test_a_swap_file_from_the_first_day_to_the_last(hosts: dict[str, Host]) -> None:
    everywhere = hosts.values()
    for host in everywhere:
        host.make_lab()
        host.make_swap(32)

    # Another size, and a priority.
    play({host: {} for host in everywhere}, swapfile_size_mib=200, swapfile_priority=7)
    for host in everywhere:
        check_is_on(host, host.swap_file, 200, (7,))

    # Another priority alone: the file stays, with its signature. Elsewhere another path, through a link: there is no
    # room for both files, so what the old one holds must count as free.
    stays, *moves = everywhere
    kept = (stays.swap_file.stat().st_ino, stays.swap_file.read_bytes()[:4096])
    wanted: dict[Host, dict[str, object]] = {stays: {"swapfile_priority": 9}}
    where = {stays: stays.swap_file}
    for host in moves:
        (host.disk / "elsewhere").mkdir()
        (host.disk / "link").symlink_to("elsewhere")
        wanted[host] = {"swapfile_path": str(host.disk / "link" / "swap")}
        where[host] = host.disk / "elsewhere" / "swap"
    play(wanted, swapfile_size_mib=200)
    check_is_on(stays, stays.swap_file, 200, (9,))
    assert (stays.swap_file.stat().st_ino, stays.swap_file.read_bytes()[:4096]) == kept
    for host in moves:
        check_is_on(host, where[host], 200)
        assert not host.swap_file.exists()
        assert active(host.swap_file) is None

    # Again: nothing changes.
    played = play(wanted, swapfile_size_mib=200)
    assert [played.changed(host) for host in everywhere] == [0, 0, 0]

    # Removal goes by the record, not by what the inventory says now; in check mode it only says so.
    before = moves[0].listing()
    played = play({moves[0]: {}}, "--check", entry="remove")
    assert played.changed(moves[0]) > 0
    assert active(where[moves[0]]) is not None
    assert moves[0].listing() == before
    play({host: {} for host in everywhere}, entry="remove")
    for host in everywhere:
        assert active(where[host]) is None
        assert [entry for entry in host.disk.rglob("*") if entry.is_file()] == [host.fstab]
        assert host.fstab.read_text() == "/dev/other none swap sw 0 0\n"
    assert play({stays: {}}, swapfile_size_mib=0).changed(stays) == 0


def test_what_an_interrupted_or_older_run_left_is_taken_up(hosts: dict[str, Host]) -> None:
    """Half a file, a file with holes, a file that is whole but off: on ext4 also one that an older version made."""
    half, holes, off = (hosts[kind] for kind in FILE_SYSTEMS)
    older = Host("older", half.disk, half.disk / "older")
    for host in (half, holes, off, older):
        host.make_lab()
    half.swap_file.write_bytes(bytes(10 * 2**20))
    with holes.swap_file.open("wb") as file:
        file.truncate(32 * 2**20)
    off.make_file(32)
    older.make_swap(32)
    kept = {host: host.swap_file.stat().st_ino for host in (off, older)}

    tables: dict[Host, dict[str, object]] = {older: {"swapfile_fstab": str(older.directory / "fstab")}}
    played = play({half: {}, holes: {}, off: {}, **tables}, swapfile_size_mib=32)
    for host in (half, holes, off):
        assert played.changed(host) > 0
        check_is_on(host, host.swap_file, 32)
    assert played.changed(older) == 1  # the record
    assert json.loads(older.record.read_text()) == {"path": str(older.swap_file)}
    assert {host: host.swap_file.stat().st_ino for host in kept} == kept


def test_what_it_refuses_stays_as_it_was(hosts: dict[str, Host], tmp_path: Path) -> None:
    """The message says what is wrong and what to set; nothing on the disk changes."""
    ext4, xfs, btrfs = (hosts[kind].disk for kind in FILE_SYSTEMS)
    foreign_on = Host("foreign-on", ext4, ext4 / "1")
    foreign_off = Host("foreign-off", ext4, ext4 / "2")
    foreign_kept = Host("foreign-kept", ext4, ext4 / "3")
    reserve = Host("reserve", xfs, xfs / "4")
    full = Host("full", xfs, xfs / "5")
    nowhere = Host("nowhere", btrfs, btrfs / "6")
    memory = Host("memory", btrfs, btrfs / "7")
    unsupported = Host("unsupported", btrfs, btrfs / "8")
    every = (foreign_on, foreign_off, foreign_kept, reserve, full, nowhere, memory, unsupported)
    for host in every:
        host.make_lab()
    foreign = ext4 / "swap-of-others"
    foreign_on.make_swap(16, foreign)
    document = ext4 / "document"
    document.write_text("not swap")
    reserve.make_swap(16)
    memory.make_swap(16)
    memory.record.write_text(json.dumps({"path": str(memory.swap_file)}))
    # What the kernel answers when memory is short; here it never is.
    swapoff = tmp_path / "swapoff"
    swapoff.write_text("#!/bin/sh\necho 'swapoff: x: swapoff failed: Cannot allocate memory' >&2\nexit 4\n")
    swapoff.chmod(0o755)
    before = {kind: host.listing() for kind, host in hosts.items()}

    played = play(
        {
            foreign_on: {"swapfile_path": str(foreign)},
            foreign_off: {"swapfile_path": str(document)},
            foreign_kept: {"swapfile_path": str(foreign), "swapfile_size_mib": 0},
            reserve: {"swapfile_reserve_mib": DISK_MIB - 32},
            full: {"swapfile_size_mib": 51200},
            nowhere: {"swapfile_path": str(btrfs / "missing" / "swap")},
            memory: {"tools": str(tmp_path)},
            unsupported: {"swapfile_path": "/proc/swap"},
        },
        swapfile_size_mib=32,
    )

    for host, words in {
        foreign_on: ("that the lab did not make, in use as swap", "swapfile_path"),
        foreign_off: ("that the lab did not make", "swapfile_path"),
        reserve: (
            "no room for a swap file of 32 MiB",
            f"and {DISK_MIB - 32} of them must stay",
            "swapfile_reserve_mib",
        ),
        full: ("no room for a swap file of 51200 MiB", "swapfile_size_mib"),
        memory: ("do not fit into the memory", "run this again"),
        nowhere: (f"no directory {btrfs}/missing", "swapfile_path"),
        unsupported: ("the file system there is proc", "ext4, xfs or btrfs"),
    }.items():
        message = played.refusal(host)
        assert all(word in message for word in words), message
    assert played.changed(foreign_kept) == 0
    assert {kind: host.listing() for kind, host in hosts.items()} == before
    assert all(active(path) for path in (foreign, reserve.swap_file, memory.swap_file))
