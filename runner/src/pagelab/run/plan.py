"""From configuration to plan: the trials of an experiment, their order, and what they will need."""

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from pagelab.config.expectation import has_value
from pagelab.config.factors import FACTORS, Factors, unknown_factor
from pagelab.config.model_specs import ModelSpec, SyntheticSource
from pagelab.config.schema import Config
from pagelab.errors import ConfigError, ModelError, shown
from pagelab.host.procfs import PAGE_BYTES
from pagelab.models.catalog import read_model
from pagelab.models.synthetic import estimate_bytes
from pagelab.pressure.pin import HOST_MINIMUM_BYTES, pin_bytes
from pagelab.units import format_bytes

ASSUMED_READ_BYTES_PER_SECOND = 1e9  # for the estimate of time only; many disks do better in order and worse at random
SECONDS_BETWEEN_TRIALS = 2.0
RESULT_BYTES_PER_TRIAL = 4 << 20
TRACED_PAGE_BYTES = 9  # compressed, for an event of one page: 4 as recorded, 5 in a table


@dataclass(frozen=True)
class PlannedTrial:
    """One trial to run. `number` counts from 1 in order of execution; `repetition` from 1."""

    number: int
    repetition: int
    factors: Factors
    model: ModelSpec


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, in the order in which they run."""

    config: Config
    trials: tuple[PlannedTrial, ...]


def make_plan(config: Config) -> Plan:
    """The product of models and factors, repeated; each repetition in a seeded random order of its own.

    Interleaving keeps a slow drift of the host (temperature, other load) from looking like an effect of a factor.
    """
    combinations = list(_combinations(config))
    shuffler = random.Random(config.order_seed)  # noqa: S311 - an order that can be repeated, no secret
    trials: list[PlannedTrial] = []
    for repetition in range(1, config.repetitions + 1):
        order = combinations.copy()
        shuffler.shuffle(order)
        for model, factors in order:
            trials.append(PlannedTrial(len(trials) + 1, repetition, factors, model))
    return Plan(config, tuple(trials))


def _combinations(config: Config) -> list[tuple[ModelSpec, Factors]]:
    values = [getattr(config.factors, name) for name in FACTORS]
    return [
        (model, Factors(model=model.name, **dict(zip(FACTORS, chosen, strict=True))))
        for model in config.models
        for chosen in itertools.product(*values)
    ]


def select(plan: Plan, only: dict[str, str]) -> Plan:
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
    return Plan(plan.config, chosen)


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
    pinning = "pin" in config.factors.pressure
    reserve, name_of_reserve = (
        (config.memory.os_reserve, "memory.os_reserve") if pinning else (HOST_MINIMUM_BYTES, "what the host needs")
    )
    for name, size in weights_bytes.items():
        for resident in config.factors.resident:
            kept = round(resident * size)
            if kept + reserve > total_bytes:
                raise ConfigError(
                    f"model {name}: resident {resident:g} keeps {format_bytes(kept)} in RAM, which with "
                    f"{name_of_reserve} ({format_bytes(reserve)}) does not fit into {format_bytes(total_bytes)}; "
                    "lower factors.resident"
                )


def needed_bytes(config: Config, weights_bytes: int, total_bytes: int) -> int:
    """The most memory that a trial of a model takes: a share of the weights, or locked memory, and the host's own."""
    shares: list[float] = config.factors.resident
    needed = round(max(shares) * weights_bytes)
    if "pin" in config.factors.pressure:
        needed = max(needed, pin_bytes(total_bytes, config.memory.os_reserve, round(min(shares) * weights_bytes)))
    return needed + HOST_MINIMUM_BYTES


def estimate_result_bytes(plan: Plan, weights_bytes: dict[str, int]) -> int:
    """A rough size of the results of a plan's trials: where pages are traced, two events for each that is read."""
    total = len(plan.trials) * RESULT_BYTES_PER_TRIAL
    trace, tokens = plan.config.trace, plan.config.inference.tokens
    if trace.page_cache != "off":
        for trial in plan.trials:
            times_read = 1 + (1 - trial.factors.resident) * tokens
            pages = weights_bytes.get(trial.factors.model, 0) * times_read / PAGE_BYTES
            total += min(2 * trace.most_bytes, round(2 * pages * TRACED_PAGE_BYTES))
    return total


def estimate_seconds(trial: PlannedTrial, weights_bytes: int, tokens: int) -> float:
    """A rough length of a trial: the model is read once to load, and its missing share again for every token."""
    missing = (1 - trial.factors.resident) * weights_bytes
    return SECONDS_BETWEEN_TRIALS + (weights_bytes + tokens * missing) / ASSUMED_READ_BYTES_PER_SECOND
