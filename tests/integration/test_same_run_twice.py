"""One configuration run as if it were two: no difference is found where there is none, and a planted one is.

The same on seeded noise, to the letter of 19 in 20, is in tests/unit/test_a_against_a.py; here the noise is the host's.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import needs_lab, needs_root, run, write_config
from pagelab.analysis.speed_ratios import a_against_a
from pagelab.analysis.summary import aggregate
from pagelab.store.record import TrialRecord

pytestmark = [needs_root, needs_lab]

REPETITIONS = 20
ALARMS = 2  # of 20: two differ by chance in 2 of 100 runs, three in less than 1 of 100


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, dense_model: Path) -> Iterator[list[TrialRecord]]:
    directory = tmp_path_factory.mktemp("again")
    config = write_config(
        directory / "again.yml", factors={"resident": [1.0]}, repetitions=REPETITIONS, inference={"tokens": 48}
    )
    call = run(config, directory / "results")
    assert call.code == 0, call.show()
    yield call.store.read_trials()
    shutil.rmtree(directory)


def test_halves_of_one_run_do_not_differ(trials: list[TrialRecord]) -> None:
    assert len(trials) == REPETITIONS
    assert sum(one.differs for one in a_against_a(trials)) <= ALARMS


def test_a_planted_slowdown_is_found(trials: list[TrialRecord]) -> None:
    """Of a tenth, or on a noisy host of what ten repetitions against ten can show there: four standard deviations."""
    (row,) = aggregate(trials)
    assert row.tokens_per_second is not None
    noise = row.tokens_per_second.relative_deviation or 0.0
    slowdown = max(1.1, math.exp(4 * noise))
    found = [one.all_slower for one in a_against_a(trials, slowdown=slowdown)]
    assert all(found), f"{found.count(False)} of {len(found)} not found, {slowdown:.2f} times slower, {noise:.1%} noise"
