"""From configuration to plan: the trials of an experiment, their order, and whether their sizes fit the host."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pagelab.config.expectation import has_value
from pagelab.config.factors import Factors, unknown_factor
from pagelab.config.model_specs import ModelSpec, SyntheticSource
from pagelab.config.schema import Config
from pagelab.errors import ConfigError, ModelError, shown
from pagelab.models.catalog import read_model
from pagelab.models.synthetic import estimate_bytes
from pagelab.pressure.pin import HOST_MINIMUM_BYTES, pin_bytes
from pagelab.units import format_bytes


@dataclass(frozen=True)
class PlannedTrial:
    """One trial to run. `number` counts from 1 in order of execution; `repetition` from 1."""

    number: int
    repetition: int
    factors: Factors
    model: ModelSpec


@dataclass(frozen=True)
class Plan:
    """The trials of an experiment, in the order in which they run; those alone that have the values in `only`."""

    config: Config
    trials: tuple[PlannedTrial, ...]
    only: Mapping[str, str] = field(default_factory=dict)


def make_plan(config: Config, repeated: Sequence[int] = ()) -> Plan:
    """Each combination as often as `repetitions` says, and then those that are repeated once more.

    Each repetition is in a seeded random order of its own: interleaving keeps a slow drift of the host (temperature,
    other load) from looking like an effect of a factor.

    Args:
        config: what is planned.
        repeated: for each further trial the number of the first trial of its combination (run.budget says which).
    """
    models = {model.name: model for model in config.models}
    combinations = config.combinations()
    shuffler = random.Random(config.order_seed)  # noqa: S311 - an order that can be repeated, no secret
    trials: list[PlannedTrial] = []
    for repetition in range(1, config.repetitions + 1):
        order = combinations.copy()
        shuffler.shuffle(order)
        for factors in order:
            trials.append(PlannedTrial(len(trials) + 1, repetition, factors, models[factors.model]))
    repetitions = dict.fromkeys(repeated, config.repetitions)
    for number in repeated:
        repetitions[number] += 1
        trials.append(replace(trials[number - 1], number=len(trials) + 1, repetition=repetitions[number]))
    return Plan(config, tuple(trials))


def select(plan: Plan, only: Mapping[str, str]) -> Plan:
    """The trials whose factors have the given values (`--only resident=0.5`); numbers stay as they are.

    Raises:
        ConfigError: an unknown factor, or no trial is left.
    """
    for name in only:
        if name not in Factors.model_fields:
            raise ConfigError(f"--only {shown(name, 80)}=…: {unknown_factor(name)}")
    chosen = tuple(trial for trial in plan.trials if all(has_value(trial.factors, *item) for item in only.items()))
    if not chosen:
        raise ConfigError("--only leaves no trial; `pagelab plan CONFIG` shows the values that there are")
    return Plan(plan.config, chosen, only)


def longest(plan: Plan) -> Plan:
    """The plan in which every combination is repeated as often as it may be."""
    most = plan.config.model_copy(update={"repetitions": plan.config.most_repetitions, "until": None})
    return select(make_plan(most), plan.only)


def known_weights_bytes(config: Config, models_directory: Path) -> dict[str, int]:
    """Bytes of each model's weights: from its file, for a synthetic one else from its shape; others are left out."""
    known = {}
    for spec in config.models:
        try:
            known[spec.name] = read_model(spec, models_directory).weights_bytes
        except ModelError:
            if isinstance(spec.source, SyntheticSource):
                known[spec.name] = estimate_bytes(spec.source.synthetic)
    return known


def check_sizes(config: Config, weights_bytes: dict[str, int], total_bytes: int) -> None:
    """Refuse sizes that cannot fit this host.

    Raises:
        ConfigError: a share of the weights does not fit into RAM beside what the host keeps, or pinning with this
            reserve leaves nothing to lock.
    """
    for factors in config.combinations():
        if (size := weights_bytes.get(factors.model)) is None:
            continue
        reserve, name_of_reserve = HOST_MINIMUM_BYTES, "what the host needs"
        if factors.pressure == "pin":
            reserve, name_of_reserve = config.memory.os_reserve, "memory.os_reserve"
        kept = round(factors.resident * size)
        if kept + reserve > total_bytes:
            raise ConfigError(
                f"model {factors.model}: resident {factors.resident:g} keeps {format_bytes(kept)} in RAM, which with "
                f"{name_of_reserve} ({format_bytes(reserve)}) does not fit into {format_bytes(total_bytes)}; "
                "lower factors.resident"
            )


def needed_bytes(config: Config, model: str, weights_bytes: int, total_bytes: int) -> int:
    """The most memory that a trial of a model takes: a share of the weights, or locked memory, and the host's own."""
    needed = 0
    for factors in config.combinations():
        if factors.model == model:
            share = round(factors.resident * weights_bytes)
            pins = factors.pressure == "pin" and factors.limited
            needed = max(needed, share, pin_bytes(total_bytes, config.memory.os_reserve, share) if pins else 0)
    return needed + HOST_MINIMUM_BYTES
