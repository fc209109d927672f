"""Kernel files of any bytes: a value, an absence, or one error of ours; never another exception."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from example_devices import device
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.errors import PagelabError
from pagelab.host.block_devices import bottom, device_named, number_of
from pagelab.host.blockstack import devices_below
from pagelab.host.cgroup import Group
from pagelab.host.journal import Journal, selected
from pagelab.host.kernel import memory_nodes
from pagelab.host.other_processes import processes
from pagelab.host.procfs import (
    faults_of,
    fields,
    integers,
    parse_mounts,
    parse_swaps,
    read_names,
    read_pairs,
    read_text,
)
from pagelab.host.scheduling import run_delay, stall_seconds
from pagelab.host.settings import setting
from pagelab.host.storage import Disk, mount_above

INPUTS = 200  # a reader; about a second each
REAL = {
    "mountinfo": b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 22 0:25 / /a\\040b rw - btrfs /dev/dm-0 rw\n",
    "swaps": b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/my\\040swap    file\t\t2097148\t\t0\t\t-2\n",
    "diskstats": b" 8 0 sda 3 0 100 1 2 0 8 1 0 2 3\n 259 6 nvme2c0n1 3 0 100 1 2 0 8 1 0 2 3 0 0 0 0 0 0\n",
    "stat": b"  3  0  100  1  2  0  8  1  0  2  3 0 0 0 0 0 0\n",
    "io.stat": b"8:0 8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:0 \n",
    "memory.stat": b"anon 1\nfile 6500\nshmem 500\npgfault 4\nworkingset_refault 7\ntotal_cache 1\ntotal_shmem 1\n",
    "number": b"9223372036854771712\n",
    "pressure": b"some avg10=1.50 avg60=0.30 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0 avg300=0 total=78\n",
    "schedstat": b"1500000000 250000000 3\n",
    "process": b"77 (a ) b) S 1 2 3 4 5 6 70 8 90 10 11\n",
    "io": b"rchar: 1\nread_bytes: 4096\nCapEff:\t00ff\n",
    "choice": b"always defer [madvise] never\n",
    "journal": b'{"setting": "/proc/sys/vm/swappiness", "value": "60"}\n',
    "node": b"Node 0 MemTotal:       1000 kB\n",
    "dev": b"8:0\n",
}
ODD = b" \t\n\r\v\f\0\\-:=.[]()#,0123456789abcdef\x1c\x85\xa0\xff" + "\u00a0\u2028²٣".encode()


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """Any bytes, or a real file with some of its bytes cut out, doubled or replaced."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=300))
    content = REAL[name]
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        put = draw(st.sampled_from([b"", b"\n", b"9" * 25, content[start:end] * 2]) | st.binary(max_size=4))
        odd = bytes(draw(st.lists(st.sampled_from(list(ODD)), max_size=3)))
        content = content[:start] + put + odd + content[end:]
    return content


def group(file: Path) -> Group:
    """A group all of whose files have the same content."""
    names = ("memory.max", "memory.current", "memory.peak", "memory.events", "memory.stat", "io.stat", "cgroup.procs")
    for name in (*names, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"):
        (file.parent / name).write_bytes(file.read_bytes())
    return Group(file.parent)


def look_at_group(file: Path) -> None:
    found = group(file)
    found.counters()
    found.read_bytes("8:0", "8:16")
    assert all(pid > 0 for pid in found.processes())
    for look in (found.memory_bytes, found.limit_hits, found.peak_bytes, found.oom_kills):
        look()


def look_at_mounts(file: Path) -> None:
    table = parse_mounts(read_names(file))
    mount_above(Path("/a b/c"), table)
    for mount in table:
        assert isinstance(mount.options, str)
        device_named(mount.source, file.parent)


def look_at_swaps(file: Path) -> None:
    for area in parse_swaps(read_names(file)):
        assert "\0" not in area.path or b"\0" in file.read_bytes()


def look_at_disk(file: Path) -> None:
    content = file.read_bytes()
    found = device(file.parent, "sda")
    for name in (
        "stat",
        "dev",
        "size",
        "partition-not",
        "loop/backing_file",
        "dm/name",
        "queue/iostats",
        "queue/scheduler",
    ):
        (found / name).parent.mkdir(exist_ok=True)
        (found / name).write_bytes(content)
    disk = Disk("sda", found)
    assert bottom(found) == [found]
    number_of(found, file)
    number_of(file.parent / "nvme2c0n1", file)
    disk.read_and_written_bytes()
    disk.readahead_kib()
    disk.describe()
    devices_below(found)


def look_at_node(file: Path) -> None:
    (file.parent / "node0").mkdir()
    for name in ("meminfo", "distance", "cpulist"):
        (file.parent / "node0" / name).write_bytes(file.read_bytes())
    memory_nodes(file.parent)


def look_at_journal(file: Path) -> None:
    file.rename(file.parent / "journal.jsonl")
    Journal(file.parent).entries()


def look_at_stalls(file: Path) -> None:
    (file.parent / "pressure").mkdir()
    file.rename(file.parent / "pressure" / "memory")
    stall_seconds("memory", file.parent)


def look_at_threads(file: Path) -> None:
    thread = file.parent / "7" / "task" / "7"
    thread.mkdir(parents=True)
    for name in (thread / "schedstat", file.parent / "7" / "stat"):
        name.write_bytes(file.read_bytes())
    run_delay(7, file.parent)
    processes(file.parent)


def look_at_text(file: Path) -> None:
    read_pairs(file, ":")
    setting(file)
    selected(read_text(file))
    fields(read_text(file) or "")
    integers(read_text(file))
    faults_of(read_text(file))


LOOKS: list[tuple[str, Callable[[Path], object]]] = [
    ("mountinfo", look_at_mounts),
    ("swaps", look_at_swaps),
    ("diskstats", look_at_disk),
    ("stat", look_at_disk),
    ("dev", look_at_disk),
    ("io.stat", look_at_group),
    ("memory.stat", look_at_group),
    ("number", look_at_group),
    ("pressure", look_at_stalls),
    ("schedstat", look_at_threads),
    ("process", look_at_text),
    ("process", look_at_threads),
    ("io", look_at_text),
    ("choice", look_at_text),
    ("journal", look_at_journal),
    ("node", look_at_node),
]


@pytest.mark.parametrize(("name", "look"), LOOKS, ids=[f"{name}-{look.__name__}" for name, look in LOOKS])
def test_any_bytes_are_a_value_an_absence_or_one_error(name: str, look: Callable[[Path], object]) -> None:
    said: list[int] = []

    @settings(derandomize=True, max_examples=INPUTS, deadline=None)
    @given(damaged(name))
    def survives(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "file"
            file.write_bytes(content)
            try:
                look(file)
            except PagelabError as error:
                said.append(len(str(error)))

    survives()
    assert all(0 < length < 600 for length in said)
