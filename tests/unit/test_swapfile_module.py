"""What the module swapfile decides; what it does is tested on real file systems."""

from pathlib import Path
from typing import Any

import pytest

from collection import swapfile

LAB = "/lab"
PATH = "/lab/swapfile"
MIB = 2**20
WHOLE = swapfile.File(is_regular=True, size_bytes=64 * MIB, reserved_bytes=64 * MIB)
HOLES = WHOLE._replace(reserved_bytes=4096)
ON = swapfile.Area(kib=64 * 1024 - 4, used_kib=0, priority=-2)
ENTRY = f"{PATH} none swap sw 0 0"


def wanted(**changes: Any) -> swapfile.Wanted:
    return swapfile.Wanted(PATH, 64, -1, 16, LAB)._replace(**changes)


def seen(**changes: Any) -> swapfile.Seen:
    """A host on which the swap file is as it is wanted."""
    return swapfile.Seen(
        areas={PATH: ON},
        files={PATH: WHOLE},
        recorded=PATH,
        table=f"{ENTRY}\n",
        uses_table=True,
        directory_is_there=True,
        file_system="ext4",
        free_bytes=100 * MIB,
        one_disk=True,
        copies_on_write=False,
    )._replace(**changes)


def steps(plan: swapfile.Plan) -> list[str]:
    return [name for name in plan._fields if getattr(plan, name)]


ANEW = ["makes", "formats", "switches_on"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"areas": {}, "files": {}, "recorded": "", "table": ""}, ["records", *ANEW, "table"]),
        ({"areas": {}, "files": {PATH: HOLES}}, ANEW),
        ({"files": {PATH: HOLES}}, []),  # what is on has passed the kernel's check
        ({"areas": {}}, ["formats", "switches_on"]),
        ({"areas": {}, "copies_on_write": True}, ANEW),
        ({"files": {PATH: WHOLE._replace(size_bytes=32 * MIB)}}, ["switches_off", *ANEW]),
        ({"areas": {PATH: ON._replace(priority=7)}}, ["switches_off", "switches_on"]),
        ({"recorded": ""}, ["records"]),
        ({"table": f"{PATH} none swap sw,pri=7 0 0\n"}, ["table"]),
        ({"table": None, "uses_table": False}, []),
    ],
)
def test_only_what_is_missing_is_done(changes: dict[str, Any], expected: list[str]) -> None:
    assert steps(swapfile.decide(wanted(), seen(**changes))) == expected


def test_the_kernel_may_choose_any_priority_below_the_others() -> None:
    for priority, is_low, is_seven in ((-3, True, False), (0, False, False), (7, False, True)):
        found = seen(areas={PATH: ON._replace(priority=priority)})
        assert swapfile.has_priority(wanted(), found) == is_low
        assert swapfile.has_priority(wanted(priority=7), found) == is_seven


def test_a_file_that_moves_gives_its_place_back_only_on_its_own_disk() -> None:
    moved = wanted(path="/other/swap")
    for one_disk, free in ((True, 164), (False, 100)):
        found = seen(one_disk=one_disk)
        assert swapfile.free_mib(moved, found) == free
        assert steps(swapfile.decide(moved, found)) == ["removes_former", "records", *ANEW, "table"]
    assert swapfile.decide(moved, seen()).table == "/other/swap none swap sw 0 0\n"


def test_a_former_file_that_is_gone_is_nothing_to_do() -> None:
    there = seen(areas={"/other/swap": ON}, files={"/other/swap": WHOLE}, recorded="/other/swap", table="")
    assert steps(swapfile.decide(wanted(path="/other/swap"), there)) == ["table"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": {"/other/swap": WHOLE}}, "a file at /other/swap that the lab did not make;"),
        ({"files": {"/other/swap": WHOLE}, "areas": {"/other/swap": ON}}, "did not make, in use as swap;"),
        ({"files": {"/other/swap": WHOLE._replace(is_regular=False)}}, "a directory or device at"),
        ({"directory_is_there": False}, "no directory /other for"),
        ({"file_system": "tmpfs"}, "the file system there is tmpfs"),
        ({"files": {}, "free_bytes": 79 * MIB}, "has 79 MiB free"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in (swapfile.refusal(wanted(path="/other/swap"), seen(**changes), check=True) or "")


def test_what_is_just_enough_is_not_refused() -> None:
    assert swapfile.refusal(wanted(), seen(files={}, free_bytes=80 * MIB), check=False) is None
    assert swapfile.refusal(wanted(), seen(free_bytes=0), check=False) is None, "one that stays takes nothing more"


def test_the_labs_directory_need_not_be_there_in_check_mode() -> None:
    bare = seen(files={}, areas={}, directory_is_there=False)
    assert swapfile.refusal(wanted(), bare, check=True) is None
    assert "no directory /lab" in (swapfile.refusal(wanted(), bare, check=False) or "")


def test_what_somebody_else_made_is_not_removed_either() -> None:
    assert swapfile.unwanted(wanted(), seen()) == [PATH]
    assert swapfile.unwanted(wanted(path="/other/swap"), seen()) == [PATH]
    assert swapfile.unwanted(wanted(path="/other/swap"), seen(recorded="/other/swap")) == ["/other/swap"]
    assert swapfile.unwanted(wanted(path="/lab/other"), seen()) == [PATH, "/lab/other"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"{ENTRY}\n"),
        ("/dev/a / ext4 defaults 0 1", f"/dev/a / ext4 defaults 0 1\n{ENTRY}\n"),
        (f"a\n{PATH}\tnone swap sw,pri=3 0 0\n{PATH}2 b\n{ENTRY}\n", f"a\n{ENTRY}\n{PATH}2 b\n"),
        (f"a\n{ENTRY}\n\n\nb", f"a\n{ENTRY}\n\n\nb"),
    ],
)
def test_the_table_has_one_entry_of_a_path(before: str | None, after: str) -> None:
    assert swapfile.with_line(before, PATH, ENTRY) == after


def test_an_entry_goes_and_the_rest_stays() -> None:
    assert swapfile.without(f"a\n\n{ENTRY}\n# b\n", PATH) == "a\n\n# b\n"
    assert swapfile.without("a", PATH) == "a"
    assert not swapfile.has_entries("\n  # /dev/a\n")
    assert swapfile.has_entries("# a\n/dev/a / ext4\n")


def test_the_kernels_list() -> None:
    text = f"Filename Type Size Used Priority\n/dev/sda2 partition 9 0 -2\n{PATH}   file\t\t65532\t\t128\t\t-3\n"
    assert swapfile.areas_of(text) == {PATH: swapfile.Area(65532, 128, -3)}


@pytest.mark.parametrize(
    ("path", "size", "priority"),
    [
        ("lab/swap", 1, 0),
        ("/a b", 1, 0),
        ("/a/../b", 1, 0),
        ("/a/", 1, 0),
        ("/a", -1, 0),
        ("/a", 1, -2),
        ("/a", 1, 32768),
    ],
)
def test_what_cannot_be_is_said(path: str, size: int, priority: int) -> None:
    assert "swapfile_" in (swapfile.misdescribed(path, size, priority) or "")
    assert swapfile.misdescribed("/a/b", 0, -1) is None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record = tmp_path / "swapfile.fact"
    assert swapfile.recorded_path(str(record)) == ""
    record.write_text("{")
    with pytest.raises(ValueError, match=r"swapfile\.fact is damaged"):
        swapfile.recorded_path(str(record))
