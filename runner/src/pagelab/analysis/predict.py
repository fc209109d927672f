"""Tokens a second over the share of the weights in RAM, from a run that was measured at a few shares.

What is missing for each token is simulated on the accesses of a traced trial (or follows from the model, where a token
touches all of it in turn). The kernel drops what was used least recently, nearly: that is the prediction, and random
replacement the other end of its interval. How fast the missing bytes are made good is measured: they are divided by the
time of a token beyond what its computing takes. That rate holds the disk's throughput, what is read in vain, and the
faults; between two measured shares its logarithm is interpolated. Where the windows that are read ahead have no room,
what they bring is dropped before it is used; the rate falls below that room alone. So

    seconds per token(share) = compute seconds + missing bytes(share) / useful rate(share)

Another disk's profile scales the useful rate by what that disk delivers for reads of the observed size and depth.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

import numpy as np

from pagelab.analysis.access.replacement import POLICIES, Policy, misses
from pagelab.analysis.access.spans import spans_of_trial
from pagelab.analysis.access.touches import TokenTouches, touches_of
from pagelab.analysis.access.trace_tables import read_page_events
from pagelab.analysis.bound import (
    DENSE_FRACTION,
    kept_bytes,
    missing_in_turn,
    pattern_rate,
    policy_bound,
)
from pagelab.config.factors import Factors, key_of
from pagelab.errors import StoreError
from pagelab.host.disk_rates import DiskRates
from pagelab.store.observation import Observation
from pagelab.store.record import PolicyBound, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import KIB

COMPLETE_FRACTION = 0.8  # of the bytes that a token touches; with fewer that are seen, too much stayed mapped
WARM_TOKENS = 2  # whose misses are left out of a simulation, which begins with an empty cache


@dataclass(frozen=True)
class Predicted:
    """Tokens a second at one share: the prediction with its interval, the bounds, and what was measured there, if so.

    `low` to `high` spans replacement of the least recently used and at random, and the repetitions that were measured.
    """

    resident: float
    tokens_per_second: float
    low: float
    high: float
    bounds: dict[Policy, PolicyBound]
    measured: float | None = None


@dataclass(frozen=True)
class Curve:
    """The predictions for one model with its settings. `source` says what the missing bytes were simulated on."""

    factors: Factors
    source: str
    points: tuple[Predicted, ...]


class Missing:
    """Missing bytes for each token by how much of the weights has room, for one model."""

    def __init__(self, seen: Observation, touches: TokenTouches | None) -> None:
        self._needed, self._weights = seen.model.bytes_per_token, seen.model.weights_bytes
        self._touches = touches
        self._known: dict[tuple[int, Policy], float] = {}

    def bytes_per_token(self, kept: float, policy: Policy) -> float:
        """What has to be read for each token where `kept` bytes have room."""
        if self._touches is None:
            return missing_in_turn(self._needed, kept, policy)
        if kept >= self._weights:  # blocks are larger than what is touched, so they would not all have room
            return 0.0
        room = int(kept) // self._touches.block_bytes
        if (room, policy) not in self._known:
            self._known[room, policy] = self._simulated(self._touches, room, policy)
        return self._known[room, policy]

    def kernel(self, kept: float) -> float:
        """What the kernel is taken to miss: what dropping the least recently used would."""
        return self.bytes_per_token(kept, "lru")

    def _simulated(self, touches: TokenTouches, room: int, policy: Policy) -> float:
        """Scaled to the bytes that a token needs: blocks are larger than what they are touched for."""
        first = int(touches.ends[WARM_TOKENS - 1]) if len(touches.ends) > WARM_TOKENS else 0
        missed = misses(touches.blocks, room, policy)[first:]
        return self._needed * float(missed.mean()) if len(missed) else self._needed


@dataclass(frozen=True)
class Measured:
    """One trial as the prediction sees it: room for the weights, and the useful rate in bytes a second."""

    resident: float
    kept_bytes: float
    useful_rate: float


class UsefulRate:
    """The useful rate by the room for the weights, from what was measured at some shares.

    Between two of them its logarithm is interpolated. Of two of which only one has room for `windows_bytes`, the
    change is put below that room: pages that are read ahead are then dropped before they are used.
    """

    def __init__(self, measured: Sequence[Measured], windows_bytes: float, scale: float) -> None:
        self._scale = scale
        shares = sorted({one.resident for one in measured})
        groups = [[one for one in measured if one.resident == share] for share in shares]
        places = [median(one.kept_bytes for one in group) for group in groups]
        points = [(place, [one.useful_rate for one in group]) for place, group in zip(places, groups, strict=True)]
        for (lower, _), (upper, rates) in pairwise(list(points)):
            if lower < windows_bytes < upper:
                points.append((windows_bytes, rates))
        self._points = sorted(points, key=lambda point: point[0])

    def at(self, kept: float) -> tuple[float, float, float]:
        """By the least, the median and the greatest of the repetitions."""
        places = [place for place, _ in self._points]

        def rate(choose: Callable[[list[float]], float]) -> float:
            logarithms = [math.log(choose(rates)) for _, rates in self._points]
            return self._scale * math.exp(float(np.interp(kept, places, logarithms)))

        return rate(min), rate(median), rate(max)


def windows_bytes(trial: TrialRecord) -> float:
    """Room for what is read ahead: for each thread a window that is used and the next one; 0 where it is not known."""
    command = trial.command
    threads = int(command[command.index("--threads") + 1]) if "--threads" in command else 0
    return 2.0 * threads * (trial.readahead.effective_kib or 0) * KIB


def predict_run(
    store: RunStore, trials: Sequence[TrialRecord], shares: Sequence[float], disk: DiskRates | None = None
) -> list[Curve]:
    """Predict for each model and its settings in a run.

    Args:
        store: the run.
        trials: its trials that count.
        shares: of the weights in RAM, for which to predict.
        disk: the profile of another disk; None for the run's own.

    Raises:
        StoreError: there is no trial under pressure to learn from, or a file is damaged.
    """
    decoded = sorted((one for one in trials if one.decode.tokens_per_second), key=_settings)
    curves = []
    for _, grouped in groupby(decoded, key=_settings):
        group = list(grouped)
        if any(one.factors.limited for one in group):
            curves.append(_curve(store, group, shares, disk))
    if not curves:
        raise StoreError(f"{store.directory} has no valid trial under pressure, which a prediction starts from")
    return curves


def _settings(trial: TrialRecord) -> tuple[str, ...]:
    return key_of(trial.factors, "resident")


def _curve(store: RunStore, trials: Sequence[TrialRecord], shares: Sequence[float], disk: DiskRates | None) -> Curve:
    source = min((one for one in trials if one.factors.limited), key=lambda one: one.factors.resident)
    seen = store.read_observation(source.trial)
    touches = _complete_touches(store, source, seen)
    if touches is None and seen.model.bytes_per_token < DENSE_FRACTION * source.weights_bytes:
        raise StoreError(
            f"trial {source.trial:03d} has no trace that tells which experts its tokens touched, as resident 0.0 and "
            "trace.page_cache: faults would"
        )
    missing, compute = Missing(seen, touches), _compute_seconds(trials, seen)
    measured = [one for trial in trials if (one := _measured(trial, missing, compute)) is not None]
    if not measured:
        raise StoreError(f"no trial of {source.factors.label()} was slower than its computing: nothing can be learnt")
    useful = UsefulRate(measured, windows_bytes(source), _scale(source, seen, disk))
    rates = disk or seen.disk_rates
    points = []
    for share in shares:
        kept = max(share * source.weights_bytes, min(one.kept_bytes for one in measured))
        points.append(_point(share, kept, missing, compute, useful, rates, _rate_at(trials, share)))
    origin = "the weights in turn" if touches is None else f"the accesses of trial {source.trial:03d}"
    return Curve(source.factors, origin, tuple(points))


def _point(
    share: float,
    kept: float,
    missing: Missing,
    compute: float,
    useful: UsefulRate,
    rates: DiskRates | None,
    known: float | None,
) -> Predicted:
    least, middle, most = useful.at(kept)

    def tokens_per_second(missing_bytes: float, rate: float) -> float:
        return 1 / (compute + missing_bytes / rate)

    each = {policy: missing.bytes_per_token(kept, policy) for policy in POLICIES}
    disk_rate = rates.most_bytes_per_second if rates else None
    ends = [tokens_per_second(amount, rate) for amount in (each["random"], each["lru"]) for rate in (least, most)]
    return Predicted(
        share,
        tokens_per_second(missing.kernel(kept), middle),
        min(ends),
        max(ends),
        {policy: policy_bound(amount, disk_rate, compute, None) for policy, amount in each.items()},
        known,
    )


def _measured(trial: TrialRecord, missing: Missing, compute: float) -> Measured | None:
    """None for a trial that misses nothing, or took no longer than computing does."""
    rate, kept = trial.decode.tokens_per_second, kept_bytes(trial)
    beyond = 1 / rate - compute if rate else 0.0
    amount = missing.kernel(kept)
    if not trial.factors.limited or not rate or beyond <= 0 or amount <= 0:
        return None
    return Measured(trial.factors.resident, kept, amount / beyond)


def _compute_seconds(trials: Iterable[TrialRecord], seen: Observation) -> float:
    """Seconds that a token takes to compute: in the run's own baseline, or in its calibration."""
    baseline = [1 / rate for one in trials if not one.factors.limited and (rate := one.decode.tokens_per_second)]
    return median(baseline) if baseline else seen.compute_seconds_per_token or 0.0


def _complete_touches(store: RunStore, trial: TrialRecord, seen: Observation) -> TokenTouches | None:
    """The touches of a trial, where its trace has nearly all of them."""
    path = store.trial_table_path(trial.trial, "page_cache")
    if not path.is_file():
        return None
    touches = touches_of(read_page_events(path), spans_of_trial(store, trial))
    return touches if touches.bytes_per_token >= COMPLETE_FRACTION * seen.model.bytes_per_token else None


def _scale(trial: TrialRecord, seen: Observation, disk: DiskRates | None) -> float:
    """How much faster another disk is for reads as the trial's were."""
    if disk is None or seen.disk_rates is None:
        return 1.0
    own, other = pattern_rate(trial, seen.disk_rates), pattern_rate(trial, disk)
    if own is None or other is None:
        own, other = seen.disk_rates.most_bytes_per_second, disk.most_bytes_per_second
    return other / own if own else 1.0


def _rate_at(trials: Sequence[TrialRecord], share: float) -> float | None:
    rates = [one.decode.tokens_per_second for one in trials if math.isclose(one.factors.resident, share, abs_tol=1e-9)]
    known = [rate for rate in rates if rate is not None]
    return median(known) if known else None


def relative_errors(curve: Curve, measured: Sequence[TrialRecord]) -> list[float]:
    """How far the predictions of a curve are from the median rates of other trials of the same settings, as shares."""
    same = [one for one in measured if key_of(one.factors, "resident") == key_of(curve.factors, "resident")]
    known = [(point, _rate_at(same, point.resident)) for point in curve.points]
    return [abs(point.tokens_per_second / rate - 1) for point, rate in known if rate]
