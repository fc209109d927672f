"""Files of /proc, as kernels from 4.18 to 6.18 write them, with the names that people give to files."""

import os
from pathlib import Path

import pytest

from pagelab.errors import HostError, printable
from pagelab.host.procfs import (
    SwapArea,
    faults_of,
    fields,
    integer,
    integers,
    lines,
    pairs,
    parse_mounts,
    parse_swaps,
    read_int,
    read_names,
    read_pairs,
    read_text,
    words,
)

SWAPS_5 = "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n"
SWAPS_6 = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("/mnt/no\u00a0break", "/mnt/no\u00a0break"),
        ("/mnt/carriage\rreturn", "/mnt/carriage\rreturn"),
        ("/mnt/line\u2028separator", "/mnt/line\u2028separator"),
        ("/mnt/vertical\vtab\fpage\x1c\x85", "/mnt/vertical\vtab\fpage\x1c\x85"),
        (r"/mnt/a\040b", "/mnt/a b"),
        (r"/mnt/back\134slash\134040", "/mnt/back\\slash\\040"),
        (r"/mnt/two\012lines\011tab", "/mnt/two\nlines\ttab"),
        (r"/mnt/hash\043", "/mnt/hash#"),
    ],
)
def test_a_mount_point_may_have_any_name(written: str, name: str) -> None:
    text = f"{ROOT}\n30 22 8:17 / {written} rw,noatime - ext4 /dev/sdb1 rw\n{ROOT}"
    first, found, last = parse_mounts(text)
    assert first == last
    assert (found.mount_point, found.file_system, found.source) == (name, "ext4", "/dev/sdb1")
    assert (found.mount_options, found.file_system_options, found.device) == ("rw,noatime", "rw", "8:17")


def test_the_words_of_a_mount_that_kernels_leave_out_or_add() -> None:
    (bare,) = parse_mounts("22 1 8:1 / / rw - ext4 /dev/sda1 rw")
    (shared,) = parse_mounts("22 1 8:1 / / rw shared:1 master:2 propagate_from:3 unbindable - ext4 /dev/sda1 rw")
    assert bare == shared
    (sourceless,) = parse_mounts("25 22 0:23 / /tmp rw - tmpfs  rw,size=1k")
    assert (sourceless.source, sourceless.file_system_options) == ("", "rw,size=1k")
    (dash,) = parse_mounts("25 22 0:23 / /a-b rw - fuse.x - rw")
    assert (dash.mount_point, dash.source) == ("/a-b", "-")
    assert dash.mount_id == 25
    assert parse_mounts(None) == []
    assert parse_mounts("a line of something else") == []


def test_a_name_that_is_no_text_is_found_under_it(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(raw)).mkdir()
    table = tmp_path / "mountinfo"
    table.write_bytes(b"22 1 8:1 / " + raw + b" rw - ext4 /dev/sda1 rw\n")
    (found,) = parse_mounts(read_names(table))
    assert Path(found.mount_point).is_dir()
    assert printable(found.mount_point).endswith("/caf\\udce9")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("/swap\u00a0file", "/swap\u00a0file"),
        ("/swap\rfile\u2028", "/swap\rfile\u2028"),
        (r"/my\040swap\134file\011\012", "/my swap\\file\t\n"),
        ("/instead-of-zram/swap", "/instead-of-zram/swap"),
    ],
)
@pytest.mark.parametrize("header", [SWAPS_5, SWAPS_6])
def test_a_swap_file_may_have_any_name(header: str, written: str, name: str) -> None:
    blanks = " " * max(1, 40 - len(written))
    text = f"{header}{written}{blanks}file\t\t2097148\t\t756\t\t-2\n/dev/dm-1        partition\t8388604\t0\t-3"
    assert parse_swaps(text) == [
        SwapArea(name, "file", 2097148 * 1024, 756 * 1024, -2),
        SwapArea("/dev/dm-1", "partition", 8388604 * 1024, 0, -3),
    ]


def test_without_swap_there_is_no_area() -> None:
    assert parse_swaps(SWAPS_6.strip()) == []
    assert parse_swaps("") == parse_swaps(None) == []


@pytest.mark.parametrize("line", ["/swapfile file 1 2", "/swap file file 1 2 3", "/swapfile file one 2 3"])
def test_a_swap_area_that_cannot_be_read_is_no_area_of_size_0(line: str) -> None:
    with pytest.raises(HostError, match="a line of /proc/swaps has an unknown shape"):
        parse_swaps(f"{SWAPS_6}{line}")


def test_counters_that_are_none_are_absent() -> None:
    text = "pswpin 5\npgfault -3\nnr ²\nempty\nname\u2028other 7\nratio 1.5\ntwo 1 2\n--5 --5"
    assert pairs(text) == {"pswpin": 5, "pgfault": -3, "name\u2028other": 7, "two": 1}
    assert pairs("Mlocked:          12 kB\nName: a: 3", ":") == {"Mlocked": 12}
    assert integer("٣") is None
    assert integer("9" * 30) is None
    assert integers("1 2\t3\n") == [1, 2, 3]
    assert integers("1 x 3") == []


def test_only_the_kernel_s_own_blanks_part_words_and_lines() -> None:
    assert words("a\u00a0b\tc  d\ve\n") == ["a\u00a0b", "c", "d\ve"]
    assert lines("a\rb\u2028c\nd") == ["a\rb\u2028c", "d"]
    assert fields("Name:\t\u00a0x\r\nCapEff:\t00ff") == {"Name": "\u00a0x\r", "CapEff": "00ff"}


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b" one\r\ntwo\xff \n")
    assert read_text(file) == "one\r\ntwo\ufffd"
    assert read_text(tmp_path) is read_text(tmp_path / "missing") is None
    assert read_pairs(tmp_path / "missing") == {}
    file.write_text("max\n")
    assert read_int(file) is None
    file.write_text("12\n")
    assert read_int(file, 4096) == 12 * 4096


def test_faults_of_a_process_whose_name_is_anything() -> None:
    numbers = "S 1 2 3 4 5 6 70 8 90 10 11"
    assert faults_of(f"77 (llama) S 9 (\n) {numbers}") == (90, 70)
    assert faults_of("77 (llama) S 1") is faults_of(None) is None
