"""Runs or hosts side by side: whether they are the same experiment, then where their hosts differ, then numbers."""

import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pagelab.analysis.significance import SIGNIFICANCE
from pagelab.analysis.speed_ratios import Against, Compared, compare_trials
from pagelab.analysis.summary import Combination
from pagelab.config.load import config_document
from pagelab.errors import ConfigError
from pagelab.store.record import SCHEMA_VERSION, RunRecord, TrialRecord, flatten
from pagelab.store.run_store import RunStore
from pagelab.store.verify import trusted

# What a run measures of its host varies a little between any two runs: a rate counts as different from 10 % on.
_RATE = "disk_read_bytes_per_second"
_RATE_TOLERANCE = 1.1
_OF_THE_MOMENT = ("used_bytes", "free_bytes", "at_start", "at_end")
_OF_THE_RUN = ("calibration", "disk_rates")
# What of a host is known to move these results much; everything else that differs is listed by --json.
_TELLING = re.compile(
    r"""
    host | operating_system | machine\..* | container_mode | lockdown | threads(\.\d+)? | llama_cpp\..* | engines\..*
    | kernel(\.release|\.command_line)? | kernel_command_line
    | cpu\.(model|physical_cores|usable_physical_cores|logical_cores|microcode|.*governor|.*boost|.*frequency.*)
    | memory_total_bytes | memory\.total_bytes | huge_pages | memory\.transparent_huge_pages\.(enabled|defrag)
    | (memory\.)?(multi_generational_lru|proactive_reclaim|ksm|zswap(\.enabled)?)
    | (memory\.)?vm\.(swappiness|min_free_kbytes|watermark_scale_factor|vfs_cache_pressure|page-cluster|dirty_ratio)
    | memory_controller | control_groups\..*
    | models_disk\.(devices\.\d+\.)?(model|driver|size_bytes|rotational|scheduler|.*write_cache)
    | models_disk\.(devices\.\d+\.)?(readahead_kib|nr_requests|max_sectors_kib)
    | models_storage\..* | models_mount\.(file_system|options) | models_file_system\.(file_system|.*options)
    | disk_read_bytes_per_second\..*
    | swap | swap\.\d+\.(kind|size_bytes|priority|disk|rotational|compressed_memory)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Difference:
    """A value that is not equal in all runs, in the order of the runs; None where a run does not have it."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that `pagelab compare` says, about two or more runs.

    `identity` is where the runs are not the same experiment, `configuration` the settings that make a difference in the
    hash of the configuration. `host` is where the manifests differ in what is known to matter (host names among it),
    `host_details` where else. `damage` has for each run what was recorded and is not what it was.
    """

    runs: tuple[RunRecord, ...]
    trials: tuple[tuple[TrialRecord, ...], ...]
    identity: tuple[Difference, ...]
    configuration: tuple[Difference, ...]
    host: tuple[Difference, ...]
    host_details: tuple[Difference, ...]
    rows: tuple[Compared, ...]
    include_invalid: bool = False
    damage: tuple[tuple[str, ...], ...] = ()

    @property
    def same_experiment(self) -> bool:
        """Whether all that identifies an experiment is equal."""
        return not self.identity

    @property
    def letters(self) -> list[str]:
        """A short name for each run: A, B and so on."""
        return [*string.ascii_uppercase, *(str(index + 1) for index in range(26, len(self.runs)))][: len(self.runs)]

    def document(self) -> dict[str, Any]:
        """The comparison as JSON values; rates are tokens a second, ratios those of a run over the first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": [_run(*each) for each in zip(self.letters, self.runs, self.trials, strict=True)],
            "same_experiment": self.same_experiment,
            "identity_differences": [asdict(difference) for difference in self.identity],
            "configuration_differences": [asdict(difference) for difference in self.configuration],
            "host_differences": [asdict(difference) for difference in self.host],
            "further_host_differences": [asdict(difference) for difference in self.host_details],
            "include_invalid": self.include_invalid,
            "damage": dict(zip(self.letters, map(list, self.damage), strict=False)),
            "significance": SIGNIFICANCE,
            "rows": [_row(row, self.letters[1:]) for row in self.rows],
        }


def compare_runs(stores: Sequence[RunStore], include_invalid: bool = False) -> Comparison:
    """Read runs and hold each against the first.

    Raises:
        ConfigError: fewer than two runs.
        StoreError: a file of a run is missing or damaged, or does not follow from what was recorded.
    """
    if len(stores) < 2:
        raise ConfigError("one run alone cannot be compared: name two or more, RESULTS/EXPERIMENT/HOST/RUN_ID each")
    runs = [store.read_run() for store in stores]
    read = [trusted(store, run) for store, run in zip(stores, runs, strict=True)]
    trials = [trials for trials, _ in read]
    identity = differences([flatten(run.identity.document()) for run in runs])
    facts = [{"host": run.host} | flatten(_lasting(run.manifest)) for run in runs]
    hosts = [difference for difference in differences(facts) if not _is_noise(difference)]
    changed = any(difference.name == "config_sha256" for difference in identity)
    return Comparison(
        runs=tuple(runs),
        trials=tuple(map(tuple, trials)),
        identity=tuple(identity),
        configuration=tuple(differences([_settings(store) for store in stores])) if changed else (),
        host=tuple(difference for difference in hosts if _is_telling(difference)),
        host_details=tuple(difference for difference in hosts if not _is_telling(difference)),
        rows=tuple(compare_trials(trials, include_invalid)),
        include_invalid=include_invalid,
        damage=tuple(tuple(damage) for _, damage in read),
    )


def differences(documents: Sequence[dict[str, Any]]) -> list[Difference]:
    """Where flat documents are not all equal, in the order in which the names come up; an absent value is None."""
    names = dict.fromkeys(name for document in documents for name in document)
    found = [Difference(name, tuple(document.get(name) for document in documents)) for name in names]
    return [difference for difference in found if any(value != difference.values[0] for value in difference.values)]


def _lasting(value: Any) -> Any:
    """A manifest without what only describes the moment or the run, its lists of records by their place."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name not in _OF_THE_MOMENT + _OF_THE_RUN}
        return {name: _lasting(item) for name, item in kept.items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {str(place): _lasting(item) for place, item in enumerate(value)}
    return value


def _is_telling(difference: Difference) -> bool:
    """Whether a difference matters; a fact that one version of pagelab records and another does not is none."""
    known_to_all = None not in difference.values or difference.name.startswith("swap.")
    return known_to_all and _TELLING.fullmatch(difference.name) is not None


def _is_noise(difference: Difference) -> bool:
    values = [value for value in difference.values if isinstance(value, int | float)]
    is_rate = difference.name.startswith(_RATE) and len(values) == len(difference.values)
    return is_rate and max(values) <= _RATE_TOLERANCE * min(values)


def _settings(store: RunStore) -> dict[str, Any]:
    """The configuration as flat names, whatever version of pagelab wrote it; models are told apart by their names."""
    document = config_document(store.read_config_text(), str(store.config_path))
    models = document.get("models")
    if isinstance(models, list) and all(isinstance(model, dict) for model in models):
        document["models"] = {str(model.get("name")): model.get("source") for model in models}
    return flatten(document)


def _run(letter: str, run: RunRecord, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    return {
        "letter": letter,
        **run.model_dump(include={"run_id", "experiment", "host", "status", "started_at", "trials_planned"}),
        "trials": len(trials),
        "forced": run.forced,
        "invalid_trials": {
            f"{trial.trial:03d}": trial.validity.reasons for trial in trials if not trial.validity.valid
        },
    }


def _row(row: Compared, letters: Sequence[str]) -> dict[str, Any]:
    return {
        "factors": row.factors.document(),
        "runs": [None if run is None else _side(run) for run in row.runs],
        "against_first": [_judged(*pair) for pair in zip(letters, row.against_first, strict=True)],
    }


def _side(run: Combination) -> dict[str, Any]:
    found = {"trials": len(run.trials), "valid": run.valid, "warnings": list(run.warnings)}
    names = ("count", "median", "minimum", "maximum")
    rates = run.tokens_per_second
    return found | ({"tokens_per_second": {name: getattr(rates, name) for name in names}} if rates else {})


def _judged(letter: str, against: Against) -> dict[str, Any]:
    found: dict[str, Any] = {"run": letter, "verdict": against.verdict}
    if against.reason is not None:
        found["reason"] = against.reason
    if (ratio := against.ratio) is not None:
        found |= {"ratio": ratio.value, "interval": [ratio.low, ratio.high]}
        found |= {"p_value": ratio.p_value, "corrected_p_value": against.corrected_p_value}
    if (ranks := against.ranks) is not None:
        found["ranks"] = {
            "faster_share": ranks.faster_share,
            "cliffs_delta": ranks.delta,
            "p_value": ranks.p_value,
            "corrected_p_value": against.corrected_rank_p_value,
        }
    return found
