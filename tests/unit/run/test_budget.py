"""A budget repeats where the noise is, and a run that is gone on with has the same plan and no trial twice."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from example_raw import observation
from example_run import dice_of, run_record, trial_record

from pagelab.config.load import parse_config
from pagelab.config.schema import Config
from pagelab.run.budget import to_repeat
from pagelab.run.experiment import RunInProgress, close, next_trials
from pagelab.run.plan import Plan, PlannedTrial, make_plan, select
from pagelab.store.record import TrialRecord, Validity
from pagelab.store.run_store import RunStore

CONFIG = """\
experiment: e
models: [{name: gemma-3-270m, source: {file: /m.gguf, sha256: "%s"}}]
factors: {resident: [1.0, 0.5, 0.25, 0.0]}
repetitions: 3
until: {interval: %s, at_most: %d}
"""
DEVIATIONS = {1.0: 0.002, 0.5: 0.02, 0.25: 0.2, 0.0: 0.0}
INVALID = Validity(valid=False, reasons=["others read from the disk"])


def config(interval: str = "5%", at_most: int = 9) -> Config:
    return parse_config(CONFIG % ("a" * 64, interval, at_most), "test")


def speed(trial: PlannedTrial) -> float:
    """What is measured: the noise of this share, the same whenever this repetition is run."""
    name = f"g{trial.factors.resident}/{trial.repetition}"
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    return 10.0 * (1 + DEVIATIONS[trial.factors.resident] * dice_of(seed).gauss())


def record(trial: PlannedTrial, **changed: Any) -> TrialRecord:
    return trial_record(trial.number, trial.factors.resident, speed(trial), trial.repetition, **changed)


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counts: list[int] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def planned(self, trials: int) -> None:
        self.counts.append(trials)

    def begin(self, label: str, expected_tokens: int) -> None: ...

    def phase(self, name: str, tokens: int) -> None: ...

    def trial_done(self, record: TrialRecord, done: int, planned: int) -> None: ...


class KilledError(Exception):
    """The run ended here."""


class Lab:
    """Runs a plan as an experiment does, but for the measuring."""

    def __init__(self, directory: Path, asked: Config, measure: Callable[[PlannedTrial], TrialRecord] = record) -> None:
        self.config, self.measure, self.heard = asked, measure, Heard()
        self.measured: list[PlannedTrial] = []
        self.store = RunStore.create(directory, "e", "localhost", "run")
        self.store.write_config(asked.resolved_yaml())
        whole = make_plan(asked)
        self.store.write_run(run_record(status="incomplete", trials_planned=len(whole.trials), trials_done=0))

    def run(self, trials: int | None = None, only: dict[str, str] | None = None) -> str:
        """Begin, or go on, and be killed before the trial after so many; the status at the end."""
        run = RunInProgress(self.store, self.store.read_run())
        plan = select(make_plan(self.config), only or {})
        for done, trial in enumerate(self._trials(plan, run)):
            if done == trials:
                raise KilledError
            self.measured.append(trial)
            self.store.write_observation(
                observation(trial.number, factors=trial.factors, repetition=trial.repetition, inference=None)
            )
            self.store.write_trial(self.measure(trial))
        close(run)
        return self.store.read_run().status

    def _trials(self, plan: Plan, run: RunInProgress) -> Iterator[PlannedTrial]:
        while left := next_trials(plan, run, self.heard):
            yield from left

    def counts(self) -> dict[float, int]:
        return dict(Counter(trial.factors.resident for trial in self.measured))


def test_the_noisy_combinations_get_more_trials_and_the_quiet_ones_none(tmp_path: Path) -> None:
    lab = Lab(tmp_path, config())
    assert lab.run() == "complete"
    counts = lab.counts()
    assert (counts[1.0], counts[0.0], counts[0.25]) == (3, 3, 9)
    assert 3 < counts[0.5] < 9
    assert [trial.number for trial in lab.measured] == list(range(1, len(lab.measured) + 1))
    run = lab.store.read_run()
    assert run.trials_planned == run.trials_done == len(lab.measured) == 12 + len(run.repeated)
    assert lab.heard.counts[-1] == run.trials_planned
    assert lab.heard.notes[0] == "2 combinations are not known well enough for `until`, and repeated once more"
    for share, count in counts.items():
        repetitions = [trial.repetition for trial in lab.measured if trial.factors.resident == share]
        assert sorted(repetitions) == list(range(1, count + 1))


def test_what_is_added_is_interleaved_round_by_round(tmp_path: Path) -> None:
    lab = Lab(tmp_path, config(interval="0.001%"))
    lab.run()
    added = lab.measured[12:]
    assert {trial.factors.resident for trial in added} == {1.0, 0.5, 0.25}, "what does not vary is known"
    rounds = [added[start : start + 3] for start in range(0, len(added), 3)]
    assert len(rounds) == 6
    assert all(len({trial.factors.resident for trial in one}) == 3 for one in rounds)
    assert [{trial.repetition for trial in one} for one in rounds] == [{number} for number in range(4, 10)]
    assert len({tuple(trial.factors.resident for trial in one) for one in rounds}) > 1, "in an order of its own"


def test_killed_anywhere_and_gone_on_with_it_is_the_same_run(tmp_path: Path) -> None:
    whole = Lab(tmp_path / "whole", config())
    whole.run()
    for ends in ((0,), (5,), (12,), (13,), (14, 0, 1), (1,) * (len(whole.measured) - 1), (len(whole.measured) - 1, 0)):
        lab = Lab(tmp_path / "-".join(map(str, ends)), config())
        for trials in ends:
            with pytest.raises(KilledError):
                lab.run(trials)
        assert lab.store.read_run().status == "incomplete"
        assert lab.run() == "complete"
        assert lab.measured == whole.measured
        assert lab.store.read_run().repeated == whole.store.read_run().repeated


def test_what_was_added_stays_though_trials_are_judged_otherwise_since(tmp_path: Path) -> None:
    lab = Lab(tmp_path, config())
    with pytest.raises(KilledError):
        lab.run(13)
    before = lab.store.read_run().repeated
    assert len(before) == 2
    for trial in lab.measured:
        lab.store.write_trial(record(trial, validity=INVALID))
    lab.run()
    assert lab.store.read_run().repeated[:2] == before
    assert [trial.number for trial in lab.measured] == list(range(1, len(lab.measured) + 1))


def test_a_part_of_a_run_adds_its_own_and_the_rest_goes_on_from_there(tmp_path: Path) -> None:
    lab = Lab(tmp_path, config())
    assert lab.run(only={"resident": "0.25"}) == "incomplete"
    assert lab.counts() == {0.25: 9}
    assert lab.run(only={"resident": "0.25"}) == "incomplete"
    assert lab.run() == "complete"
    assert lab.counts()[0.25] == 9
    assert lab.counts()[1.0] == 3
    numbers = [trial.number for trial in lab.measured]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_invalid_trials_count_as_trials_and_not_as_repetitions(tmp_path: Path) -> None:
    def measure(trial: PlannedTrial) -> TrialRecord:
        spoiled = trial.factors.resident == 1.0 and trial.repetition <= 2
        return record(trial, **({"validity": INVALID} if spoiled or trial.factors.resident == 0.0 else {}))

    lab = Lab(tmp_path, config(), measure)
    assert lab.run() == "complete"
    assert lab.counts()[1.0] == 5, "three of them count"
    assert lab.counts()[0.0] == 9, "none counts"


def test_a_refused_trial_says_nothing_of_the_speed() -> None:
    plan = make_plan(config())
    refused = [trial_record(one.number, one.factors.resident, None, one.repetition) for one in plan.trials]
    assert sorted(to_repeat(plan, refused)) == [1, 2, 3, 4]
    assert to_repeat(plan, [record(one) for one in make_plan(config(interval="100%")).trials]) != [1, 2, 3, 4]


def test_nothing_is_added_without_a_budget_or_where_it_is_used_up(tmp_path: Path) -> None:
    plain = config().model_copy(update={"until": None})
    assert to_repeat(make_plan(plain), []) == []
    assert to_repeat(make_plan(config(at_most=3)), []) == []
    lab = Lab(tmp_path, plain)
    assert lab.run() == "complete"
    assert len(lab.measured) == 12


def test_another_seed_gives_another_order_of_what_is_added() -> None:
    plans = [make_plan(config(at_most=20).model_copy(update={"order_seed": seed})) for seed in range(10)]
    orders = [[plan.trials[number - 1].factors.resident for number in to_repeat(plan, [])] for plan in plans]
    assert all(sorted(order) == [0.0, 0.25, 0.5, 1.0] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
