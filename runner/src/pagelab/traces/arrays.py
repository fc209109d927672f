"""Arrays of one length side by side, as records or as columns by name, and what several modules do with them."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Columns = dict[str, NDArray[Any]]

_NUMBER_BITS = 63


@dataclass(frozen=True)
class Rows:
    """A record of arrays of one length. Its fields that are no arrays are about all rows."""

    def _arrays(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray | Rows)}

    def __len__(self) -> int:
        return len(next(iter(self._arrays().values())))

    def taken(self, which: slice | Mask | Integers) -> Self:
        """Some of the rows: a slice, a mask or their positions."""
        given = self._arrays().items()
        return replace(self, **{name: one.taken(which) if isinstance(one, Rows) else one[which] for name, one in given})


# --- columns by name --------------------------------------------------------------------------------------------------


def rows(columns: Columns, chosen: Any) -> Columns:
    """The chosen rows: a slice, positions or a mask."""
    return {name: values[chosen] for name, values in columns.items()}


def known(columns: Columns, name: str) -> Columns:
    """The rows whose index in the named column is known, so not -1."""
    which = columns[name] >= 0
    return columns if which.all() else rows(columns, which)


def joined(tables: Iterable[Columns]) -> Columns:
    """Tables with the same columns, at least one, one after the other."""
    first, *more = tables
    parts = [table for table in (first, *more) if len(table["time_ns"])]
    if len(parts) < 2:
        return parts[0] if parts else first
    return {name: np.concatenate([part[name] for part in parts]) for name in first}


def in_time(columns: Columns) -> Columns:
    """The rows by time; equal times stay in order."""
    time_ns = columns["time_ns"]
    if (time_ns[1:] >= time_ns[:-1]).all():
        return columns
    return rows(columns, np.argsort(time_ns, kind="stable"))


# --- groups and order -------------------------------------------------------------------------------------------------


def begins(*columns: NDArray[Any]) -> Mask:
    """Which rows differ from the row before them, the first among them."""
    found = np.ones(len(columns[0]), dtype=np.bool_)
    found[1:] = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        found[1:] |= column[1:] != column[:-1]
    return found


def sums(group: NDArray[Any], values: NDArray[Any], groups: int) -> Integers:
    """The sum of the values of each group, in whole numbers."""
    totals = np.zeros(groups, dtype=np.int64)
    np.add.at(totals, group, values)
    return totals


def group_count(numbers: Integers) -> int:
    """How many groups there are, by the largest of their numbers, which count from 0."""
    return int(numbers.max()) + 1 if len(numbers) else 0


def counted_from(first: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """For each row `counts` numbers from `first` on, all in one array; and beside them the row of each."""
    row = np.repeat(np.arange(len(first)), counts)
    return row, first[row] + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def position_type(count: int) -> "np.dtype[np.signedinteger]":
    """What holds positions among so many rows; four bytes each where that is enough."""
    return np.dtype(np.int32 if count < 2**31 else np.int64)


def sorted_pairs(key: Integers, other: Integers) -> tuple[Integers, Integers]:
    """Pairs by key and then by the other number, which is not below 0.

    Both go into one number where they fit, which sorts ten times faster than two columns. The stable sort is the one
    that gains from what is in order already, as most reads are.
    """
    bits = int(other.max(initial=0)).bit_length()
    if key.min(initial=0) >= 0 and int(key.max(initial=0)).bit_length() + bits <= _NUMBER_BITS:
        both = np.sort(key << bits | other, kind="stable")
        return both >> bits, both & ((1 << bits) - 1)
    order = np.lexsort((other, key))
    return key[order], other[order]


def encode(values: NDArray[Any]) -> tuple[NDArray[np.int32], list[Any]]:
    """The distinct values in the order of their first appearance, and the index of each value among them."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
