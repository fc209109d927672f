"""Runs side by side: the speeds of each combination of factors, and whether they differ by more than chance.

Each run is held against the first one, combination by combination, by `significance.compare_rates` on the decode rates
of the trials that count; all p-values of one comparison are corrected together, by Holm's method. What the test
takes for chance is the spread between the repetitions of a run. Everything that all of a run's repetitions share (its
hour, the state of its host and disk) is no chance to it: two runs can differ significantly though no setting does. To
learn what a setting does, make it a factor of one run, whose trials are interleaved.

`a_against_a` shows what the comparison is worth on a host: it divides the repetitions of one run in two at random and
compares the halves, as if they were two runs. None differs but by chance; with a planted slowdown all do.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pagelab.analysis.significance import (
    MINIMUM_REPETITIONS,
    SIGNIFICANCE,
    RateRatio,
    compare_rates,
    holm,
)
from pagelab.analysis.summary import Aggregate, aggregate
from pagelab.config.factors import Factors
from pagelab.store.record import Tokens, TrialRecord

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
class Row:
    """One combination of factors in every run, None where a run has no trial of it."""

    factors: Factors
    runs: tuple[Aggregate | None, ...]
    against_first: tuple[Against, ...]
    """One entry for each run after the first."""


def compare_trials(runs: Sequence[Iterable[TrialRecord]], include_invalid: bool = False) -> list[Row]:
    """Hold the trials of each run against those of the first.

    Args:
        runs: the finished trials of each run.
        include_invalid: count invalid trials too.

    Returns:
        One row for each combination of factors in any run, in the order of `summary.aggregate`.
    """
    found = [{_key(row.factors): row for row in aggregate(trials, include_invalid)} for trials in runs]
    rows = {key: tuple(run.get(key) for run in found) for key in _ordered(found)}
    pairs = [(key, index) for key in rows for index in range(1, len(found))]
    ratios = {(key, index): _ratio(rows[key][0], rows[key][index]) for key, index in pairs}
    judged = {pair: ratio for pair, ratio in ratios.items() if ratio is not None}
    corrected = dict(zip(judged, holm([ratio.p_value for ratio in judged.values()]), strict=True))
    return [
        Row(
            factors=next(run.factors for run in row if run is not None),
            runs=row,
            against_first=tuple(
                _against(row[0], row[index], ratios[key, index], corrected.get((key, index)))
                for index in range(1, len(row))
            ),
        )
        for key, row in rows.items()
    ]


def _ordered(runs: Sequence[dict[str, Aggregate]]) -> list[str]:
    """Every combination once: those of the first run in its order, then what only later ones have."""
    return list(dict.fromkeys(key for run in runs for key in run))


def _key(factors: Factors) -> str:
    return factors.model_dump_json()


def _ratio(first: Aggregate | None, other: Aggregate | None) -> RateRatio | None:
    if first is None or other is None or first.tokens_per_second is None or other.tokens_per_second is None:
        return None
    return compare_rates(first.tokens_per_second.values, other.tokens_per_second.values)


def _against(
    first: Aggregate | None, other: Aggregate | None, ratio: RateRatio | None, corrected: float | None
) -> Against:
    if ratio is None or corrected is None:
        return Against("not judged", reason=_why_not(first, other))
    if corrected >= SIGNIFICANCE:
        return Against("same", ratio, corrected)
    return Against("slower" if ratio.value < 1 else "faster", ratio, corrected)


def _why_not(first: Aggregate | None, other: Aggregate | None) -> str:
    if other is None:
        return "this run has no trial of it"
    if first is None:
        return "the first run has no trial of it"
    counts = [row.tokens_per_second.count if row.tokens_per_second else 0 for row in (first, other)]
    if min(counts) < MINIMUM_REPETITIONS:
        return f"{counts[0]} against {counts[1]} repetitions count, each needs {MINIMUM_REPETITIONS}"
    return "the repetitions do not differ at all, or one has the speed 0"


# --- one run against itself -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reanalysis:
    """One run, divided in two by a seed and compared as if it were two."""

    seed: int
    rows: tuple[Row, ...]

    @property
    def differs(self) -> bool:
        """Whether any combination is called significantly different."""
        return any(against.verdict in ("slower", "faster") for row in self.rows for against in row.against_first)

    @property
    def all_slower(self) -> bool:
        """Whether every combination of the second half is called significantly slower."""
        return bool(self.rows) and all(
            against.verdict == "slower" for row in self.rows for against in row.against_first
        )


def a_against_a(
    trials: Sequence[TrialRecord], seeds: Iterable[int] = range(20), slowdown: float = 1.0
) -> list[Reanalysis]:
    """Divide the valid trials of one run in two, once for each seed, and compare the halves.

    Args:
        trials: the finished trials of a run; each combination needs 6 valid ones, and 20 are a fair number.
        seeds: of the divisions.
        slowdown: by what to multiply the time of each token in the second half; 1.1 plants 10 %.
    """
    return [
        Reanalysis(seed, tuple(compare_trials([first, slowed_down(second, slowdown)])))
        for seed in seeds
        for first, second in [halves(trials, seed)]
    ]


def halves(trials: Iterable[TrialRecord], seed: int) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Divide the valid repetitions of each combination in two at random; of an odd number the second has one more."""
    groups: dict[str, list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda trial: trial.trial):
        if trial.validity.valid:
            groups.setdefault(_key(trial.factors), []).append(trial)
    dice = random.Random(seed)  # noqa: S311 - repeatable, no secret
    first: list[TrialRecord] = []
    second: list[TrialRecord] = []
    for group in groups.values():
        dice.shuffle(group)
        first += group[: len(group) // 2]
        second += group[len(group) // 2 :]
    return first, second


def slowed_down(trials: Iterable[TrialRecord], slowdown: float) -> list[TrialRecord]:
    """Copies of trials whose decoding takes `slowdown` times as long."""
    return [trial.model_copy(update={"decode": _slowed_decode(trial, slowdown)}) for trial in trials]


def _slowed_decode(trial: TrialRecord, slowdown: float) -> Tokens:
    seconds, rate = trial.decode.seconds, trial.decode.tokens_per_second
    return trial.decode.model_copy(
        update={
            "seconds": None if seconds is None else seconds * slowdown,
            "tokens_per_second": None if rate is None else rate / slowdown,
        }
    )
