"""Verdicts of hypotheses: supported, refuted, undecided, with their numbers and what more would decide."""

import pytest
from example_run import factors, trial_record

from pagelab.analysis.hypotheses import Uncertain, Verdict, judge_hypotheses
from pagelab.config.schema import Hypothesis
from pagelab.report import wording
from pagelab.store.record import Access, TrialRecord, Validity

IN_RAM, OUT = "decode.tokens_per_second | resident=1.0", "decode.tokens_per_second | resident=0.0"
SPEEDS = {1.0: (10.0, 20.0, 90.0), 0.0: (1.0, 2.0, 1.5, 1000.0)}
INVALID = 1000.0


def trials(speeds: dict[float, tuple[float, ...]] | None = None) -> list[TrialRecord]:
    """A trial for each speed; one of 1000 tokens/s is invalid."""
    pairs = [(share, speed) for share, some in (speeds or SPEEDS).items() for speed in some]
    return [
        trial_record(
            number,
            share,
            speed,
            validity=Validity(valid=speed != INVALID, reasons=["no"] * (speed == INVALID)),
        )
        for number, (share, speed) in enumerate(pairs, start=1)
    ]


def verdict(
    expect: str, speeds: dict[float, tuple[float, ...]] | None = None, include_invalid: bool = False
) -> Verdict:
    (found,) = judge_hypotheses([Hypothesis(claim="c", expect=expect)], trials(speeds), include_invalid)
    return found


class TestOneSide:
    @pytest.mark.parametrize(
        ("expect", "outcome", "value", "interval"),
        [
            (f"median({IN_RAM}) >= 10", "supported", 20, (10, 90)),
            (f"median({IN_RAM}) > 10", "undecided", 20, (10, 90)),
            (f"median({IN_RAM}) > 9.9", "supported", 20, (10, 90)),
            (f"median({IN_RAM}) < 10", "refuted", 20, (10, 90)),
            (f"median({IN_RAM}) <= 50", "undecided", 20, (10, 90)),
            (f"median({IN_RAM}) <= 90", "supported", 20, (10, 90)),
            (f"mean({OUT}) < 3", "supported", 1.5, (1, 2)),
            # of what was measured, without an interval
            (f"max({OUT}) < 2.1", "supported", 2, (2, 2)),
            (f"max({OUT}) < 2", "refuted", 2, (2, 2)),
            (f"min({IN_RAM}) >= 10", "supported", 10, (10, 10)),
        ],
    )
    def test_known_answers(self, expect: str, outcome: str, value: float, interval: tuple[float, float]) -> None:
        found = verdict(expect)
        assert (found.outcome, found.left) == (outcome, Uncertain(value, interval))
        assert (found.ratio, found.difference) == (None, None)
        assert (found.more is None) == (outcome != "undecided")

    def test_numbers_of_trials(self) -> None:
        found = verdict(f"max({OUT}) < 3")
        assert (found.outcome, found.trials, found.left_out) == ("supported", 3, 1)
        asked = verdict(f"max({OUT}) < 3", include_invalid=True)
        assert (asked.outcome, asked.left, asked.trials) == ("refuted", Uncertain(1000, (1000, 1000)), 4)
        assert asked.left_out == 0
        assert verdict(f"max({IN_RAM}) < 3").left_out == 0

    def test_equal_repetitions_have_an_interval_without_width(self) -> None:
        found = verdict(f"median({OUT}) >= 2", {0.0: (2.0, 2.0, 2.0)})
        assert (found.outcome, found.left) == ("supported", Uncertain(2.0, (2.0, 2.0)))
        assert "2.00 against 2.00" in wording.hypothesis(found)


class TestTwoSides:
    def test_the_ratio_and_its_interval(self) -> None:
        """Three and three: the least and the greatest of all pairs."""
        found = verdict(f"median({IN_RAM}) >= 4 * median({OUT})")
        assert found.outcome == "supported"
        assert found.right == Uncertain(6.0, (4.0, 8.0))
        assert found.ratio == Uncertain(20 / 6, (10 / 8, 90 / 4))
        assert found.difference is None

    @pytest.mark.parametrize(
        ("times", "outcome"), [(5, "supported"), (13, "undecided"), (60, "undecided"), (91, "refuted")]
    )
    def test_the_limit_is_within_the_interval_or_not(self, times: int, outcome: str) -> None:
        assert verdict(f"median({IN_RAM}) >= {times} * median({OUT})").outcome == outcome

    def test_against_zeros_it_is_the_difference(self) -> None:
        expect = "median(reads.decode.model_bytes | resident=0.0) > median(reads.decode.model_bytes | resident=1.0)"
        found = verdict(expect)
        assert (found.outcome, found.ratio) == ("supported", None)
        assert found.difference is not None
        assert found.left is not None
        assert found.difference.value == found.left.value

    def test_both_sides_of_the_same_trials_are_pairs(self) -> None:
        """In every trial more is in order than by the notes' rule, though trials differ more among each other."""
        records = []
        for number, share in enumerate((0.2, 0.5, 0.8, 0.9, 0.3), start=1):
            access = Access(sequential_fraction=share, sequential_fraction_notes=share - 0.05)
            records.append(trial_record(number, 0.0, 4.0, access=access))
        expect = "median(access.sequential_fraction) > median(access.sequential_fraction_notes)"
        (found,) = judge_hypotheses([Hypothesis(claim="c", expect=expect)], records)
        assert found.outcome == "supported"
        assert found.left is not None
        assert found.right is not None
        assert found.left.interval == pytest.approx((0.2, 0.9))
        assert found.right.interval == pytest.approx((0.15, 0.85))
        assert found.trials == 5

    def test_each_combination_is_drawn_for_itself(self) -> None:
        """The median over two models, of which one is always faster, lies between them in every sample."""
        records = [trial_record(number, 0.0, 1.0 + number / 100) for number in (1, 2, 3)]
        records += [
            trial_record(number, 0.0, 3.0 + number / 100, factors=factors(0.0, model="other")) for number in (4, 5, 6)
        ]
        (found,) = judge_hypotheses([Hypothesis(claim="c", expect=f"median({OUT}) < 2.1")], records)
        assert found.outcome == "supported"
        assert found.left is not None
        assert found.left.interval is not None
        assert found.left.value == pytest.approx(2.035)
        assert 2.0249 < found.left.interval[0] < found.left.interval[1] < 2.0451


class TestWhatWouldDecide:
    @pytest.mark.parametrize(("speeds", "more"), [((5.0,), "2 more repetitions"), ((5.0, 6.0), "1 more repetition")])
    def test_too_few_repetitions(self, speeds: tuple[float, ...], more: str) -> None:
        found = verdict(f"median({OUT}) > 1", {0.0: speeds})
        assert found.outcome == "undecided"
        assert found.left == Uncertain(sum(speeds) / len(speeds))
        assert found.more == f"{more}: a verdict needs 3 of each combination"

    def test_too_few_on_one_side(self) -> None:
        found = verdict(f"median({IN_RAM}) > median({OUT})", {1.0: (10.0, 11.0, 12.0), 0.0: (1.0,)})
        assert (found.outcome, found.left, found.ratio) == ("undecided", Uncertain(11.0), Uncertain(11.0))
        assert found.more == "2 more repetitions: a verdict needs 3 of each combination"

    def test_a_combination_of_which_every_trial_is_invalid(self) -> None:
        found = verdict("median(decode.tokens_per_second) > 1", {1.0: (10.0, 11.0, 12.0), 0.0: (INVALID,) * 3})
        assert (found.outcome, found.trials, found.left_out) == ("undecided", 3, 3)
        assert found.more == "3 more repetitions: a verdict needs 3 of each combination"

    def test_trials_that_the_run_lacks(self) -> None:
        found = verdict(f"median({IN_RAM}) > median(decode.tokens_per_second | resident=0.7, model=m)")
        assert (found.outcome, found.right) == ("undecided", None)
        assert found.left == Uncertain(20.0)
        assert found.more == "trials with resident=0.7, model=m: the run has none"

    def test_trials_that_are_all_invalid(self) -> None:
        found = verdict(f"median({OUT}) > 1", {0.0: (INVALID, INVALID, INVALID)})
        assert (found.outcome, found.left, found.left_out) == ("undecided", None, 3)
        assert found.more == "valid trials with resident=0.0: all there are, are invalid"

    def test_a_value_that_was_not_measured(self) -> None:
        found = verdict("median(access.sequential_fraction | resident=0.0) >= 0.8")
        assert (found.outcome, found.trials) == ("undecided", 0)
        assert found.more == "a value of access.sequential_fraction for resident=0.0, which no trial that counts has"

    def test_a_combination_that_does_not_have_the_value_is_none_of_its_business(self) -> None:
        """As a baseline has no bound."""
        found = verdict("median(limit.bytes) > 0")
        assert (found.outcome, found.trials) == ("supported", 3)

    def test_repetitions_by_the_width_of_the_interval(self) -> None:
        """Of 16 values from 9.5 to 11, the interval reaches some 2.1 times as far as the limit: 4.4 times as many."""
        speeds = tuple(9.5 + index / 10 for index in range(16))
        found = verdict(f"median({OUT}) > 10.05", {0.0: speeds})
        assert found.left is not None
        assert found.left.interval is not None
        assert found.left.value == pytest.approx(10.25)
        reach = (10.25 - found.left.interval[0]) / (10.25 - 10.05)
        assert reach > 1
        assert found.more is not None
        assert found.more.startswith("about ")
        assert int(found.more.split()[1]) == pytest.approx(16 * reach**2 - 16, abs=1)

    def test_too_close_for_repetitions(self) -> None:
        assert verdict(f"median({IN_RAM}) > 19.9").more == "more than 100 further repetitions, so close is the limit"
        assert verdict(f"median({IN_RAM}) > 20").more == "no number of repetitions: the limit lies where the value does"


class TestWords:
    def test_supported(self) -> None:
        assert wording.hypothesis(verdict(f"max({OUT}) < 3")) == (
            f"supported: “c” (2.00 against 3.00, from 3 trials, 1 invalid left out). max({OUT}) < 3"
        )

    def test_undecided(self) -> None:
        text = wording.hypothesis(verdict(f"median({IN_RAM}) >= 13 * median({OUT})"))
        ends = "{}" + wording.DASH + "{}"
        assert f"20.0 [{ends.format('10.0', '90.0')}] against 19.5 [{ends.format('13.0', '26.0')}]" in text
        assert f"ratio 1.03 [{ends.format('0.385', '6.92')}], from 6 trials, 1 invalid left out); what would" in text

    def test_what_is_missing(self) -> None:
        text = wording.hypothesis(verdict("median(decode.tokens_per_second | resident=0.7) > 1"))
        assert text.startswith(
            f"undecided: “c” ({wording.ABSENT} against 1.00, from 0 trials); what would decide: trials"
        )


def test_the_same_whatever_the_order_of_the_trials() -> None:
    hypothesis = Hypothesis(claim="c", expect=f"mean({IN_RAM}) >= 13 * median({OUT})")
    assert judge_hypotheses([hypothesis], trials()) == judge_hypotheses([hypothesis], trials()[::-1])
