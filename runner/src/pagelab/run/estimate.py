"""What a plan will take, roughly: time, results, and bytes written to swap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pagelab.config.factors import Factors
from pagelab.config.schema import Config
from pagelab.errors import StoreError
from pagelab.host.procfs import PAGE_BYTES
from pagelab.run.calibration import TOKENS_UNDER_PRESSURE
from pagelab.run.plan import Plan
from pagelab.store.run_store import RunStore, runs_of_host

ASSUMED_READ_BYTES_PER_SECOND = 1e9  # many disks do better in order and worse at random
ASSUMED_COMPUTE_BYTES_PER_SECOND = 8e9  # of weights in RAM, by the two cores of a small host
SECONDS_BETWEEN_TRIALS = 2.0
RESULT_BYTES_PER_TRIAL = 4 << 20
TRACED_PAGE_BYTES = 9  # compressed, for an event of one page: 4 as recorded, 5 in a table


@dataclass(frozen=True)
class Estimate:
    """Of all trials and calibrations of a plan; models whose size is unknown count as nothing.

    `swap_bytes` are written to swap where each byte of anonymous or repacked weights that may not stay in RAM is
    swapped out once, and stays in swap when it is read again.
    """

    seconds: float
    result_bytes: int
    swap_bytes: int


def estimate(
    plan: Plan, weights_bytes: Mapping[str, int], read_rate: float = ASSUMED_READ_BYTES_PER_SECOND
) -> Estimate:
    """What a plan takes; `read_rate` is that of the models' disk in bytes a second."""
    config = plan.config
    calibrated = {(one := trial.factors.calibrated()).label(): one for trial in plan.trials}
    models = [one.model for one in calibrated.values()]
    seconds = sum(_calibration_seconds(config, weights_bytes.get(model, 0), read_rate) for model in models)
    result, swap = 0.0, 0.0
    for trial in plan.trials:
        size = weights_bytes.get(trial.factors.model, 0)
        seconds += trial_seconds(config, trial.factors, size, read_rate) if size else 0.0
        result += _result_bytes(config, trial.factors, size)
        swap += _missing(trial.factors) * size if not config.maps_weights(trial.factors) else 0.0
    return Estimate(seconds, round(result), round(swap))


def trial_seconds(
    config: Config, factors: Factors, weights_bytes: int, read_rate: float = ASSUMED_READ_BYTES_PER_SECOND
) -> float:
    """The model is read once to load it, and its missing share again for every token, which also has to be computed."""
    tokens = config.inference.tokens
    read = weights_bytes * (1 + tokens * _missing(factors))
    return SECONDS_BETWEEN_TRIALS + read / read_rate + tokens * weights_bytes / ASSUMED_COMPUTE_BYTES_PER_SECOND


def _calibration_seconds(config: Config, weights_bytes: int, read_rate: float) -> float:
    """Loads the model twice, decodes once in RAM, and a few tokens with nothing in RAM."""
    read = weights_bytes * (2 + TOKENS_UNDER_PRESSURE)
    return read / read_rate + config.inference.tokens * weights_bytes / ASSUMED_COMPUTE_BYTES_PER_SECOND


def _missing(factors: Factors) -> float:
    return 1 - factors.resident


def _result_bytes(config: Config, factors: Factors, weights_bytes: int) -> float:
    """Where pages are traced, two events for each that is read."""
    if config.trace.page_cache == "off":
        return RESULT_BYTES_PER_TRIAL
    pages = weights_bytes * (1 + _missing(factors) * config.inference.tokens) / PAGE_BYTES
    return RESULT_BYTES_PER_TRIAL + min(2 * config.trace.most_bytes, 2 * pages * TRACED_PAGE_BYTES)


def known_read_rate(results_directory: Path, host: str) -> float | None:
    """The rate of the models' disk in bytes a second, as the newest run of this host found it; None without any."""
    for directory in runs_of_host(results_directory, host):
        try:
            rates = _rates(RunStore(directory).read_run().manifest)
        except StoreError:
            continue
        if rates:
            return median(rates)
    return None


def _rates(manifest: Mapping[str, Any]) -> list[float]:
    found = manifest.get("disk_read_bytes_per_second")
    values = found.values() if isinstance(found, dict) else ()
    return [float(value) for value in values if isinstance(value, int | float) and value > 0]
