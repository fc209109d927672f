"""Access patterns of a run: what each combination of factors read while decoding, and in which order.

A spread is over the trials of a combination that count and have a trace. What cannot be put into one number for several
repetitions (tables by layer and expert, the map of the file, the miss-ratio curve) is that of one of them, the
representative: the traced repetition of median decode speed, of two in the middle the slower one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pagelab.analysis.summary import Combination
from pagelab.store.record import TrialRecord

TableRow = Mapping[str, Any]
"""A row of one of a trial's tables."""

TableReader = Callable[[int, str], Sequence[TableRow]]
"""Gives the rows of a trial's table, by the trial's number and the table's name; none where it was not written."""


@dataclass(frozen=True)
class ReadPart:
    """What decoding read of some tensors: bytes for each token, and the bytes of these tensors."""

    read_bytes_per_token: float
    size_bytes: int

    @property
    def share(self) -> float:
        """How often a token read all of it."""
        return self.read_bytes_per_token / self.size_bytes


@dataclass(frozen=True)
class Pattern(Combination):
    """A combination of which only the traced trials count; its tables come from the representative."""

    read_table: TableReader

    @cached_property
    def representative(self) -> TrialRecord:
        """The trial whose tables stand for all."""
        ranked = sorted(self.counted, key=lambda trial: (trial.decode.tokens_per_second or 0.0, trial.trial))
        return ranked[(len(ranked) - 1) // 2]

    def table(self, name: str) -> Sequence[TableRow]:
        """The rows of a table of the representative."""
        return self.read_table(self.representative.trial, name)

    @cached_property
    def by_class(self) -> dict[str, ReadPart]:
        """What was read of each kind of tensor, in the order of the file; empty where that is unknown."""
        return self._read_by("tensor_class")

    @cached_property
    def by_layer(self) -> dict[int, ReadPart]:
        """What was read of each layer; empty where that is unknown."""
        return dict(sorted(self._read_by("layer").items()))

    @cached_property
    def expert_use(self) -> dict[int, list[float]]:
        """For each layer with experts, the shares of the tokens for which each was read, the most used one first."""
        tokens = self.representative.decode.tokens
        shares: dict[int, list[float]] = {}
        for row in self.table("access_experts") if tokens else ():
            if row["layer"] is not None and row["decode_tokens"] is not None:
                shares.setdefault(row["layer"], []).append(row["decode_tokens"] / tokens)
        return {layer: sorted(values, reverse=True) for layer, values in sorted(shares.items())}

    def _read_by(self, column: str) -> dict[Any, ReadPart]:
        tokens = self.representative.decode.tokens
        read: dict[Any, int] = {}
        size: dict[Any, int] = {}
        for row in self.table("access_layers") if tokens else ():
            if row[column] is not None and row["decode_read_bytes"] is not None:
                read[row[column]] = read.get(row[column], 0) + row["decode_read_bytes"]
                size[row[column]] = size.get(row[column], 0) + row["bytes"]
        return {key: ReadPart(read[key] / tokens, size[key]) for key in read if tokens and size[key]}


def patterns(found: Iterable[Combination], read_table: TableReader) -> list[Pattern]:
    """One entry for each combination with a trial that counts and knows of its reads of the model."""
    traced = [(one, tuple(trial for trial in one.counted if trial.access.model_bytes is not None)) for one in found]
    return [Pattern(one.trials, counted, one.baseline, read_table) for one, counted in traced if counted]
