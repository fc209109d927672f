"""Runs side by side: the speeds of each combination of factors, and whether they differ by more than chance.

Each run is held against the first one, combination by combination, by `significance.compare_rates` on the decode rates
of the trials that count, which decides, and by `significance.compare_ranks` beside it; all p-values of one test are
corrected together, by Holm's method. The tests know only the spread between the repetitions of a run. They cannot see
what all of them share (the hour, the state of host and disk), so two runs can differ significantly though no setting
does. To learn what a setting does, make it a factor of one run, whose trials are interleaved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pagelab.analysis.bootstrap import MINIMUM_REPETITIONS
from pagelab.analysis.significance import SIGNIFICANCE, RankTest, RateRatio, compare_ranks, compare_rates, holm
from pagelab.analysis.summary import Combination, combinations
from pagelab.config.factors import Factors, key_of
from pagelab.store.record import TrialRecord

RunVerdict = Literal["same", "slower", "faster", "not judged"]


@dataclass(frozen=True)
class Against:
    """One combination in one run against the same in the first run; `same` is short for no significant difference.

    `ratio` is that of the decode rates, this run over the first, and `ranks` how often this run is the faster one; each
    with its p-value after Holm's correction. All are absent where nothing was judged, and `reason` then says why.
    """

    verdict: RunVerdict
    ratio: RateRatio | None = None
    corrected_p_value: float | None = None
    ranks: RankTest | None = None
    corrected_rank_p_value: float | None = None
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
    judged = iter(_judge([(first, other) for first, *others in rows for other in others]))
    return [Compared(row, tuple(next(judged) for _ in row[1:])) for row in rows]


def _judge(pairs: Sequence[tuple[Combination | None, Combination | None]]) -> list[Against]:
    tested = [_test(*pair) for pair in pairs]
    p_values = iter(holm([ratio.p_value for ratio, _ in filter(None, tested)]))
    rank_p_values = iter(holm([ranks.p_value for _, ranks in filter(None, tested)]))
    return [
        Against("not judged", reason=_why_not(*pair))
        if tests is None
        else _against(*tests, next(p_values), next(rank_p_values))
        for pair, tests in zip(pairs, tested, strict=True)
    ]


def _test(first: Combination | None, other: Combination | None) -> tuple[RateRatio, RankTest] | None:
    if first is None or other is None or first.tokens_per_second is None or other.tokens_per_second is None:
        return None
    rates = first.tokens_per_second.values, other.tokens_per_second.values
    ratio = compare_rates(*rates)
    return None if ratio is None else (ratio, compare_ranks(*rates))


def _against(ratio: RateRatio, ranks: RankTest, p_value: float, rank_p_value: float) -> Against:
    verdict: RunVerdict = "slower" if ratio.value < 1 else "faster"
    return Against("same" if p_value >= SIGNIFICANCE else verdict, ratio, p_value, ranks, rank_p_value)


def _why_not(first: Combination | None, other: Combination | None) -> str:
    if other is None:
        return "this run has no trial of it"
    if first is None:
        return "the first run has no trial of it"
    counts = [row.tokens_per_second.count if row.tokens_per_second else 0 for row in (first, other)]
    if min(counts) < MINIMUM_REPETITIONS:
        return f"{counts[0]} against {counts[1]} repetitions count, each needs {MINIMUM_REPETITIONS}"
    return "the repetitions do not differ at all, or one has the speed 0"
