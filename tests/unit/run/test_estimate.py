"""What a plan takes: the assumptions, in numbers."""

import os
from pathlib import Path

import pytest
from example_raw import CONFIG
from example_run import factors, run_record

from pagelab.config.load import parse_config
from pagelab.config.schema import Config
from pagelab.run.estimate import estimate, known_read_rate, trial_seconds
from pagelab.run.plan import make_plan
from pagelab.store.run_store import RunStore

SIZES = {"gemma-3-270m": 10**9}


def config(more: str = "") -> Config:
    return parse_config(CONFIG % ("0" * 64) + more, "test")


def test_a_trial_reads_the_model_and_for_each_token_what_is_missing_again() -> None:
    """8 tokens of 1 GB at 1 GB/s, computed at 8 GB/s: 2 s between trials, 1 s to load, 1 s to compute."""
    seconds = [trial_seconds(config(), factors(share), 10**9) for share in (1.0, 0.5, 0.0)]
    assert seconds == pytest.approx([4, 8, 12])
    assert trial_seconds(config(), factors(0.0), 10**9, read_rate=2e9) == pytest.approx(7.5)


def test_calibrations_are_part_of_it_one_for_all_that_need_the_same() -> None:
    """Twice loaded, eight tokens without RAM, and all tokens computed in RAM: 11 s each."""
    one = estimate(make_plan(config("factors: {resident: [1.0]}\nrepetitions: 1\n")), SIZES)
    assert one.seconds == pytest.approx(4 + 11)
    two = estimate(make_plan(config("factors: {resident: [1.0], threads: [1, 2], swappiness: [1, 2]}\n")), SIZES)
    assert two.seconds == pytest.approx(20 * 4 + 2 * 11)


def test_a_model_of_unknown_size_counts_as_nothing() -> None:
    assert estimate(make_plan(config()), {}).seconds == 0
    assert estimate(make_plan(config()), {}).result_bytes > 0


@pytest.mark.parametrize(
    ("more", "swapped"),
    [
        ("", 0),
        ("factors: {weights: [anonymous]}\n", 5 * (0.5 + 1.0)),
        ("factors: {repack: [true], resident: [0.25]}\n", 5 * 0.75),
        ("factors: {repack: [default], resident: [0.25]}\n", 0),
    ],
)
def test_what_is_missing_of_weights_in_anonymous_memory_is_written_to_swap(more: str, swapped: float) -> None:
    assert estimate(make_plan(config(more)), SIZES).swap_bytes == pytest.approx(swapped * 10**9)


def stored(results: Path, experiment: str, host: str, age: int, manifest: dict[str, object]) -> None:
    record = run_record(experiment=experiment, host=host, manifest=manifest)
    store = RunStore.create(results, experiment, host, "run")
    store.write_run(record)
    os.utime(store.directory / "run.json", (10**9 - age, 10**9 - age))


def test_the_disks_rate_is_that_of_the_newest_run_of_this_host_that_knows_it(tmp_path: Path) -> None:
    assert known_read_rate(tmp_path / "none", "lab1") is None
    stored(tmp_path, "a", "lab1", 3, {"disk_read_bytes_per_second": {"m": 1e9}})
    stored(tmp_path, "b", "lab1", 2, {"disk_read_bytes_per_second": {"m": 2e9, "n": 0.0, "o": 3e9, "p": 4e9}})
    stored(tmp_path, "c", "lab1", 1, {"disk_read_bytes_per_second": "fast"})
    stored(tmp_path, "d", "lab2", 0, {"disk_read_bytes_per_second": {"m": 9e9}})
    assert known_read_rate(tmp_path, "lab1") == 3e9
    (tmp_path / "b/lab1/run/run.json").write_text("{")
    assert known_read_rate(tmp_path, "lab1") == 1e9
    assert known_read_rate(tmp_path, "lab*") is None
