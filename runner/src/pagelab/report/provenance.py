"""The sections of the page on where the bytes came from and on what was in RAM, as tables of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pagelab.analysis.resident import Resident, ResidentPart
from pagelab.analysis.summary import Combination, Spread
from pagelab.report import tables, wording
from pagelab.report.run_data import RunData
from pagelab.store.record import Sources

_ORIGINS = {"model": "model file", "swap": "swap", "other": "others' reads"}
_COUNTERS = {
    "process_bytes": ("process", "what it read"),
    "refault_bytes": ("refaults", "of its group"),
    "page_cache_bytes": ("page cache", "traced"),
    "device_bytes": ("disk", "of the model"),
    "group_bytes": ("group", "its counters"),
    "host_bytes": ("host", "/proc/vmstat"),
}
_MOMENTS = [
    ("asked for", "share of weights", "residency.target_fraction"),
    ("room left", "by the limit", "limit.share_bytes"),
    ("before the load", "after eviction", "residency.before_fraction"),
    ("at the first token", "", "residency.at_first_fraction"),
    ("while decoding", "median in time", "residency.achieved_fraction"),
    ("after the last token", "", "residency.after_fraction"),
]


# --- where the bytes came from ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin(Combination):
    """A combination, and one of the places that its bytes came from (see `record.Sources`)."""

    origin: str

    def counted_by(self, name: str) -> Spread | None:
        """Bytes of decode by one counter, over the tokens of decode; None where this origin has no such counter."""
        shape = type(getattr(Sources(), self.origin))
        return self.per_token(f"sources.{self.origin}.{name}") if name in shape.model_fields else None


def origins_grid(data: RunData) -> tables.Grid | None:
    """A row for each combination and origin: bytes per token by each counter, and how far these disagree.

    A counter or an origin that no trial has is left out; None without any.
    """
    found = [
        Origin(one.trials, one.counted, one.baseline, origin)
        for one in data.combinations
        for origin in Sources.model_fields
    ]
    known = {(one.origin, name) for one in found for name in _COUNTERS if one.counted_by(name)}
    if not known:
        return None
    columns: list[tables.Column[Origin]] = [("from", "", lambda row: (_ORIGINS[row.origin], ""))]
    columns += [(*_COUNTERS[name], _by(name)) for name in _COUNTERS if any(name == other for _, other in known)]
    columns.append(("disagreement", "median, largest", _disagreement))
    return tables.grid(data.combinations, [one for one in found if one.origin in {name for name, _ in known}], columns)


def _by(name: str) -> Callable[[Origin], tables.Cell]:
    return lambda row: tables.median_with_range(row.counted_by(name), wording.size)


def _disagreement(row: Origin) -> tables.Cell:
    spread = row.spread(f"sources.{row.origin}.disagreement_fraction")
    return tables.NOTHING if spread is None else (_small_percent(spread.median), _small_percent(spread.maximum))


def _small_percent(value: float) -> str:
    return "<0.01 %" if 0 < value < 1e-4 else wording.percent(value)


# --- what was in RAM --------------------------------------------------------------------------------------------------


def residency_grid(data: RunData) -> tables.Grid | None:
    """The share of the weights in RAM from eviction to the end; None for runs that only know it for decoding."""
    seen = [trial.residency for trial in data.trials]
    if not any({one.before_fraction, one.at_first_fraction, one.after_fraction} - {None} for one in seen):
        return None
    columns = [
        (heading, below, _share_by(column))
        for heading, below, column in _MOMENTS
        if any(one.spread(column) for one in data.combinations)
    ]
    return tables.grid(data.combinations, data.combinations, columns)


def _share_by(column: str) -> Callable[[Combination], tables.Cell]:
    def cell(row: Combination) -> tables.Cell:
        whole = row.weights_bytes if column.endswith("_bytes") else 1.0
        return tables.median_with_range(row.spread(column), lambda share: wording.percent(share / whole))

    return cell


def classes_grid(data: RunData) -> tables.Grid | None:
    """The share of each kind of tensor in RAM while decoding, and its size."""
    if not data.resident:
        return None
    names = dict.fromkeys(name for one in data.resident for name in one.by_class)
    columns: Sequence[tables.Column[Resident]] = [(name, "in RAM, of size", _class_of(name)) for name in names]
    return tables.grid(data.resident, data.resident, columns)


def _class_of(name: str) -> Callable[[Resident], tables.Cell]:
    return lambda row: _part(row.by_class.get(name))


def _part(part: ResidentPart | None) -> tables.Cell:
    if part is None:
        return tables.NOTHING
    return wording.percent(wording.median(part.decode)), f"of {wording.size(part.size_bytes)}"
