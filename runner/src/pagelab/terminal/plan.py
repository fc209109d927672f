"""A plan on the terminal: the trials that would run, and what they need."""

from rich.console import Console
from rich.table import Table

from pagelab.pressure.pin import pin_bytes
from pagelab.run.plan import (
    ASSUMED_READ_BYTES_PER_SECOND,
    Plan,
    PlannedTrial,
    estimate_result_bytes,
    estimate_seconds,
)
from pagelab.terminal.plain import plain
from pagelab.units import format_bytes, format_seconds

SHOWN_TRIALS = 200


def print_plan(plan: Plan, known: dict[str, int], total: int, console: Console | None = None) -> None:
    """One row a trial, then the sums; `known` has the weights of models that are here, `total` is RAM, all in bytes."""
    out = console or Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "repetition", "model", "resident", "pressure", "memory", "other factors", "about"):
        table.add_column(heading)
    seconds = 0.0
    for place, trial in enumerate(plan.trials):
        size = known.get(trial.factors.model)
        length = None if size is None else estimate_seconds(trial, size, plan.config.inference.tokens)
        seconds += length or 0.0
        if place < SHOWN_TRIALS:
            row = (*_row(plan, trial, size, total), format_seconds(length) if length is not None else "-")
            table.add_row(*map(plain, row))
    out.print(table)
    if (more := len(plan.trials) - SHOWN_TRIALS) > 0:
        out.print(f"… and {more} more; --only FACTOR=VALUE shows those with one value")
    disk = estimate_result_bytes(plan, known)
    out.print(
        f"\n{len(plan.trials)} trials; about {format_seconds(seconds)} if the disk reads "
        f"{format_bytes(ASSUMED_READ_BYTES_PER_SECOND)}/s; up to {format_bytes(disk)} of results"
    )
    for name in {spec.name for spec in plan.config.models} - known.keys():
        out.print(
            plain(f"model {name} is not here yet, so its sizes are unknown; `make provision CONFIG=…` fetches it")
        )


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
