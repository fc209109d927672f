"""Known answers for the summary, worked out by hand."""

import math
import statistics

import pytest
from example_run import factors, trial_record, trials
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.summary import Combination, Ratio, Spread, combinations
from pagelab.report import wording
from pagelab.store.record import Decode, Limit, Reads, TrialRecord, Validity, WindowReads

BASELINE = (80.0, 84.0, 82.0)
LIMITED = (8.0, 10.0, 9.0)


def both(baseline: tuple[float, ...] = BASELINE, limited: tuple[float, ...] = LIMITED) -> list[TrialRecord]:
    records = [trial_record(index, 1.0, rate, index) for index, rate in enumerate(baseline, start=1)]
    records += [trial_record(100 + index, 0.5, rate, index) for index, rate in enumerate(limited, start=1)]
    return records


def changed(record: TrialRecord, **values: object) -> TrialRecord:
    return TrialRecord.model_validate(record.model_dump() | values)


def only(rows: list[Combination], resident: float) -> Combination:
    (row,) = [row for row in rows if row.factors.resident == resident]
    return row


class TestSpread:
    def test_known_answers(self) -> None:
        spread = Spread(LIMITED)
        assert (spread.count, spread.median, spread.minimum, spread.maximum, spread.mean) == (3, 9, 8, 10, 9)
        assert spread.deviation == pytest.approx(1.0)
        assert spread.relative_deviation == pytest.approx(1 / 9)
        assert spread.median_interval == (8.0, 10.0)
        # logarithms 2.07944, 2.30259, 2.19722: mean 2.193085, deviation 0.111632; t(0.975, 2) = 4.302653
        # 4.302653 * 0.111632 / sqrt(3) = 0.277312; exp(2.193085 - 0.277312) and exp(2.193085 + 0.277312)
        assert spread.mean_interval == pytest.approx((6.7922, 11.8270), abs=2e-4)

    def test_the_median_of_an_even_number(self) -> None:
        assert Spread((1.0, 9.0, 2.0, 4.0)).median == 3

    @pytest.mark.parametrize("values", [(5.0,), (5.0, 6.0)])
    def test_two_say_nothing_of_the_deviation(self, values: tuple[float, ...]) -> None:
        assert Spread(values).deviation is None
        assert Spread(values).relative_deviation is None
        assert Spread(values).median_interval is None
        assert Spread(values).mean_interval is None

    @pytest.mark.parametrize(("count", "quantile"), [(5, 2.776), (31, 2.042), (41, 2.0211), (121, 1.9799)])
    def test_student_t(self, count: int, quantile: float) -> None:
        exponents = [index / 100 for index in range(count)]
        interval = Spread(tuple(math.exp(exponent) for exponent in exponents)).mean_interval
        assert interval is not None
        half = (math.log(interval[1]) - math.log(interval[0])) / 2
        assert half / (statistics.stdev(exponents) / math.sqrt(count)) == pytest.approx(quantile, abs=6e-4)

    def test_nothing_but_zeros(self) -> None:
        assert Spread((0.0, 0.0, 0.0)).relative_deviation is None
        assert Spread((0.0, 0.0, 0.0)).median_interval == (0.0, 0.0)
        assert Spread((0.0, 0.0, 0.0)).mean_interval is None


class TestCombination:
    def test_slowdown_and_its_spread(self) -> None:
        slowdown = only(combinations(both()), 0.5).slowdown
        assert slowdown is not None
        assert slowdown == Ratio(82 / 9, (80 / 10, 84 / 8))
        assert slowdown.inverse == Ratio(9 / 82, (8 / 84, 10 / 80))

    @pytest.mark.parametrize(("baseline", "limited"), [(BASELINE, (8.0, 10.0)), ((80.0,), LIMITED)])
    def test_too_few_repetitions_have_a_slowdown_without_an_interval(
        self, baseline: tuple[float, ...], limited: tuple[float, ...]
    ) -> None:
        slowdown = only(combinations(both(baseline, limited)), 0.5).slowdown
        assert slowdown == Ratio(statistics.median(baseline) / 9)
        assert slowdown.inverse.interval is None

    @given(
        st.lists(st.floats(0.01, 1000), min_size=3, max_size=9), st.lists(st.floats(0.01, 1000), min_size=3, max_size=9)
    )
    def test_the_interval_lies_within_all_ratios(self, baseline: list[float], limited: list[float]) -> None:
        slowdown = only(combinations(both(tuple(baseline), tuple(limited))), 0.5).slowdown
        assert slowdown is not None
        assert slowdown.interval is not None
        assert min(baseline) / max(limited) <= slowdown.interval[0] * (1 + 1e-9)
        assert slowdown.interval[0] <= slowdown.interval[1] <= max(baseline) / min(limited) * (1 + 1e-9)

    def test_bytes_for_each_token(self) -> None:
        records = [
            changed(
                trial_record(number, 0.5, 9.0),
                decode=Decode(tokens=10, seconds=1.0, tokens_per_second=10.0),
                reads=WindowReads(decode=Reads(model_bytes=from_file, swap_bytes=from_swap)),
                weights_bytes=100,
            )
            for number, from_file, from_swap in ((1, 1000, 50), (2, 1200, 10), (3, 900, 200))
        ]
        (row,) = combinations(records)
        spreads = [row.per_token(f"reads.decode.{name}_bytes") for name in ("model", "swap", "other")]
        assert [None if spread is None else spread.median for spread in spreads] == [100, 5, None]
        assert row.read_bytes_per_token is not None
        assert sorted(row.read_bytes_per_token.values) == [105, 110, 121]
        assert row.read_share_of_weights == pytest.approx(1.1)

    def test_invalid_trials_are_counted_but_left_out(self) -> None:
        records = both(limited=(8.0, 10.0, 9.0, 1000.0))
        records[-1].validity = Validity(valid=False, reasons=["the limit was not reached"])
        row = only(combinations(records), 0.5)
        assert (row.valid, len(row.trials)) == (3, 4)
        assert row.tokens_per_second == Spread(LIMITED)
        everything = only(combinations(records, include_invalid=True), 0.5)
        assert everything.tokens_per_second == Spread((8.0, 10.0, 9.0, 1000.0))
        assert (everything.valid, len(everything.trials)) == (3, 4)

    def test_a_combination_without_a_valid_trial_stays(self) -> None:
        records = both()
        for record in records[3:]:
            record.validity = Validity(valid=False, reasons=["no"])
        row = only(combinations(records), 0.5)
        assert (row.valid, len(row.trials), row.tokens_per_second, row.slowdown) == (0, 3, None, None)
        assert wording.limit_reached(row) == wording.ABSENT
        (warning,) = row.warnings
        assert warning.startswith("no repetition counts: 3 are needed to judge the spread")

    def test_without_a_valid_baseline_there_is_no_slowdown(self) -> None:
        records = both()
        for record in records[:3]:
            record.validity = Validity(valid=False, reasons=["no"])
        assert only(combinations(records), 0.5).slowdown is None

    def test_absent_is_not_zero(self) -> None:
        record = changed(
            trial_record(1, 0.5, None), reads=WindowReads(decode=Reads(model_bytes=10)), limit=Limit(bytes=5)
        )
        (row,) = combinations([record])
        assert row.tokens_per_second is None
        assert row.read_bytes_per_token is None
        assert row.read_share_of_weights is None
        assert wording.limit_reached(row) == wording.ABSENT

    def test_the_baseline_of_other_settings_does_not_serve(self) -> None:
        records = [trial_record(1, 1.0, 80.0), changed(trial_record(2, 0.5, 8.0), factors=factors(0.5, swappiness=10))]
        assert only(combinations(records), 0.5).slowdown is None
        records = [trial_record(1, 1.0, 80.0), changed(trial_record(2, 0.5, 8.0), factors=factors(0.5, model="other"))]
        assert only(combinations(records), 0.5).slowdown is None

    def test_a_baseline_of_the_same_pressure_goes_first_and_another_one_serves(self) -> None:
        group, limited = (
            trial_record(1, 1.0, 80.0),
            changed(trial_record(3, 0.5, 8.0), factors=factors(0.5, pressure="pin")),
        )
        pin = changed(trial_record(2, 1.0, 40.0), factors=factors(1.0, pressure="pin"))
        for records, expected in (([group, limited], 10), ([group, pin, limited], 5)):
            slowdown = only(combinations(records), 0.5).slowdown
            assert slowdown is not None
            assert slowdown.value == expected

    def test_order_is_by_model_and_then_by_share_descending(self) -> None:
        records = trials()
        records += [
            changed(record, trial=record.trial + 50, factors=factors(record.factors.resident, model="a-model"))
            for record in reversed(records)
        ]
        keys = [(row.factors.model, row.factors.resident) for row in combinations(reversed(records))]
        assert keys == [(model, share) for model in ("a-model", "gemma-3-270m") for share in (1.0, 0.5, 0.0)]

    def test_numbers_are_in_order_of_their_size_and_words_after_them(self) -> None:
        lengths = (512, "default", 16384, 128)
        records = [
            trial_record(number, 0.5, 8.0, factors=factors(0.5, readahead_kib=value))
            for number, value in enumerate(lengths, start=1)
        ]
        assert [row.factors.readahead_kib for row in combinations(records)] == [128, 512, 16384, "default"]

    @pytest.mark.parametrize(
        ("rates", "words"),
        [
            ((8.0, 10.0, 9.0), ["standard deviation is 11 % of the mean"]),  # 1 / 9
            ((9.0, 10.0, 11.0), ["standard deviation is 10 % of the mean"]),  # exactly a tenth
            ((9.1, 10.0, 10.9), []),
            ((9.0, 10.0), ["only 2 repetitions count"]),
            ((9.0,), ["only 1 repetition counts"]),
        ],
    )
    def test_the_warnings_of_a_combination(self, rates: tuple[float, ...], words: list[str]) -> None:
        warnings = only(combinations(both(limited=rates)), 0.5).warnings
        assert len(warnings) == len(words)
        assert all(word in warning for word, warning in zip(words, warnings, strict=True))

    def test_an_outlier_is_named_by_its_trial_and_still_counts(self) -> None:
        row = only(combinations(both(limited=(9.0, 9.1, 3.0, 8.9, 9.2))), 0.5)
        assert any("trial 103 with 3 tokens/s lies far from the median" in warning for warning in row.warnings)
        assert row.tokens_per_second is not None
        assert row.tokens_per_second.count == 5

    def test_an_invalid_trial_is_warned_of_only_where_it_counts(self) -> None:
        records = both(limited=(9.0, 9.1, 3.0, 8.9, 9.2, 9.0))
        records[5].validity = Validity(valid=False, reasons=["no"])
        assert only(combinations(records), 0.5).warnings == ()
        assert any(
            "trial 103" in warning for warning in only(combinations(records, include_invalid=True), 0.5).warnings
        )
