"""One configuration run as if it were two does not differ, and a planted slowdown of 10 % is found."""

import math
import statistics

import pytest
from example_run import dice_of, factors, trial_record

from a_against_a import a_against_a, halves, least_found, slowed_down
from pagelab.analysis.significance import SIGNIFICANCE, compare_rates
from pagelab.analysis.speed_ratios import compare_trials
from pagelab.store.record import TrialRecord, Validity

SPEEDS = {1.0: 83.0, 0.5: 6.5, 0.0: 4.6}


def run(seed: int, deviation: float, repetitions: int = 20) -> list[TrialRecord]:
    """A run with log-normal noise around the speed of each resident share."""
    dice = dice_of(seed)
    return [
        trial_record(
            index * 1000 + number, resident, dice.lognormvariate(math.log(speed), deviation), factors=factors(resident)
        )
        for index, (resident, speed) in enumerate(SPEEDS.items())
        for number in range(1, repetitions + 1)
    ]


@pytest.mark.parametrize("deviation", [0.01, 0.02, 0.03])
class TestOneRunAgainstItself:
    def test_no_difference_in_at_least_19_of_20(self, deviation: float) -> None:
        found = a_against_a(run(1, deviation))
        assert [reanalysis.seed for reanalysis in found] == list(range(20))
        assert sum(reanalysis.differs for reanalysis in found) <= 1
        for reanalysis in found:
            assert len(reanalysis.rows) == 3
            assert all(against.ratio is not None for row in reanalysis.rows for against in row.against_first)

    def test_a_planted_slowdown_is_found_in_every_row(self, deviation: float) -> None:
        for reanalysis in a_against_a(run(1, deviation), slowdown=1.1):
            assert reanalysis.all_slower
            for row in reanalysis.rows:
                (against,) = row.against_first
                assert against.ratio is not None
                assert against.ratio.low < against.ratio.value < against.ratio.high < 1

    def test_over_many_runs(self, deviation: float) -> None:
        """Two percent of runs may have two of 20 by chance; of 20 runs, all but two keep the promise."""
        kept = [sum(one.differs for one in a_against_a(run(seed, deviation))) <= 1 for seed in range(100, 120)]
        assert sum(kept) >= 18


class TestHalves:
    def test_every_valid_trial_is_in_one_of_them(self) -> None:
        records = run(1, 0.02, repetitions=7)
        records[0].validity = Validity(valid=False, reasons=["no"])
        first, second = halves(records, seed=3)
        assert sorted(trial.trial for trial in first + second) == sorted(trial.trial for trial in records[1:])
        for resident, sizes in ((1.0, (3, 3)), (0.5, (3, 4))):
            counts = [sum(trial.factors.resident == resident for trial in half) for half in (first, second)]
            assert tuple(counts) == sizes

    def test_the_seed_decides(self) -> None:
        records = run(1, 0.02)
        assert halves(records, 5) == halves(list(reversed(records)), 5)
        assert halves(records, 5) != halves(records, 6)

    def test_slowed_down_leaves_the_originals(self) -> None:
        (record,) = run(1, 0.02, repetitions=1)[:1]
        (slow,) = slowed_down([record], 1.25)
        assert slow.decode.tokens_per_second == pytest.approx(record.decode.tokens_per_second / 1.25)
        assert slow.decode.seconds == pytest.approx(record.decode.seconds * 1.25)
        assert record == run(1, 0.02, repetitions=1)[0]


class TestLeastFound:
    def test_what_noise_allows(self) -> None:
        """Ten repetitions against ten: a tenth is always found among noise of 3 %, and hardly ever among 15 %."""
        assert [least_found(deviation, 20, 1.1, runs=20) for deviation in (0.01, 0.03)] == [20, 20]
        assert least_found(0.15, 20, 1.1, runs=20) <= 2

    def test_a_run_of_normal_noise_has_it(self) -> None:
        for seed, deviation in ((1, 0.03), (2, 0.05), (3, 0.07)):
            trials = run(seed, deviation)[:20]
            rates = [math.log(trial.decode.tokens_per_second or 0.0) for trial in trials]
            found = sum(one.all_slower for one in a_against_a(trials, slowdown=1.1))
            assert found >= least_found(statistics.stdev(rates), 20, 1.1)


class TestWhatThePowerTableSays:
    """The table in analysis/significance.py, within three deviations of 400 pairs."""

    @pytest.mark.parametrize(
        ("deviation", "repetitions", "slowdown", "chance"),
        [
            (0.03, 3, 1.0, 0.006),
            (0.03, 5, 1.0, 0.007),
            (0.03, 10, 1.0, 0.010),
            (0.01, 3, 1.1, 0.97),
            (0.02, 3, 1.1, 0.58),
            (0.02, 5, 1.1, 1.0),
            (0.03, 3, 1.1, 0.27),
            (0.03, 5, 1.1, 0.87),
            (0.03, 10, 1.1, 1.0),
            (0.05, 5, 1.1, 0.37),
            (0.05, 10, 1.1, 0.90),
            (0.10, 20, 1.1, 0.62),
        ],
    )
    def test_chance(self, deviation: float, repetitions: int, slowdown: float, chance: float) -> None:
        dice = dice_of(7)
        pairs = 400
        found = 0
        for _ in range(pairs):
            first = [dice.lognormvariate(0, deviation) for _ in range(repetitions)]
            second = [dice.lognormvariate(0, deviation) / slowdown for _ in range(repetitions)]
            ratio = compare_rates(first, second)
            assert ratio is not None
            found += ratio.p_value < SIGNIFICANCE
        room = 3 * math.sqrt(chance * (1 - chance) / pairs) + 0.005
        assert found / pairs == pytest.approx(chance, abs=room)

    def test_the_interval_holds_the_truth(self) -> None:
        dice = dice_of(7)
        held = 0
        for _ in range(1000):
            first = [dice.lognormvariate(0, 0.03) for _ in range(5)]
            second = [dice.lognormvariate(math.log(0.9), 0.03) for _ in range(5)]
            ratio = compare_rates(first, second)
            assert ratio is not None
            held += ratio.low <= 0.9 <= ratio.high
        assert held / 1000 == pytest.approx(0.955, abs=0.02)


def test_three_runs_share_one_correction() -> None:
    """The same pair of runs, once alone and once beside nine more comparisons."""
    first = run(1, 0.05, repetitions=4)
    second = slowed_down(run(2, 0.05, repetitions=4), 1.25)
    alone = compare_trials([first[:4], second[:4]])[0].against_first[0]
    among = compare_trials([first, second, first, first])[0].against_first[0]
    assert alone.ratio == among.ratio
    assert alone.ratio is not None
    assert alone.corrected_p_value == alone.ratio.p_value
    assert among.corrected_p_value is not None
    assert among.corrected_p_value > alone.ratio.p_value
