"""Whether the repetitions of one combination of factors can be relied on, and what to do where they cannot.

All of it is computed on the logarithms of the decode rates, since speeds vary by factors, and none of it drops a value.
Criteria (Engelman and Hartigan 1969 for two groups, Iglewicz and Hoaglin 1993 for outliers), their critical values and
what they find are in docs/statistics.md; tests/unit/analysis/test_repeatability.py draws the critical values again.
"""

import bisect
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pagelab.analysis.bootstrap import MINIMUM_REPETITIONS

UNSTABLE_DEVIATION = 0.10
RELEVANT_DISTANCE = 0.10
MINIMUM_FOR_SHAPE = 5

SIZES = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 25, 30, 40, 60)
EXPLAINED_99 = (
    0.9825, 0.9675, 0.9515, 0.9363, 0.9213, 0.9086, 0.8969, 0.8862, 0.8765, 0.8687,
    0.8603, 0.8539, 0.8468, 0.8411, 0.8350, 0.8304, 0.8100, 0.7944, 0.7725, 0.7466,
)  # fmt: skip
MODIFIED_Z_99 = (
    18.73, 10.15, 10.65, 7.91, 8.22, 6.86, 6.97, 6.30, 6.42, 5.91,
    5.98, 5.57, 5.63, 5.41, 5.43, 5.23, 5.01, 4.79, 4.59, 4.41,
)  # fmt: skip

NumberedRate = tuple[int, float]
"""A trial's number and its decode rate in tokens a second."""


@dataclass(frozen=True)
class Bimodal:
    """Two groups into which the rates of one combination fall, the slower one first."""

    slow: tuple[NumberedRate, ...]
    fast: tuple[NumberedRate, ...]


def bimodal(rates: Sequence[NumberedRate]) -> Bimodal | None:
    """The two groups of rates, None where the rates are too few or do not fall into two."""
    if len(rates) < MINIMUM_FOR_SHAPE or min(rate for _, rate in rates) <= 0:
        return None
    ordered = sorted(rates, key=lambda pair: pair[1])
    logarithms = [math.log(rate) for _, rate in ordered]
    total = _sum_of_squares(logarithms)
    if total == 0:
        return None
    explained, split = max(
        (1 - (_sum_of_squares(logarithms[:at]) + _sum_of_squares(logarithms[at:])) / total, at)
        for at in range(2, len(ordered) - 1)
    )
    distance = statistics.fmean(logarithms[split:]) - statistics.fmean(logarithms[:split])
    if explained <= _critical(EXPLAINED_99, len(rates)) or distance < math.log1p(RELEVANT_DISTANCE):
        return None
    return Bimodal(tuple(ordered[:split]), tuple(ordered[split:]))


def outliers(rates: Sequence[NumberedRate]) -> list[NumberedRate]:
    """The rates that lie far from the median, in the order given; empty where there are too few to tell."""
    if len(rates) < MINIMUM_FOR_SHAPE or min(rate for _, rate in rates) <= 0:
        return []
    logarithms = [math.log(rate) for _, rate in rates]
    middle = statistics.median(logarithms)
    distances = [abs(value - middle) for value in logarithms]
    least = max(
        math.log1p(RELEVANT_DISTANCE),
        _critical(MODIFIED_Z_99, len(rates)) * statistics.median(distances) / 0.6745,
    )
    return [pair for pair, distance in zip(rates, distances, strict=True) if distance > least]


def warnings(rates: Sequence[NumberedRate]) -> Iterator[str]:
    """What is wrong with the repetitions that count, each with what to do about it."""
    if len(rates) < MINIMUM_REPETITIONS:
        count = ("no repetition counts", "only 1 repetition counts", "only 2 repetitions count")[len(rates)]
        yield (
            f"{count}: {MINIMUM_REPETITIONS} are needed to judge the spread and {MINIMUM_FOR_SHAPE} to see outliers: "
            "raise `repetitions`, or remove what made trials invalid, and run again"
        )
        return
    values = [rate for _, rate in rates]
    deviation = statistics.stdev(values) / statistics.fmean(values) if any(values) else 0.0
    if deviation >= UNSTABLE_DEVIATION:
        yield (
            f"tokens/s are unstable, their standard deviation is {deviation * 100:.0f} % of the mean: "
            "use more repetitions, or look for other load on the host"
        )
    groups = bimodal(rates)
    if groups is not None:
        yield _words_for(groups)
        return
    found = outliers(rates)
    if found:
        yield (
            f"{_named(found)} far from the median of {statistics.median(values):.3g} tokens/s: it still counts; "
            "read its llama.log and what else the host did then, and use more repetitions"
        )


def _words_for(groups: Bimodal) -> str:
    parts = [
        f"{statistics.median(rate for _, rate in group):.3g} (trials {', '.join(_numbers(group))})"
        for group in (groups.slow, groups.fast)
    ]
    return (
        f"tokens/s are bimodal, in two groups around {parts[0]} and {parts[1]}, and a median between them was never "
        "measured: compare these trials, use more repetitions, and values of `resident` on either side of this one"
    )


def _named(found: Sequence[NumberedRate]) -> str:
    parts = [f"{number:03d} with {rate:.3g} tokens/s" for number, rate in sorted(found)]
    return f"trial {parts[0]} lies" if len(parts) == 1 else f"trials {', '.join(parts)} lie"


def _numbers(group: Sequence[NumberedRate]) -> list[str]:
    return [f"{number:03d}" for number in sorted(number for number, _ in group)]


def _sum_of_squares(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _critical(table: Sequence[float], count: int) -> float:
    return table[bisect.bisect_right(SIZES, count) - 1]
