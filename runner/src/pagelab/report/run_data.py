"""A run as all of its report looks at it: its files are read once, and what follows from them is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from pagelab.analysis.hypotheses import Verdict, judge_hypotheses
from pagelab.analysis.patterns import Pattern, TableRow, patterns
from pagelab.analysis.resident import Resident, resident
from pagelab.analysis.summary import Combination, combinations
from pagelab.config.load import config_document, config_of
from pagelab.errors import ConfigError
from pagelab.store.record import RunRecord, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.store.verify import trusted

TABLES = {
    "tokens": {"token_index", "latency_seconds"},
    "residency": {"tensor_class", "layer", "bytes", "resident_decode_bytes"},
    "access_layers": {"layer", "tensor_class", "bytes", "decode_read_bytes", "reread_factor"},
    "access_experts": {"layer", "expert", "bytes", "decode_read_bytes", "decode_tokens"},
    "access_map": {"begin_seconds", "seconds", "offset_bytes", "bytes", "tensor_class"},
    "reuse": {"cache_bytes", "miss_ratio"},
}
"""The tables of trials that are read, with the columns that are looked at."""


@dataclass(frozen=True)
class RunData:
    """A run, its finished trials, and what they say; invalid trials enter the numbers only where that is asked for.

    `damage` are sentences on what was recorded and is not what it was: the numbers stand, and cannot be computed again.

    Raises:
        StoreError: by what reads a table of a trial, where that is damaged.
    """

    store: RunStore
    run: RunRecord
    trials: Sequence[TrialRecord]
    configuration: str = "{}"
    include_invalid: bool = False
    damage: Sequence[str] = ()
    _tables: dict[tuple[int, str], pa.Table | None] = field(default_factory=dict, init=False)
    _rows: dict[tuple[int, str], Sequence[TableRow]] = field(default_factory=dict, init=False)

    @classmethod
    def read(cls, store: RunStore, include_invalid: bool = False) -> "RunData":
        """Read a run.

        Raises:
            StoreError: a file of the run is missing or damaged, or does not follow from what was recorded.
        """
        run = store.read_run()
        trials, damage = trusted(store, run)
        return cls(store, run, trials, store.read_config_text(), include_invalid, damage)

    def table(self, trial: int, name: str) -> pa.Table | None:
        """A table of a trial; None where it was not written, or has another shape."""
        if (trial, name) not in self._tables:
            table = self.store.read_trial_table(trial, name)
            fits = table is not None and set(table.column_names) >= TABLES[name]
            self._tables[trial, name] = table if fits else None
        return self._tables[trial, name]

    def rows_of(self, trial: int, name: str) -> Sequence[TableRow]:
        """The rows of such a table; none where it is absent."""
        if (trial, name) not in self._rows:
            table = self.table(trial, name)
            self._rows[trial, name] = () if table is None else table.to_pylist()
        return self._rows[trial, name]

    @cached_property
    def combinations(self) -> list[Combination]:
        """The trials by their factors."""
        return combinations(self.trials, self.include_invalid)

    @cached_property
    def patterns(self) -> list[Pattern]:
        """What each combination with a trace read, and in which order."""
        return patterns(self.combinations, self.rows_of)

    @cached_property
    def resident(self) -> list[Resident]:
        """What was in RAM, by kind of tensor and by layer."""
        return resident(self.combinations, self.rows_of)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What became of the hypotheses; none where the configuration is of another version of pagelab.

        Raises:
            ConfigError: the configuration is damaged.
        """
        where = str(self.store.config_path)
        document = config_document(self.configuration, where)
        try:
            config = config_of(document, where)
        except ConfigError:
            return []
        return judge_hypotheses(config.hypotheses, self.trials, self.include_invalid)
