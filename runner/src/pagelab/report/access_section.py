"""The section of the page on what was read and in which order: its tables, its sentences, and its files."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pagelab.analysis.patterns import TABLES, Pattern, read_by
from pagelab.analysis.summary import Aggregate, Spread
from pagelab.report import tables, wording
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore

if TYPE_CHECKING:
    import pyarrow as pa

Grid = dict[str, Any]
"""Headings and rows of cells, each with a second line that may be empty."""

_COLUMNS: list[tuple[str, str, str, Callable[[float | None], str]]] = [
    ("sequential_fraction", "in order", "share of bytes", wording.percent),
    ("sequential_fraction_notes", "notes' rule", "share of gaps", wording.percent),
    ("sequential_fraction_next", "next to the last", "share of reads", wording.percent),
    ("mean_read_bytes", "read size", "mean", wording.size),
    ("n50_run_bytes", "run", "half of the bytes", wording.size),
    ("model_bytes_per_token", "read/token", "of the model", wording.size),
    ("reread_factor", "re-read", "factor", wording.number),
    ("coverage_fraction", "coverage", "of the file", wording.percent),
    ("read_amplification_per_token", "amplification", "read/mapped", wording.number),
    ("latency_p50_seconds", "latency", "median", wording.short_time),
    ("latency_p99_seconds", "latency", "99th percentile", wording.short_time),
    ("queue_depth_mean", "under way", "reads, mean", wording.number),
]
EXPORTED = ("access_layers", "access_experts", "reuse")


def order_grid(rows: Sequence[Aggregate], found: Sequence[Pattern]) -> Grid | None:
    """A row for each combination with a trace: medians, with the least and the greatest below; None without any."""
    if not found:
        return None
    columns = [column for column in _COLUMNS if any(column[0] in one.spreads for one in found)]
    headings, cells = _labels(rows, found)
    headings += [(heading, below) for _, heading, below, _ in columns]
    for line, one in zip(cells, found, strict=True):
        line += [_cell(one.spreads.get(name), text) for name, _, _, text in columns]
    return {"headings": headings, "rows": cells}


def kinds_grid(rows: Sequence[Aggregate], found: Sequence[Pattern]) -> Grid | None:
    """What a token read of each kind of tensor, and how often over that is its size; None without the tables."""
    known = [one for one in found if read_by(one, "tensor_class")]
    if not known:
        return None
    names = list(dict.fromkeys(name for one in known for name in read_by(one, "tensor_class")))
    headings, cells = _labels(rows, known)
    headings += [(name.replace("_", " "), "read/token, of size") for name in names]
    for line, one in zip(cells, known, strict=True):
        parts = read_by(one, "tensor_class")
        for name in names:
            part = parts.get(name)
            line.append(
                (wording.ABSENT, "")
                if part is None
                else (
                    wording.size(part.read_bytes_per_token),
                    f"{wording.number(part.share)}{wording.TIMES} of {wording.size(part.size_bytes)}",
                )
            )
    return {"headings": headings, "rows": cells}


def exported_tables(store: RunStore, trials: Sequence[TrialRecord]) -> dict[str, "pa.Table"]:
    """The tables of all traced trials one below the other, with the trial's number and factors first.

    Raises:
        StoreError: a table is damaged.
    """
    import pyarrow as pa

    found = {}
    for name in EXPORTED:
        parts = [
            _with_labels(table, trial)
            for trial in trials
            if (table := store.read_trial_table(trial.trial, name)) is not None
            and set(table.column_names) >= TABLES[name]
        ]
        whole = pa.concat_tables([part.replace_schema_metadata() for part in parts]) if parts else None
        if whole is not None and whole.num_rows:
            found[name] = whole
    return found


def _with_labels(table: "pa.Table", trial: TrialRecord) -> "pa.Table":
    import pyarrow as pa

    types = {"trial": pa.int64(), "valid": pa.bool_(), "resident": pa.float64()}
    labels = {"trial": trial.trial, "valid": trial.validity.valid, **trial.factors.document()}
    for place, (name, value) in enumerate(labels.items()):
        kind = types.get(name, pa.string())
        column = pa.array([value if name in types else str(value)] * table.num_rows, kind)
        table = table.add_column(place, name, column)
    return table


def _labels(
    rows: Sequence[Aggregate], found: Sequence[Pattern]
) -> tuple[list[tuple[str, str]], list[list[tables.Cell]]]:
    """Headings and cells that tell the combinations with a trace apart."""
    by_factors = {wording.combination(row.factors): row for row in rows}
    kept = [by_factors[wording.combination(one.factors)] for one in found]
    columns = tables.label_columns(rows)
    return [(heading, below) for heading, below, _ in columns], [[cell(row) for *_, cell in columns] for row in kept]


def _cell(spread: Spread | None, text: Callable[[float | None], str]) -> tables.Cell:
    if spread is None:
        return wording.ABSENT, ""
    below = f"{text(spread.minimum)} to {text(spread.maximum)}" if spread.count > 1 else ""
    return text(spread.median), below
