"""A plan on the terminal: the trials that would run, and what they need."""

from rich.console import Console
from rich.table import Table

from pagelab.pressure.pin import pin_bytes
from pagelab.run.estimate import ASSUMED_READ_BYTES_PER_SECOND, Estimate, estimate, trial_seconds
from pagelab.run.plan import Plan, PlannedTrial, longest
from pagelab.terminal.plain import plain
from pagelab.units import format_bytes, format_seconds

SHOWN_TRIALS = 200


def print_plan(
    plan: Plan, known: dict[str, int], total: int, console: Console | None = None, read_rate: float | None = None
) -> None:
    """One row a trial, then what it will take, roughly.

    Args:
        plan: the trials.
        known: bytes of the weights of models whose size is known.
        total: bytes of RAM.
        console: where to print.
        read_rate: bytes a second of the models' disk, where an earlier run found it.
    """
    out = console or Console(highlight=False)
    rate = read_rate or ASSUMED_READ_BYTES_PER_SECOND
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "repetition", "model", "resident", "pressure", "memory", "other factors", "about"):
        table.add_column(heading)
    for trial in plan.trials[:SHOWN_TRIALS]:
        size = known.get(trial.factors.model)
        length = "-" if size is None else format_seconds(trial_seconds(plan.config, trial.factors, size, rate))
        table.add_row(*map(plain, (*_row(plan, trial, size, total), length)))
    out.print(table)
    if (more := len(plan.trials) - SHOWN_TRIALS) > 0:
        out.print(f"… and {more} more; --only FACTOR=VALUE shows those with one value")
    most = longest(plan)
    words = _estimated(plan, most, estimate(plan, known, rate), estimate(most, known, rate))
    where = "as an earlier run found here" if read_rate else "which is assumed"
    out.print(plain(f"\n{words}. Roughly, if the disk reads {format_bytes(rate)}/s, {where}."), soft_wrap=True)
    for name in {spec.name for spec in plan.config.models} - known.keys():
        out.print(
            plain(f"model {name} is not here yet, so its sizes are unknown; `make provision CONFIG=…` fetches it")
        )


def _estimated(plan: Plan, most_plan: Plan, least: Estimate, most: Estimate) -> str:
    """How many trials, how long, and what is written, in one sentence; with a budget from the least to the most."""
    trials = _from_to(str(len(plan.trials)), str(len(most_plan.trials)))
    seconds = _from_to(format_seconds(least.seconds), format_seconds(most.seconds))
    results = _from_to(format_bytes(least.result_bytes), format_bytes(most.result_bytes))
    words = f"{trials} trials; about {seconds}; up to {results} of results"
    if plan.config.until is not None:
        words += f"; repeated until the 95 % interval of a speed is within {plan.config.until.interval * 100:g} %"
    if most.swap_bytes:
        swap = _from_to(format_bytes(least.swap_bytes), format_bytes(most.swap_bytes))
        words += f"; {swap} written to swap, if what does not fit of anonymous weights goes there once a trial"
    return words


def _from_to(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _row(plan: Plan, trial: PlannedTrial, weights: int | None, total: int) -> tuple[str, ...]:
    factors = trial.factors
    return (
        str(trial.number),
        str(trial.repetition),
        factors.model,
        f"{factors.resident:g}",
        factors.pressure,
        _memory(plan, trial, weights, total),
        factors.label(without=("model", "resident", "pressure")),
    )


def _memory(plan: Plan, trial: PlannedTrial, weights: int | None, total: int) -> str:
    """The size of the pressure as far as it is known before the calibration has measured the anonymous memory."""
    memory, factors = plan.config.memory, trial.factors
    if not factors.limited:
        return "no limit"
    if weights is None:
        return "-"
    share = round(factors.resident * weights)
    if factors.pressure == "cgroup":
        return f"limit: anonymous + {format_bytes(max(share, memory.floor))}"
    less = " - anonymous" if memory.fence_reserve else ""
    return f"pin {format_bytes(pin_bytes(total, memory.os_reserve, share))}{less}"
