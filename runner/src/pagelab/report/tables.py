"""The columns of a run's tables, and what stands in them, for the terminal and for the page."""

from collections.abc import Callable, Sequence

from pagelab.analysis.summary import Aggregate, Spread
from pagelab.report import wording
from pagelab.report.wording import DASH, TIMES
from pagelab.store.record import RunRecord, TrialRecord

Cell = tuple[str, str]
"""The figure itself and a second line below it, such as its spread; the second may be empty."""

Column = tuple[str, str, Callable[[Aggregate], Cell]]
"""Heading, second heading, and what a row has below them."""

LABELS: list[Column] = [
    ("in RAM", "weights", lambda row: (wording.percent(row.factors.resident), "")),
    ("pressure", "", lambda row: (wording.pressure(row.factors), "")),
]
SUMMARY: list[Column] = [
    ("tokens/s", f"min{DASH}max", lambda row: _with_extremes(row)),
    ("slowdown", f"min{DASH}max", lambda row: _slowdown(row)),
    ("read/token", f"{TIMES} weights", lambda row: _read(row)),
    ("from file", "per token", lambda row: (wording.size(wording.median(row.model_bytes_per_token)), "")),
    ("from swap", "per token", lambda row: (wording.size(wording.median(row.swap_bytes_per_token)), "")),
    ("disk", "GB/s", lambda row: (_gigabytes(row), "")),
    ("limit", "felt", lambda row: (wording.limit_felt(row), "")),
    ("valid", "trials", lambda row: (f"{row.valid}/{row.trials}", "")),
]
_SPREAD: list[Column] = [
    ("n", "", lambda row: (str(row.tokens_per_second.count if row.tokens_per_second else 0), "")),
    ("median", "tokens/s", lambda row: (wording.number(wording.median(row.tokens_per_second)), "")),
    ("mean", "tokens/s", lambda row: (_of_rates(row, lambda rates: wording.number(rates.mean)), "")),
    ("standard deviation", "tokens/s", lambda row: (_of_rates(row, lambda rates: wording.number(rates.deviation)), "")),
    ("relative", "", lambda row: (_of_rates(row, lambda rates: wording.percent(rates.relative_deviation)), "")),
    ("95 % interval", "tokens/s", lambda row: (_of_rates(row, _interval), "")),
    (
        "first token after",
        "median",
        lambda row: (wording.duration(wording.median(row.time_to_first_token_seconds)), ""),
    ),
    ("weights seen in RAM", "median", lambda row: (wording.percent(wording.median(row.achieved_fraction)), "")),
    ("share of the disk's bound", "median", lambda row: (wording.percent(wording.median(row.fraction_of_bound)), "")),
]


def summary_columns(rows: Sequence[Aggregate]) -> list[Column]:
    """The columns of the summary; model and settings have one only where they vary."""
    return label_columns(rows) + SUMMARY


def spread_columns(rows: Sequence[Aggregate]) -> list[Column]:
    """The columns of the table of spreads: how far the repetitions lie apart, and what else has a median."""
    return label_columns(rows) + _SPREAD


def label_columns(rows: Sequence[Aggregate]) -> list[Column]:
    """The columns that tell the rows apart."""
    return _varying_columns(rows) + LABELS


def _varying_columns(rows: Sequence[Aggregate]) -> list[Column]:
    columns: list[Column] = []
    if len({row.factors.model for row in rows}) > 1:
        columns.append(("model", "weights", lambda row: (row.factors.model, wording.size(row.weights_bytes))))
    varying, _ = wording.split_settings([row.factors for row in rows])
    if varying:
        columns.append(("settings", "", lambda row: (wording.settings(row.factors, varying), "")))
    return columns


def common_settings(rows: Sequence[Aggregate]) -> str:
    """What every row has in common, in words; empty without rows."""
    if not rows:
        return ""
    parts = [model_words(rows[0])] if len({row.factors.model for row in rows}) == 1 else []
    _, same = wording.split_settings([row.factors for row in rows])
    parts += [wording.settings(rows[0].factors, [name]) for name in same]
    return ", ".join(parts)


def warning_lines(
    run: RunRecord, trials: Sequence[TrialRecord], rows: Sequence[Aggregate], include_invalid: bool = False
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


def _spread_warnings(rows: Sequence[Aggregate]) -> list[str]:
    """Each warning about repetitions once, after the combinations that it is about."""
    varying, _ = wording.split_settings([row.factors for row in rows])
    about: dict[str, dict[str, None]] = {}
    for row in rows:
        for warning in row.warnings:
            label = f"{row.factors.model}, {wording.place(row.factors, varying)}"
            about.setdefault(warning, {})[label] = None
    places = {warning: "; ".join(labels) for warning, labels in about.items()}
    everywhere = [warning for warning in about if len(rows) > 1 and all(warning in row.warnings for row in rows)]
    places |= dict.fromkeys(everywhere, "every combination")
    return [f"{place}: {warning}." for warning, place in places.items()]


def model_words(row: Aggregate) -> str:
    """The model, and the size of its weights."""
    return f"{row.factors.model} ({wording.size(row.weights_bytes)} of weights)"


def _with_extremes(row: Aggregate) -> Cell:
    return wording.number(wording.median(row.tokens_per_second)), wording.extremes(row.tokens_per_second)


def _slowdown(row: Aggregate) -> Cell:
    if row.is_baseline:
        return ("baseline" if row.tokens_per_second else wording.ABSENT), ""
    return wording.times(row.slowdown), wording.ratio_extremes(row.slowdown)


def _read(row: Aggregate) -> Cell:
    share = row.read_share_of_weights
    below = "" if share is None else f"{wording.number(share)}{TIMES}"
    return wording.size(wording.median(row.read_bytes_per_token)), below


def _of_rates(row: Aggregate, text: Callable[[Spread], str]) -> str:
    return text(row.tokens_per_second) if row.tokens_per_second else wording.ABSENT


def _interval(rates: Spread) -> str:
    if rates.interval is None:
        return wording.ABSENT
    low, high = rates.interval
    return f"{wording.number(low)} to {wording.number(high)}"


def _gigabytes(row: Aggregate) -> str:
    rate = wording.median(row.read_bytes_per_second)
    if rate is not None and 0 < rate < 1e6:  # a baseline's reads of almost nothing would take a wide column
        return "<0.001"
    return wording.number(None if rate is None else rate / 1e9)
