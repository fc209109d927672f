"""Lines that hosts send are counted and parted as the programs there do it: at a line feed and at nothing else."""

import json

from collection import collecting, launcher, swapfile

STATUS = json.dumps({"state": "running"})


def test_a_follower_counts_the_lines_that_tail_skips() -> None:
    said = ["a \u2028b", "vertical\vtab \f page", "file\x1cseparator \x85 next", "", "progress\r50 %"]
    text = "".join(f"{line}\n" for line in said)
    assert launcher.parse(f"{text}\n{STATUS}\n") == (said, json.loads(STATUS))
    assert launcher.parse(f"{text}cut\u2028off\n{STATUS}\n")[0] == said
    assert launcher.parse(f"one\r\ntwo\r\n\r\n{STATUS}\r\n")[0] == ["one", "two"]  # through a terminal


def test_a_name_in_a_list_of_files_may_hold_any_white_space() -> None:
    names = ["trials/001/trial.json", "no\u00a0break", "line\u2028separator", "vertical\vtab"]
    text = "".join(f"{number:064x}  {name}\n" for number, name in enumerate(names))
    assert list(collecting.read_manifest(text)) == names
    assert collecting.read_manifest("") == {}


def test_a_swap_file_is_found_beside_ones_with_odd_names() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/no\u00a0break\u2028file 1 2 3        file\t\t8\t\t0\t\t-3\n/lab/swapfile    file\t\t65532\t\t4\t\t-2\n"
        "/dev/sda2    partition\t8\t\t0\t\t-4\n"
    )
    assert swapfile.areas_of(text) == {"/lab/swapfile": swapfile.Area(65532, 4, -2)}
    spaced = text.replace("file 1 2 3", "file")
    assert set(swapfile.areas_of(spaced)) == {"/no\u00a0break\u2028file", "/lab/swapfile"}


def test_an_entry_of_another_file_is_left_alone() -> None:
    other = "/lab/swapfile\u00a0old none swap sw 0 0"
    assert swapfile.lines_of(f"{other}\n", "/lab/swapfile") == []
    assert swapfile.without(f"{other}\n/lab/swapfile none swap sw 0 0\n", "/lab/swapfile") == f"{other}\n"
