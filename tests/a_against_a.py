"""What the comparison of runs is worth: one run divided in two at random, and compared as if it were two.

None of its halves differ but by chance; with a planted slowdown all do.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pagelab.analysis.significance import SIGNIFICANCE, compare_rates
from pagelab.analysis.speed_ratios import Compared, compare_trials
from pagelab.analysis.summary import combinations
from pagelab.store.record import TrialRecord

DIVISIONS = range(20)


@dataclass(frozen=True)
class Reanalysis:
    """One run, divided in two by a seed and compared as if it were two."""

    seed: int
    rows: tuple[Compared, ...]

    @property
    def verdicts(self) -> list[str]:
        return [against.verdict for row in self.rows for against in row.against_first]

    @property
    def differs(self) -> bool:
        """Whether any combination is called significantly different."""
        return "slower" in self.verdicts or "faster" in self.verdicts

    @property
    def all_slower(self) -> bool:
        """Whether every combination of the second half is called significantly slower."""
        return set(self.verdicts) == {"slower"}


def a_against_a(
    trials: Sequence[TrialRecord], seeds: Iterable[int] = DIVISIONS, slowdown: float = 1.0
) -> list[Reanalysis]:
    """Divide the valid trials of one run in two, once for each seed, and compare the halves.

    `slowdown` is by what the time of each token in the second half is multiplied; 1.1 plants 10 %.
    """
    divided = [(seed, *halves(trials, seed)) for seed in seeds]
    return [
        Reanalysis(seed, tuple(compare_trials([first, slowed_down(second, slowdown)])))
        for seed, first, second in divided
    ]


def halves(trials: Iterable[TrialRecord], seed: int) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Divide the valid repetitions of each combination in two at random; of an odd number the second has one more."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, no secret
    first: list[TrialRecord] = []
    second: list[TrialRecord] = []
    for combination in combinations(trials):
        shuffled = dice.sample(combination.counted, len(combination.counted))
        first += shuffled[: len(shuffled) // 2]
        second += shuffled[len(shuffled) // 2 :]
    return first, second


def slowed_down(trials: Iterable[TrialRecord], slowdown: float) -> list[TrialRecord]:
    """Copies of trials whose decoding takes `slowdown` times as long."""
    slowed = []
    for trial in trials:
        seconds, rate = trial.decode.seconds, trial.decode.tokens_per_second
        assert seconds is not None
        assert rate is not None
        changed = {"seconds": seconds * slowdown, "tokens_per_second": rate / slowdown}
        slowed.append(trial.model_copy(update={"decode": trial.decode.model_copy(update=changed)}))
    return slowed


def least_found(deviation: float, repetitions: int, slowdown: float, runs: int = 100) -> int:
    """In how many of 20 divisions a planted slowdown is found at least, in each of many runs with normal noise.

    The logarithms of each run have exactly this standard deviation, as those of the run that this is held against.
    """
    dice = random.Random(1)  # noqa: S311 - repeatable, no secret
    return min(_found(dice, deviation, repetitions, slowdown) for _ in range(runs))


def _found(dice: random.Random, deviation: float, repetitions: int, slowdown: float) -> int:
    noise = [dice.gauss() for _ in range(repetitions)]
    mean = sum(noise) / repetitions
    scale = deviation / math.sqrt(sum((value - mean) ** 2 for value in noise) / (repetitions - 1))
    rates = [math.exp(value * scale) for value in noise]
    found = 0
    for _ in DIVISIONS:
        dice.shuffle(rates)
        ratio = compare_rates(rates[: repetitions // 2], [rate / slowdown for rate in rates[repetitions // 2 :]])
        found += ratio is not None and ratio.value < 1 and ratio.p_value < SIGNIFICANCE
    return found
