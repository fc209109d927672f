"""The sections of the page on where the bytes came from and on what was in RAM, as tables of texts."""

from collections.abc import Callable, Sequence
from typing import Any

from pagelab.analysis.origins import Origins, counters
from pagelab.analysis.resident import Part, Resident
from pagelab.analysis.summary import Aggregate, Spread, combinations, spread_of
from pagelab.report import tables, wording
from pagelab.store.record import TrialRecord

Grid = dict[str, Any]
"""Headings and rows of cells, each with a second line that may be empty."""

_ORIGINS = {"model": "model file", "swap": "swap", "other": "others' reads"}
_COUNTERS = {
    "process_bytes": ("process", "what it read"),
    "refault_bytes": ("refaults", "of its group"),
    "page_cache_bytes": ("page cache", "traced"),
    "device_bytes": ("disk", "of the model"),
    "group_bytes": ("group", "its counters"),
    "host_bytes": ("host", "/proc/vmstat"),
}
_MOMENTS: list[tuple[str, str, Callable[[TrialRecord], float | None]]] = [
    ("asked for", "share of weights", lambda trial: trial.residency.target_fraction),
    ("room left", "by the limit", lambda trial: _room(trial)),
    ("before the load", "after eviction", lambda trial: trial.residency.before_fraction),
    ("at the first token", "", lambda trial: trial.residency.at_first_fraction),
    ("while decoding", "median in time", lambda trial: trial.residency.achieved_fraction),
    ("after the last token", "", lambda trial: trial.residency.after_fraction),
]


def origins_grid(rows: Sequence[Aggregate], found: Sequence[Origins]) -> Grid | None:
    """A row for each combination and origin: bytes per token by each counter, and how far these disagree."""
    if not found:
        return None
    known = counters(found)
    names = sorted({name for _, name in known}, key=_position)
    headings, labels = _labels(rows)
    headings.append(("from", ""))
    headings += [_COUNTERS.get(name, (name.removesuffix("_bytes").replace("_", " "), "")) for name in names]
    headings.append(("disagreement", "median, largest"))
    cells = [
        [
            *label,
            (_ORIGINS.get(origin, origin), ""),
            *(_sizes(one.bytes_per_token.get((origin, name))) for name in names),
            _disagreement(one.disagreement.get(origin)),
        ]
        for label, one in zip(labels, found, strict=True)
        for origin in dict.fromkeys(origin for origin, _ in known)
    ]
    return {"headings": headings, "rows": cells}


def _position(name: str) -> tuple[int, str]:
    order = list(_COUNTERS)
    return (order.index(name) if name in order else len(order)), name


def _sizes(spread: Spread | None) -> tables.Cell:
    if spread is None:
        return wording.ABSENT, ""
    below = f"{wording.size(spread.minimum)} to {wording.size(spread.maximum)}" if spread.count > 1 else ""
    return wording.size(spread.median), below


def _disagreement(spread: Spread | None) -> tables.Cell:
    return (wording.ABSENT, "") if spread is None else (_small_percent(spread.median), _small_percent(spread.maximum))


def _small_percent(value: float) -> str:
    return "<0.01 %" if 0 < value < 1e-4 else wording.percent(value)


def residency_grid(rows: Sequence[Aggregate], trials: Sequence[TrialRecord], include_invalid: bool) -> Grid | None:
    """The share of the weights in RAM from eviction to the end; None for runs that only know it for decoding."""
    if not any(_is_known(trial) for trial in trials):
        return None
    groups = [counted for _, counted in combinations(trials, include_invalid)]
    headings, cells = _labels(rows)
    for heading, below, value in _MOMENTS:
        spreads = [spread_of(value(trial) for trial in counted) for counted in groups]
        if any(spread is not None for spread in spreads):
            headings.append((heading, below))
            for line, spread in zip(cells, spreads, strict=True):
                line.append(_shares(spread))
    return {"headings": headings, "rows": cells}


def _is_known(trial: TrialRecord) -> bool:
    seen = trial.residency
    return (seen.before_fraction, seen.at_first_fraction, seen.after_fraction) != (None, None, None)


def _room(trial: TrialRecord) -> float | None:
    share = trial.limit.share_bytes
    return None if share is None else share / trial.weights_bytes


def _shares(spread: Spread | None) -> tables.Cell:
    if spread is None:
        return wording.ABSENT, ""
    below = f"{wording.percent(spread.minimum)} to {wording.percent(spread.maximum)}" if spread.count > 1 else ""
    return wording.percent(spread.median), below


def classes_grid(rows: Sequence[Aggregate], found: Sequence[Resident]) -> Grid | None:
    """The share of each kind of tensor in RAM while decoding; its size stands below the share before the load."""
    if not found:
        return None
    seen = {wording.combination(one.factors): one for one in found}
    kept = [row for row in rows if wording.combination(row.factors) in seen]
    names = list(dict.fromkeys(name for one in found for name in one.by_class))
    headings, cells = _labels(kept)
    headings += [(name, "in RAM, of size") for name in names]
    for line, row in zip(cells, kept, strict=True):
        parts = seen[wording.combination(row.factors)].by_class
        line += [_class_cell(parts.get(name)) for name in names]
    return {"headings": headings, "rows": cells}


def _class_cell(part: Part | None) -> tables.Cell:
    if part is None:
        return wording.ABSENT, ""
    return wording.percent(wording.median(part.decode)), f"of {wording.size(part.size_bytes)}"


def _labels(rows: Sequence[Aggregate]) -> tuple[list[tuple[str, str]], list[list[tables.Cell]]]:
    columns = tables.label_columns(rows)
    return [(heading, below) for heading, below, _ in columns], [[cell(row) for *_, cell in columns] for row in rows]
