"""Which parts of a model were in RAM, by kind of tensor and by layer (the table `residency` of each trial).

A share is the resident bytes of all tensors of a kind (or layer) over the bytes of these tensors, in one trial; a
spread is over the trials of one combination that count. A tensor's resident bytes are a mean over the time of decoding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pagelab.analysis.patterns import TableReader, TableRow
from pagelab.analysis.summary import Combination, Spread, spread_of


@dataclass(frozen=True)
class ResidentPart:
    """Tensors of one kind or layer: their size, and the share of it in RAM while decoding, where that was seen."""

    size_bytes: int
    decode: Spread | None


@dataclass(frozen=True)
class Resident(Combination):
    """A combination with the parts of its model, by kind of tensor and by layer."""

    by_class: dict[str, ResidentPart]
    by_layer: dict[int, ResidentPart]


def resident(found: Iterable[Combination], read_table: TableReader) -> list[Resident]:
    """One entry for each combination of which any counted trial has the table."""
    known = [(one, [rows for trial in one.counted if (rows := read_table(trial.trial, "residency"))]) for one in found]
    return [
        Resident(
            one.trials,
            one.counted,
            one.baseline,
            by_class=_parts(tables, "tensor_class"),
            by_layer=dict(sorted(_parts(tables, "layer").items())),
        )
        for one, tables in known
        if tables
    ]


def _parts(tables: Sequence[Sequence[TableRow]], column: str) -> dict[Any, ResidentPart]:
    names = dict.fromkeys(row[column] for table in tables for row in table if row[column] is not None)
    return {name: _part([[row for row in table if row[column] == name] for table in tables]) for name in names}


def _part(tables: Sequence[Sequence[TableRow]]) -> ResidentPart:
    size = max(sum(row["bytes"] for row in table) for table in tables)
    return ResidentPart(size, spread_of(_share(table) for table in tables if table))


def _share(table: Sequence[TableRow]) -> float | None:
    size, values = sum(row["bytes"] for row in table), [row["resident_decode_bytes"] for row in table]
    return None if None in values or not size else sum(values) / size
