"""Runs side by side: the speeds of each combination of factors, and whether they differ by more than chance.

Each run is held against the first one, combination by combination, by `significance.compare_rates` on the decode rates
of the trials that count; all p-values of one comparison are corrected together, by Holm's method. The test knows only
the spread between the repetitions of a run. It cannot see what all of them share (the hour, the state of host and
disk), so two runs can differ significantly though no setting does. To learn what a setting does, make it a factor of
one run, whose trials are interleaved.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pagelab.analysis.significance import MINIMUM_REPETITIONS, SIGNIFICANCE, RateRatio, compare_rates, holm
from pagelab.analysis.summary import Combination, combinations, key_of
from pagelab.config.factors import Factors
from pagelab.store.record import TrialRecord

RunVerdict = Literal["same", "slower", "faster", "not judged"]


@dataclass(frozen=True)
class Against:
    """One combination in one run against the same in the first run; `same` is short for no significant difference.

    `ratio` is that of the decode rates, this run over the first; `corrected_p_value` is its p-value after Holm's
    correction. Both are absent where nothing was judged, and `reason` then says why.
    """

    verdict: RunVerdict
    ratio: RateRatio | None = None
    corrected_p_value: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Compared:
    """One combination of factors in every run, None where a run has no trial of it."""

    runs: tuple[Combination | None, ...]
    against_first: tuple[Against, ...]
    """One entry for each run after the first."""

    @property
    def factors(self) -> Factors:
        """What is set."""
        return next(run.factors for run in self.runs if run is not None)


def compare_trials(runs: Sequence[Iterable[TrialRecord]], include_invalid: bool = False) -> list[Compared]:
    """Hold the trials of each run against the trials of the first.

    Args:
        runs: the finished trials of each run.
        include_invalid: count invalid trials too.

    Returns:
        One row for each combination of factors in any run, in the order of `summary.combinations`.
    """
    found = [{key_of(row.factors): row for row in combinations(trials, include_invalid)} for trials in runs]
    keys = dict.fromkeys(key for run in found for key in run)  # the first run's first
    rows = [tuple(run.get(key) for run in found) for key in keys]
    ratios = [[_ratio(first, other) for other in others] for first, *others in rows]
    corrected = iter(holm([ratio.p_value for line in ratios for ratio in line if ratio is not None]))
    return [
        Compared(row, tuple(_against(row[0], *pair, corrected) for pair in zip(row[1:], line, strict=True)))
        for row, line in zip(rows, ratios, strict=True)
    ]


def _ratio(first: Combination | None, other: Combination | None) -> RateRatio | None:
    if first is None or other is None or first.tokens_per_second is None or other.tokens_per_second is None:
        return None
    return compare_rates(first.tokens_per_second.values, other.tokens_per_second.values)


def _against(
    first: Combination | None, other: Combination | None, ratio: RateRatio | None, corrected: Iterator[float]
) -> Against:
    if ratio is None:
        return Against("not judged", reason=_why_not(first, other))
    p_value = next(corrected)
    if p_value >= SIGNIFICANCE:
        return Against("same", ratio, p_value)
    return Against("slower" if ratio.value < 1 else "faster", ratio, p_value)


def _why_not(first: Combination | None, other: Combination | None) -> str:
    if other is None:
        return "this run has no trial of it"
    if first is None:
        return "the first run has no trial of it"
    counts = [row.tokens_per_second.count if row.tokens_per_second else 0 for row in (first, other)]
    if min(counts) < MINIMUM_REPETITIONS:
        return f"{counts[0]} against {counts[1]} repetitions count, each needs {MINIMUM_REPETITIONS}"
    return "the repetitions do not differ at all, or one has the speed 0"
