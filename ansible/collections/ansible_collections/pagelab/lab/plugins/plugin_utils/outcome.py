"""What became of an experiment on one host, judged by how its container ended and by the results that are here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pagelab.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_INVALID_TRIALS,
    EXIT_PREFLIGHT_REFUSED,
)

DONE, INVALID, REFUSED, FAILED, UNREACHABLE = "done", "invalid trials", "preflight refused", "failed", "unreachable"

# What the kernel and the engine end pagelab with; pagelab's own codes are in pagelab.errors.
EXIT_KILLED, EXIT_TERMINATED = 137, 143
EXIT_UNKNOWN = 255  # what the engine says of a container that was running when it went down itself


@dataclass(frozen=True)
class Run:
    """A run that was brought here."""

    directory: Path
    complete: bool
    planned: int
    valid: int
    invalid: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One row of the table at the end."""

    status: str
    reason: str = ""
    exit_code: int | None = None
    trials_valid: int | None = None
    trials_planned: int | None = None
    results: str = ""

    def document(self) -> dict[str, Any]:
        """Without what is not known."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def outcome_of(
    status: Mapping[str, Any], lines: Sequence[str], run: Run | None, host: str, problem: str = ""
) -> Outcome:
    """Judge.

    Args:
        status: what the launcher says about the container.
        lines: the last lines of the experiment.
        run: its results, if any are here.
        host: for the command that is recommended.
        problem: why its results could not be brought here, where they could not.
    """
    code = status.get("exit_code") if status.get("state") != "absent" else None
    verdict, reason = _verdict(status, code, lines, run)
    if problem:
        verdict, reason = (FAILED if verdict == DONE else verdict), "; ".join(filter(None, [reason, problem]))
    if run and not run.complete and verdict != DONE:
        reason += f"; to go on where it ended: make experiment HOST={host} RESUME=1"
    return Outcome(
        status=verdict,
        reason=reason,
        exit_code=code,
        trials_valid=run.valid if run else None,
        trials_planned=run.planned if run else None,
        results=str(run.directory) if run else "",
    )


def _verdict(status: Mapping[str, Any], code: int | None, lines: Sequence[str], run: Run | None) -> tuple[str, str]:
    said = last_error(lines)
    if status.get("state") == "absent":
        return FAILED, "the container is gone: somebody removed it"
    if code == EXIT_DONE:
        return (DONE, "") if run else (FAILED, "it ended well, but its results are not here")
    if code == EXIT_INVALID_TRIALS and run and run.complete:
        return INVALID, f"{len(run.invalid)} of {run.planned} trials: {run.invalid[0] if run.invalid else said}"
    if code == EXIT_PREFLIGHT_REFUSED:
        return REFUSED, said
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):  # the latter before it could listen
        return FAILED, "stopped before its end"
    if code == EXIT_KILLED:
        return FAILED, "killed by the kernel: out of memory" if status.get("out_of_memory") else "killed"
    if code == EXIT_UNKNOWN:
        return FAILED, "cut off: the machine, or its container engine, went down"
    if code == EXIT_BAD_INPUT:
        return FAILED, said
    return FAILED, f"ended with exit code {code}" + (f": {said}" if said else "")


def last_error(lines: Sequence[str]) -> str:
    """The sentence with which pagelab said why it ended, or else the last thing it said."""
    for line in reversed(lines):
        if line.startswith("pagelab: "):
            return line.removeprefix("pagelab: ").removeprefix("preflight: ")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


# --- its results ------------------------------------------------------------------------------------------------------


def find_run(results: Path, experiment: str, host: str, started_at: str) -> Run | None:
    """The run that a container wrote which was started then: the one whose run.json is the newest, and not older."""
    earliest = int(datetime.fromisoformat(started_at[:19] + "+00:00").timestamp()) if started_at else 0
    found = [
        (path.stat().st_mtime, path.parent)
        for path in (results / experiment / host).glob("*/run.json")
        if path.stat().st_mtime >= earliest
    ]
    return read_run(max(found)[1]) if found else None


def read_run(directory: Path) -> Run:
    """What its files say."""
    record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    trials = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("trials/*/trial.json"))]
    reasons = [_why_invalid(trial["validity"]) for trial in trials if not trial["validity"]["valid"]]
    return Run(
        directory=directory,
        complete=record["status"] == "complete",
        planned=record["trials_planned"],
        valid=len(trials) - len(reasons),
        invalid=tuple(reasons),
    )


def _why_invalid(validity: Mapping[str, Any]) -> str:
    return "; ".join(validity.get("reasons") or ["no reason is recorded"])


# --- the table --------------------------------------------------------------------------------------------------------


def table(outcomes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows, aligned: host, outcome, trials, results, reason."""
    rows = [["HOST", "OUTCOME", "VALID TRIALS", "RESULTS", "WHY"]]
    rows += [[host, *_cells(outcomes[host])] for host in sorted(outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(outcome: Mapping[str, Any]) -> list[str]:
    valid, planned = outcome.get("trials_valid"), outcome.get("trials_planned")
    trials = "-" if valid is None else f"{valid} of {planned}"
    results = Path(outcome["results"]) if outcome.get("results") else None
    if results and results.is_relative_to(Path.cwd()):
        results = results.relative_to(Path.cwd())
    return [outcome["status"], trials, str(results or "-"), " ".join(outcome.get("reason", "").split())]


def summary(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence: how many are done, and who is not."""
    others = [host for host in sorted(outcomes) if outcomes[host]["status"] != DONE]
    count = f"{len(outcomes) - len(others)} of {_plural(outcomes)} done"
    return f"{count}; not done: {', '.join(others)}" if others else count


def _plural(hosts: Iterable[str]) -> str:
    number = len(list(hosts))
    return f"{number} host{'' if number == 1 else 's'}"
