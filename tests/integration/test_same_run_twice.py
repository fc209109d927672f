"""One configuration run as if it were two: no difference is found where there is none, and a planted one is.

The same on seeded noise, to the letter of 19 in 20, is in tests/unit/analysis/test_a_against_a.py; here the noise is
the host's.
"""

import math
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from a_against_a import a_against_a, least_found
from lab import needs_lab, needs_root, run, write_config
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
    valid = [trial for trial in call.store.read_trials() if trial.validity.valid]
    assert len(valid) >= REPETITIONS - 2, call.show()  # what others read or write meanwhile makes one invalid
    yield valid
    shutil.rmtree(directory)


def test_halves_of_one_run_do_not_differ(trials: list[TrialRecord]) -> None:
    assert sum(one.differs for one in a_against_a(trials)) <= ALARMS


@pytest.mark.parametrize("slowdown", [1.1, 1.25])
def test_a_planted_slowdown_is_found(trials: list[TrialRecord], slowdown: float) -> None:
    """As often as among normal noise as large as this host's: up to 4 % (9 %) of it in every one of 20 divisions."""
    noise = statistics.stdev(math.log(trial.decode.tokens_per_second or 0.0) for trial in trials)
    found = sum(one.all_slower for one in a_against_a(trials, slowdown=slowdown))
    assert found >= least_found(noise, len(trials), slowdown), f"found in {found} of 20, {noise:.1%} noise"
