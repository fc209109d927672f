"""The table of a run with a row a trial, as summary.parquet holds it."""

from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from pagelab.config.factors import as_text
from pagelab.store.record import TrialRecord

_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}


def summary_table(trials: Iterable[TrialRecord]) -> pa.Table:
    """One row a trial, by number; the columns are the dotted names of trial.json.

    Columns and their types follow from the record's shape alone, so that they are the same for every run. A factor that
    is a number or the word `default` is a text. Absent values are null.
    """
    rows = [trial.columns() for trial in sorted(trials, key=lambda trial: trial.trial)]
    columns = {}
    for name, kind in _columns(TrialRecord):
        values = [row.get(name) for row in rows]
        if kind == "str":
            values = [None if value is None else as_text(value) for value in values]
        columns[name] = pa.array(values, _TYPES.get(kind, pa.string()))
    return pa.table(columns)


def _columns(shape: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and kind (int, float, bool, list, str) of every plain value in a record."""
    for name, field in shape.model_fields.items():
        kinds = _plain_types(field.annotation) - {NoneType}
        kind = kinds.pop() if len(kinds) == 1 else str
        if issubclass(kind, BaseModel):
            yield from _columns(kind, f"{prefix}{name}.")
        elif kind is not dict:
            yield f"{prefix}{name}", kind.__name__


def _plain_types(annotation: Any) -> set[type]:  # an annotation has no narrower type
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return set().union(*map(_plain_types, parts))
    if origin is Annotated:
        return _plain_types(parts[0])
    return {type(value) for value in parts} if origin is Literal else {origin or annotation}
