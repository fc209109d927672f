from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.config.schema import Config
from pagelab.errors import ConfigError
from pagelab.run.plan import check_sizes, longest, make_plan, needed_bytes, select
from pagelab.units import GIB, MIB

MODELS = [
    {"name": name, "source": {"file": f"/models/{name}.gguf", "sha256": "0" * 64}} for name in ("dense", "experts")
]


def config(**changes):
    document = {
        "experiment": "e",
        "models": MODELS,
        "repetitions": 3,
        "factors": {"resident": [1.0, 0.5, 0.0], "pressure": ["cgroup", "pin"], "swappiness": ["default", 10]},
    }
    return Config.model_validate(document | changes)


def test_a_plan_is_the_product_of_its_factors_each_as_often_as_repeated():
    trials = make_plan(config()).trials
    counts = Counter(trial.factors.model_dump_json() for trial in trials)
    assert len(trials) == 2 * 3 * 2 * 2 * 3
    assert set(counts.values()) == {3}
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))


def test_repetitions_are_interleaved_not_run_in_a_row():
    trials = make_plan(config()).trials
    size = len(trials) // 3
    for repetition in (1, 2, 3):
        block = trials[(repetition - 1) * size : repetition * size]
        assert {trial.repetition for trial in block} == {repetition}
        assert len({trial.factors.model_dump_json() for trial in block}) == size


@given(st.integers(min_value=0, max_value=1000))
def test_the_order_follows_from_the_seed_alone(seed):
    assert make_plan(config(order_seed=seed)) == make_plan(config(order_seed=seed))


def test_another_seed_gives_another_order_of_the_same_trials():
    first, second = (make_plan(config(order_seed=seed)).trials for seed in (1, 2))
    assert [trial.factors for trial in first] != [trial.factors for trial in second]
    assert Counter(trial.factors.model_dump_json() for trial in first) == Counter(
        trial.factors.model_dump_json() for trial in second
    )


def test_a_selection_keeps_the_numbers_so_that_a_later_run_can_go_on():
    plan = make_plan(config())
    chosen = select(plan, {"resident": "0.50", "pressure": "pin"})
    assert {(trial.factors.resident, trial.factors.pressure) for trial in chosen.trials} == {(0.5, "pin")}
    numbers = {trial.number: trial for trial in plan.trials}
    assert all(numbers[trial.number] == trial for trial in chosen.trials)


@pytest.mark.parametrize("only", [{"colour": "red"}, {"resident": "0.7"}])
def test_a_selection_of_nothing_is_refused(only):
    with pytest.raises(ConfigError, match="--only"):
        select(make_plan(config()), only)


def test_a_baseline_that_cannot_fit_is_refused_and_a_share_that_fits_is_not():
    with pytest.raises(ConfigError, match=r"model dense: resident 1 keeps .* does not fit"):
        check_sizes(config(), {"dense": 30 * GIB}, 24 * GIB)
    check_sizes(config(factors={"resident": [0.5, 0.0]}), {"dense": 30 * GIB}, 24 * GIB)


def test_only_what_a_case_pins_has_to_leave_the_reserve():
    """Of a case each, 20 GiB are pinned beside and 30 GiB limited; no product of both."""
    cases = [{"pressure": "pin", "resident": 0.5}, {"pressure": "cgroup", "resident": 0.75}]
    one = config(cases=cases, memory={"os_reserve": "4GiB"}, models=MODELS[:1])
    check_sizes(one, {"dense": 30 * GIB}, 24 * GIB)
    with pytest.raises(ConfigError, match=r"resident 0\.75 keeps .* with what the host needs"):
        check_sizes(one, {"dense": 32 * GIB}, 24 * GIB)
    assert needed_bytes(one, "dense", 20 * GIB, 24 * GIB) == 15 * GIB + 256 * MIB
    assert needed_bytes(one, "experts", 20 * GIB, 24 * GIB) == 256 * MIB


def test_a_selection_works_on_cases_and_new_factors():
    one = config(cases=[{"repack": [True, False], "threads": 2}, {}], models=MODELS[:1])
    for only, count in (({"repack": "true"}, 36), ({"threads": "2.0"}, 72), ({"repack": "default"}, 36)):
        assert len(select(make_plan(one), only).trials) == count, only


def test_the_longest_plan_repeats_everything_as_often_as_it_may_be():
    plan = select(make_plan(config(until={"interval": "5%", "at_most": 8})), {"resident": "0.5"})
    most = longest(plan)
    assert len(most.trials) == len(plan.trials) // 3 * 8
    assert {trial.factors.resident for trial in most.trials} == {0.5}
    assert longest(make_plan(config())) == make_plan(config())


def test_what_is_repeated_comes_after_the_rest_with_a_number_and_repetition_of_its_own():
    plan, whole = make_plan(config()), make_plan(config(), [5, 1, 5])
    assert whole.trials[: len(plan.trials)] == plan.trials
    added = whole.trials[len(plan.trials) :]
    assert [trial.factors for trial in added] == [plan.trials[index].factors for index in (4, 0, 4)]
    assert [trial.repetition for trial in added] == [4, 4, 5]
    assert [trial.number for trial in whole.trials] == list(range(1, len(plan.trials) + 4))
