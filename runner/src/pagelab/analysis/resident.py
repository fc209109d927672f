"""Which parts of a model were in RAM, by kind of tensor and by layer (the table `residency` of each trial).

A share is the resident bytes of all tensors of a kind (or layer) over the bytes of these tensors, in one trial; a
spread is over the trials of one combination that count. While decoding, a tensor's resident bytes are a mean over time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagelab.analysis.summary import Spread, combinations, spread_of
from pagelab.config.factors import Factors
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore

_TABLE = "residency"
_MOMENTS = {"before": "resident_before_bytes", "decode": "resident_decode_bytes", "after": "resident_after_bytes"}
_COLUMNS = {"tensor_class", "layer", "bytes", *_MOMENTS.values()}

TensorRow = Mapping[str, Any]
"""A row of the table: tensor_class, layer (None outside the layers), and numbers of bytes."""

TensorRows = Mapping[int, Sequence[TensorRow]]
"""The rows of each trial that has them, by its number."""


@dataclass(frozen=True)
class Part:
    """Tensors of one kind or layer: their size, and the share of it in RAM; absent where it was not seen."""

    size_bytes: int
    before: Spread | None
    decode: Spread | None
    after: Spread | None


@dataclass(frozen=True)
class Resident:
    """One combination of factors: its parts by kind of tensor, and by layer."""

    factors: Factors
    by_class: dict[str, Part]
    by_layer: dict[int, Part]


def read_tensor_rows(store: RunStore, trials: Iterable[TrialRecord]) -> TensorRows:
    """The tables of a run; a trial without one, or with one of another shape, is left out.

    Raises:
        StoreError: a table is damaged.
    """
    tables = {trial.trial: store.read_trial_table(trial.trial, _TABLE) for trial in trials}
    return {
        number: table.to_pylist()
        for number, table in tables.items()
        if table is not None and set(table.column_names) >= _COLUMNS
    }


def resident(trials: Iterable[TrialRecord], rows: TensorRows, include_invalid: bool = False) -> list[Resident]:
    """One entry for each combination that has any table, in the order of the summary."""
    found = []
    for group, counted in combinations(trials, include_invalid):
        tables = [rows[trial.trial] for trial in counted if trial.trial in rows]
        if tables:
            by_class = _parts(tables, lambda row: row["tensor_class"])
            by_layer = _parts(tables, lambda row: row["layer"])
            found.append(Resident(group[0].factors, by_class, dict(sorted(by_layer.items()))))
    return found


def _parts(tables: Sequence[Sequence[TensorRow]], name: Callable[[TensorRow], Any]) -> dict[Any, Part]:
    names = dict.fromkeys(name(row) for table in tables for row in table if name(row) is not None)
    return {one: _part([[row for row in table if name(row) == one] for table in tables]) for one in names}


def _part(tables: Sequence[Sequence[TensorRow]]) -> Part:
    shares = {
        moment: spread_of(_share(table, column) for table in tables if table) for moment, column in _MOMENTS.items()
    }
    return Part(size_bytes=max(sum(row["bytes"] for row in table) for table in tables), **shares)


def _share(table: Sequence[TensorRow], column: str) -> float | None:
    size, values = sum(row["bytes"] for row in table), [row[column] for row in table]
    return None if None in values or not size else sum(values) / size
