"""The columns of a run's tables, and what stands in them, for the terminal and for the page."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pagelab.analysis.bootstrap import Interval
from pagelab.analysis.summary import Combination, Spread
from pagelab.report import wording
from pagelab.report.wording import DASH, TIMES
from pagelab.store.record import RunRecord, TrialRecord

Cell = tuple[str, str]
"""The figure itself and a second line below it, such as its spread; the second may be empty."""

AnyCombination = TypeVar("AnyCombination", bound=Combination)

Column = tuple[str, str, Callable[[AnyCombination], Cell]]
"""Heading, second heading, and what a row has below them."""

Grid = dict[str, Any]
"""Headings and rows of cells."""

NOTHING: Cell = (wording.ABSENT, "")


def grid(
    everything: Sequence[Combination], rows: Sequence[AnyCombination], columns: Sequence[Column[AnyCombination]]
) -> Grid:
    """A table of some of all combinations, with the columns that tell all of them apart first."""
    whole = [*label_columns(everything), *columns]
    return {
        "headings": [(heading, below) for heading, below, _ in whole],
        "rows": [[cell(row) for *_, cell in whole] for row in rows],
    }


def label_columns(rows: Sequence[Combination]) -> list[Column[Combination]]:
    """The columns that tell the rows apart; model and settings have one only where they vary."""
    columns: list[Column[Combination]] = []
    if wording.several(rows, "model"):
        columns.append(("model", "weights", lambda row: (row.factors.model, wording.size(row.weights_bytes))))
    varying = wording.varying_settings(rows)
    if varying:
        columns.append(("settings", "", lambda row: (wording.settings(row.factors, varying), "")))
    return columns + LABELS


def median_with_range(spread: Spread | None, text: Callable[[float], str]) -> Cell:
    """A median, with the least and the greatest value below it where there are several."""
    if spread is None:
        return NOTHING
    return text(spread.median), f"{text(spread.minimum)} to {text(spread.maximum)}" if spread.count > 1 else ""


def common_settings(rows: Sequence[Combination]) -> str:
    """What every row has in common, in words; empty without rows."""
    if not rows:
        return ""
    model = "" if wording.several(rows, "model") else f"{model_words(rows[0])}, "
    return model + wording.common_settings(rows)


def model_words(row: Combination) -> str:
    """The model, and the size of its weights."""
    return f"{row.factors.model} ({wording.size(row.weights_bytes)} of weights)"


def warning_lines(
    run: RunRecord, trials: Sequence[TrialRecord], rows: Sequence[Combination], include_invalid: bool = False
) -> list[str]:
    """What a reader has to know before believing the numbers, most serious first."""
    lines = []
    if run.status == "incomplete":
        lines.append(f"This run is incomplete: {len(trials)} of {run.trials_planned} trials are finished.")
    lines += run.notes
    lines += [f"This preflight check failed and was forced: {name}." for name in run.forced]
    fate = "INCLUDED ALL THE SAME" if include_invalid else "left out"
    lines += [
        f"Trial {trial.trial:03d} is invalid and {fate}: {'; '.join(trial.validity.reasons) or 'no reason given'}."
        for trial in trials
        if not trial.validity.valid
    ]
    return lines + _spread_warnings(rows)


def _spread_warnings(rows: Sequence[Combination]) -> list[str]:
    """Each warning about repetitions once, after the combinations that it is about."""
    about: dict[str, dict[str, None]] = {}
    for row in rows:
        for warning in row.warnings:
            about.setdefault(warning, {})[f"{row.factors.model}, {wording.place(row, rows)}"] = None
    everywhere = {warning for warning in about if len(rows) > 1 and all(warning in row.warnings for row in rows)}
    places = {
        warning: "every combination" if warning in everywhere else "; ".join(labels)
        for warning, labels in about.items()
    }
    return [f"{place}: {warning}." for warning, place in places.items()]


# --- columns ----------------------------------------------------------------------------------------------------------


def _speed(row: Combination) -> Cell:
    rates = row.tokens_per_second
    return wording.number(wording.median(rates)), wording.extremes(rates)


def _slowdown(row: Combination) -> Cell:
    if row.is_baseline:
        return ("baseline" if row.tokens_per_second else wording.ABSENT), ""
    slowdown = row.slowdown
    return wording.times(slowdown), wording.interval(slowdown.interval if slowdown else None)


def _read(row: Combination) -> Cell:
    share = row.read_share_of_weights
    below = "" if share is None else f"{wording.number(share)}{TIMES}"
    return wording.size(wording.median(row.read_bytes_per_token)), below


def _per_token(column: str) -> Callable[[Combination], Cell]:
    return lambda row: (wording.size(wording.median(row.per_token(column))), "")


def _median(column: str, text: Callable[[float | None], str]) -> Callable[[Combination], Cell]:
    return lambda row: (text(wording.median(row.spread(column))), "")


def _of_rates(text: Callable[[Spread], str]) -> Callable[[Combination], Cell]:
    return lambda row: (text(row.tokens_per_second), "") if row.tokens_per_second else NOTHING


def _interval(ends: Interval | None) -> str:
    return wording.ABSENT if ends is None else f"{wording.number(ends[0])} to {wording.number(ends[1])}"


def _token_times(row: Combination) -> Cell:
    """Medians over the repetitions of the percentiles within each."""
    spreads = [row.spread(f"decode.token_p{percent}_seconds") for percent in (50, 90, 99)]
    first, *others = [wording.short_time(wording.median(spread)) for spread in spreads]
    return first, ", ".join(others) if spreads[0] else ""


def _gigabytes(rate: float | None) -> str:
    if rate is not None and 0 < rate < 1e6:  # a baseline's reads of almost nothing would take a wide column
        return "<0.001"
    return wording.number(None if rate is None else rate / 1e9)


LABELS: list[Column[Combination]] = [
    ("in RAM", "weights", lambda row: (wording.percent(row.factors.resident), "")),
    ("pressure", "", lambda row: (wording.pressure(row.factors), "")),
]
SUMMARY: list[Column[Combination]] = [
    ("tokens/s", f"min{DASH}max", _speed),
    ("slowdown", "95 %", _slowdown),
    ("read/token", f"{TIMES} weights", _read),
    ("from file", "per token", _per_token("reads.decode.model_bytes")),
    ("from swap", "per token", _per_token("reads.decode.swap_bytes")),
    ("disk", "GB/s", _median("throughput.read_bytes_per_second", _gigabytes)),
    ("limit", "reached", lambda row: (wording.limit_reached(row), "")),
    ("valid", "trials", lambda row: (f"{row.valid}/{len(row.trials)}", "")),
]
SPREAD: list[Column[Combination]] = [
    ("n", "", lambda row: (str(row.tokens_per_second.count if row.tokens_per_second else 0), "")),
    ("median", "tokens/s", _of_rates(lambda rates: wording.number(rates.median))),
    ("95 % interval", "of the median", _of_rates(lambda rates: _interval(rates.median_interval))),
    ("mean", "tokens/s", _of_rates(lambda rates: wording.number(rates.mean))),
    ("standard deviation", "tokens/s", _of_rates(lambda rates: wording.number(rates.deviation))),
    ("relative", "", _of_rates(lambda rates: wording.percent(rates.relative_deviation))),
    ("95 % interval", "of the geometric mean", _of_rates(lambda rates: _interval(rates.mean_interval))),
    ("steady", "tokens/s", _median("steady.tokens_per_second", wording.number)),
    ("a token takes", "p50, p90, p99", _token_times),
    ("first token after", "median", _median("time_to_first_token_seconds", wording.duration)),
    ("weights seen in RAM", "median", _median("residency.achieved_fraction", wording.percent)),
    ("share of the disk's bound", "median", _median("bound.fraction_of_bound", wording.percent)),
]
