"""The section of the page on what was read and in which order: its tables and its files."""

from collections.abc import Callable

import pyarrow as pa

from pagelab.analysis.patterns import Pattern
from pagelab.report import tables, wording
from pagelab.report.run_data import RunData
from pagelab.store.record import TrialRecord

_COLUMNS = [
    ("access.sequential_fraction", "in order", "share of bytes", wording.percent),
    ("access.sequential_fraction_notes", "notes' rule", "share of gaps", wording.percent),
    ("access.sequential_fraction_next", "next to the last", "share of reads", wording.percent),
    ("access.mean_read_bytes", "read size", "mean", wording.size),
    ("access.n50_run_bytes", "run", "N50", wording.size),
    ("access.model_bytes_per_token", "read/token", "of the model", wording.size),
    ("access.reread_factor", "re-read", "factor", wording.number),
    ("access.coverage_fraction", "coverage", "of the file", wording.percent),
    ("access.read_amplification_per_token", "amplification", "read/mapped", wording.number),
    ("access.latency_p50_seconds", "latency", "median", wording.short_time),
    ("access.latency_p99_seconds", "latency", "99th percentile", wording.short_time),
    ("access.queue_depth_mean", "under way", "reads, mean", wording.number),
]
_EXPORTED = ("access_layers", "access_experts", "reuse")


def order_grid(data: RunData) -> tables.Grid | None:
    """A row for each combination with a trace: medians, with the least and the greatest below; None without any."""
    if not data.patterns:
        return None
    columns = [
        (heading, below, _cell_of(name, text))
        for name, heading, below, text in _COLUMNS
        if any(one.spread(name) for one in data.patterns)
    ]
    return tables.grid(data.combinations, data.patterns, columns)


def _cell_of(name: str, text: Callable[[float], str]) -> Callable[[Pattern], tables.Cell]:
    return lambda row: tables.median_with_range(row.spread(name), text)


def kinds_grid(data: RunData) -> tables.Grid | None:
    """What a token read of each kind of tensor, and how often over that is its size; None without the tables."""
    known = [one for one in data.patterns if one.by_class]
    if not known:
        return None
    names = dict.fromkeys(name for one in known for name in one.by_class)
    columns = [(name.replace("_", " "), "read/token, of size", _kind_of(name)) for name in names]
    return tables.grid(data.combinations, known, columns)


def _kind_of(name: str) -> Callable[[Pattern], tables.Cell]:
    def cell(row: Pattern) -> tables.Cell:
        if name not in row.by_class:
            return tables.NOTHING
        part = row.by_class[name]
        below = f"{wording.number(part.share)}{wording.TIMES} of {wording.size(part.size_bytes)}"
        return wording.size(part.read_bytes_per_token), below

    return cell


def exported_tables(data: RunData) -> dict[str, pa.Table]:
    """The tables of all traced trials one below the other, with the trial's number and factors first.

    Raises:
        StoreError: a table is damaged.
    """
    found = {}
    for name in _EXPORTED:
        pairs = [(trial, data.table(trial.trial, name)) for trial in data.trials]
        parts = [_with_labels(table, trial) for trial, table in pairs if table is not None]
        whole = pa.concat_tables(parts) if parts else None
        if whole is not None and whole.num_rows:
            found[name] = whole
    return found


def _with_labels(table: pa.Table, trial: TrialRecord) -> pa.Table:
    types = {"trial": pa.int64(), "valid": pa.bool_(), "resident": pa.float64()}
    labels = {"trial": trial.trial, "valid": trial.validity.valid, **trial.factors.document()}
    for place, (name, value) in enumerate(labels.items()):
        values = [value if name in types else str(value)] * table.num_rows
        table = table.add_column(place, name, pa.array(values, types.get(name, pa.string())))
    return table.replace_schema_metadata()
