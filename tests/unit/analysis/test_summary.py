"""Known answers for the summary, worked out by hand."""

import math
import statistics

import pyarrow as pa
import pytest
from example_run import factors, trial_record, trials
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.summary import Combination, Spread, combinations, summary_table
from pagelab.report import wording
from pagelab.store.record import Limit, Reads, Tokens, TrialRecord, Validity, WindowReads

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
        # logarithms 2.07944, 2.30259, 2.19722: mean 2.193085, deviation 0.111632; t(0.975, 2) = 4.302653
        # 4.302653 * 0.111632 / sqrt(3) = 0.277312; exp(2.193085 - 0.277312) and exp(2.193085 + 0.277312)
        assert spread.interval == pytest.approx((6.7922, 11.8270), abs=2e-4)

    def test_the_median_of_an_even_number(self) -> None:
        assert Spread((1.0, 9.0, 2.0, 4.0)).median == 3

    @pytest.mark.parametrize("values", [(5.0,), (5.0, 6.0)])
    def test_two_say_nothing_of_the_deviation(self, values: tuple[float, ...]) -> None:
        assert Spread(values).deviation is None
        assert Spread(values).relative_deviation is None
        assert Spread(values).interval is None

    @pytest.mark.parametrize(("count", "quantile"), [(5, 2.776), (31, 2.042), (41, 2.0211), (121, 1.9799)])
    def test_student_t(self, count: int, quantile: float) -> None:
        exponents = [index / 100 for index in range(count)]
        interval = Spread(tuple(math.exp(exponent) for exponent in exponents)).interval
        assert interval is not None
        half = (math.log(interval[1]) - math.log(interval[0])) / 2
        assert half / (statistics.stdev(exponents) / math.sqrt(count)) == pytest.approx(quantile, abs=6e-4)

    def test_nothing_but_zeros(self) -> None:
        assert Spread((0.0, 0.0, 0.0)).relative_deviation is None
        assert Spread((0.0, 0.0, 0.0)).interval is None


class TestCombination:
    def test_slowdown_and_its_spread(self) -> None:
        slowdown = only(combinations(both()), 0.5).slowdown
        assert slowdown is not None
        assert slowdown.value == pytest.approx(82 / 9)
        assert slowdown.low == pytest.approx(80 / 10)
        assert slowdown.high == pytest.approx(84 / 8)

    @given(
        st.lists(st.floats(0.01, 1000), min_size=1, max_size=9), st.lists(st.floats(0.01, 1000), min_size=1, max_size=9)
    )
    def test_the_slowdown_lies_within_its_spread(self, baseline: list[float], limited: list[float]) -> None:
        slowdown = only(combinations(both(tuple(baseline), tuple(limited))), 0.5).slowdown
        assert slowdown is not None
        assert slowdown.low <= slowdown.value * (1 + 1e-9)
        assert slowdown.value <= slowdown.high * (1 + 1e-9)

    def test_bytes_for_each_token(self) -> None:
        records = [
            changed(
                trial_record(number, 0.5, 9.0),
                decode=Tokens(tokens=10, seconds=1.0, tokens_per_second=10.0),
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


class TestSummaryTable:
    def test_a_row_a_trial_with_dotted_columns(self) -> None:
        records = trials()
        table = summary_table(reversed(records))
        assert table["trial"].to_pylist() == list(range(1, 10))
        assert table["decode.tokens_per_second"].to_pylist() == [r.decode.tokens_per_second for r in records]
        assert table["reads.decode.model_bytes"].to_pylist() == [r.reads.decode.model_bytes for r in records]
        assert table["factors.readahead_kib"].to_pylist() == ["default"] * 9
        assert table["validity.valid"].to_pylist() == [True] * 9
        assert table["command"].to_pylist()[0] == records[0].command

    def test_columns_do_not_depend_on_what_is_absent(self) -> None:
        full, empty = summary_table(trials()), summary_table([changed(trial_record(1, 0.5, None), engine={})])
        assert full.schema == empty.schema == summary_table([]).schema
        assert empty["decode.tokens_per_second"].to_pylist() == [None]
        assert empty["engine.decode_seconds"].to_pylist() == [None]
        assert "memory.before.available_bytes" in full.column_names

    def test_types(self) -> None:
        schema = summary_table(trials()).schema
        assert schema.field("trial").type == pa.int64()
        assert schema.field("decode.tokens_per_second").type == pa.float64()
        assert schema.field("limit.effective").type == pa.bool_()
        assert schema.field("factors.swappiness").type == pa.string()
        assert schema.field("validity.reasons").type == pa.list_(pa.string())

    def test_validity_with_its_reasons(self) -> None:
        records = both()
        records[4].validity = Validity(valid=False, reasons=["a", "b"], warnings=["c"])
        table = summary_table(records)
        assert table["validity.valid"].to_pylist() == [True] * 4 + [False, True]
        assert table["validity.reasons"].to_pylist()[4] == ["a", "b"]
        assert table["validity.warnings"].to_pylist()[4] == ["c"]
        assert table.num_rows == 6

    def test_a_factor_as_a_number_is_a_text(self) -> None:
        record = changed(trial_record(1, 0.5, 9.0), factors=factors(0.5, readahead_kib=128))
        assert summary_table([record])["factors.readahead_kib"].to_pylist() == ["128"]
