"""The best that a trial could have done: what the disk delivers and what has to be computed, for a choice of residency.

    tokens/s <= 1 / max(missing bytes per token / disk rate, compute seconds per token)

holds where reading and computing overlap; the serial form, where neither goes on during the other, has their sum in
place of the maximum. What is missing depends on who decides what stays in RAM. A token of a dense model touches all of
its weights in the same order, so with room for a share c of them

- the best choice (L. A. Belady, IBM Systems Journal 5(2), 1966) keeps that share for good and misses 1 - c;
- one that drops a page at random misses a share m with 1 - m = exp(-m / c): a page outlives the m misses between two
  touches of it, of which each drops one of c pages;
- one that drops the least recently used page has always dropped what comes next, and misses everything.

Of a mixture of experts only the first can be said without a trace, and as a bound: the share could hold just what the
token needs. `pagelab predict` computes all three from a trace.
"""

import math

import numpy as np

from pagelab.analysis.access.replacement import POLICIES, Policy
from pagelab.host.disk_rates import DiskRates
from pagelab.store.observation import Observation
from pagelab.store.record import Bound, PolicyBound, TrialRecord

DENSE_FRACTION = 0.8  # of the weights that one token touches; with less, experts are left out
_BISECTIONS = 60


def bound_of(record: TrialRecord, seen: Observation) -> Bound:
    """The bounds of a trial, and which share of each it reached; empty where there is no decode rate.

    The disk's rate is the highest that was measured of it, and never less than what this trial saw. So is the time to
    compute a token: that of the calibration, without pressure, and never more than this trial took.
    """
    decode, rate = record.decode, record.decode.tokens_per_second
    if not rate or not decode.seconds:
        return Bound()
    needed, kept = seen.model.bytes_per_token, kept_bytes(record)
    disk_rate, source = _disk_rate(record, seen)
    compute = None if seen.compute_seconds_per_token is None else min(seen.compute_seconds_per_token, 1 / rate)
    is_dense = needed >= DENSE_FRACTION * record.weights_bytes
    missing = {
        policy: missing_in_turn(needed, kept, policy) if is_dense or policy == "best" else None for policy in POLICIES
    }
    found: dict[str, PolicyBound] = {
        policy: policy_bound(amount, disk_rate, compute, rate) for policy, amount in missing.items()
    }
    return Bound(
        read_bytes_per_second=disk_rate,
        read_rate_source=source,
        compute_seconds_per_token=compute,
        tokens_per_second=found["best"].tokens_per_second,
        fraction_of_bound=found["best"].fraction_of_bound,
        pattern_bytes_per_second=pattern_rate(record, seen.disk_rates),
        **found,
    )


def policy_bound(
    missing_bytes: float | None, disk_rate: float | None, compute_seconds: float | None, rate: float | None
) -> PolicyBound:
    """The bound for bytes that are missing for each token, overlapped and serial; absent where nothing limits.

    Args:
        missing_bytes: to be read for each token; None where it is not known.
        disk_rate: in bytes a second.
        compute_seconds: to compute a token with all weights in RAM.
        rate: tokens a second that were reached, for their share of the bound.
    """
    if missing_bytes is None or (missing_bytes > 0 and not disk_rate):
        return PolicyBound(missing_bytes_per_token=missing_bytes)
    reading = missing_bytes / disk_rate if disk_rate else 0.0
    computing = compute_seconds or 0.0
    overlapped, serial = max(reading, computing), reading + computing
    if not overlapped:
        return PolicyBound(missing_bytes_per_token=missing_bytes)
    return PolicyBound(
        missing_bytes_per_token=missing_bytes,
        tokens_per_second=1 / overlapped,
        serial_tokens_per_second=1 / serial,
        fraction_of_bound=None if rate is None else rate * overlapped,
    )


def missing_in_turn(needed: float, kept: float, policy: Policy) -> float:
    """Bytes to be read for each token, which touches `needed` bytes by turns, with room for `kept` of them."""
    if kept >= needed:
        return 0.0
    if policy == "best":
        return needed - kept
    return needed * (cyclic_random_miss_fraction(kept / needed) if policy == "random" else 1.0)


def cyclic_random_miss_fraction(share: float) -> float:
    """The share that misses where everything is touched by turns and a random page is dropped, with room for a share.

    The root m in (0, 1] of 1 - m = exp(-m / share); 0 where all has room.
    """
    if share >= 1:
        return 0.0
    if share <= 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):  # above 0, 1 - m - exp(-m / share) is positive up to the root
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - middle > math.exp(-middle / share) else (low, middle)
    return high


def kept_bytes(record: TrialRecord) -> float:
    """The most of the weights that had room: what was asked, what the limit left to them, and what was seen."""
    weights = record.weights_bytes
    seen = (record.residency.achieved_fraction or 0.0) * weights
    return max(record.factors.resident * weights, float(record.limit.share_bytes or 0), seen)


def _disk_rate(record: TrialRecord, seen: Observation) -> tuple[float | None, str | None]:
    """The highest rate that is known of the disk, and where it is from."""
    known: list[tuple[float, str]] = []
    if seen.disk_rates is not None:
        rates = seen.disk_rates
        known.append((rates.direct_bytes_per_second, "direct"))
        known.append((rates.page_cache_bytes_per_second, "page cache"))
        known += [(one.bytes_per_second, "random") for one in rates.random]
    elif seen.disk_read_bytes_per_second is not None:
        known.append((seen.disk_read_bytes_per_second, "direct"))
    for window, seconds in ((record.reads.load, record.load.seconds), (record.reads.decode, record.decode.seconds)):
        if window.device_bytes and seconds:
            known.append((window.device_bytes / seconds, "this trial"))
    return max(known, default=(None, None), key=lambda one: one[0] or 0.0)


def pattern_rate(record: TrialRecord, rates: DiskRates | None) -> float | None:
    """What the disk delivers for random reads of the size and depth that were observed while decoding."""
    size, depth = record.access.mean_read_bytes, record.access.queue_depth_mean
    if rates is None or not size or not depth:
        return None
    return random_rate(rates, size, depth)


def random_rate(rates: DiskRates, request_bytes: float, depth: float) -> float | None:
    """The rate of random reads, interpolated linearly in the logarithms of size, depth and rate; held at the ends."""
    sizes = sorted({one.request_bytes for one in rates.random})
    depths = sorted({one.depth for one in rates.random})
    table = {(one.request_bytes, one.depth): one.bytes_per_second for one in rates.random}
    if len(table) != len(sizes) * len(depths) or not all(value > 0 for value in table.values()) or not table:
        return None
    by_size = [_interpolated(depth, depths, [table[size, one] for one in depths]) for size in sizes]
    return _interpolated(request_bytes, sizes, by_size)


def _interpolated(at: float, places: list[int], values: list[float]) -> float:
    return math.exp(float(np.interp(math.log(at), np.log(places), np.log(values))))
