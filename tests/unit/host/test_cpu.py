"""Cores among the processors that a process may use."""

import os
from pathlib import Path

import pytest

from pagelab.host.cpu import distinct_cores, physical_cores


def processors(root: Path, siblings: dict[int, str]) -> Path:
    for number, text in siblings.items():
        topology = root / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("allowed", "cores"), [({0, 1}, 1), ({0, 2}, 2), ({1, 2, 3}, 2), ({0, 1, 2, 3}, 2), ({3}, 1), (set(), 0)]
)
def test_siblings_are_one_core(tmp_path: Path, allowed: set[int], cores: int) -> None:
    cpus = processors(tmp_path, {0: "0-1", 1: "0-1", 2: "2,3", 3: "2,3"})
    assert distinct_cores(allowed, cpus) == cores


def test_a_processor_of_which_nothing_is_told_is_a_core(tmp_path: Path) -> None:
    assert distinct_cores({0, 1, 2}, processors(tmp_path, {0: "0-1", 1: "0-1"})) == 2


def test_one_processor_is_one_core_here() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert physical_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
