"""The table of a run: a row a trial, with columns that follow from the record's shape alone."""

import pyarrow as pa
from example_run import factors, trial_record, trials

from pagelab.analysis.trial_table import summary_table
from pagelab.store.record import TrialRecord, Validity


def changed(record: TrialRecord, **values: object) -> TrialRecord:
    return TrialRecord.model_validate(record.model_dump() | values)


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
        records = trials()
        records[4].validity = Validity(valid=False, reasons=["a", "b"], warnings=["c"])
        table = summary_table(records)
        assert table["validity.valid"].to_pylist() == [True] * 4 + [False] + [True] * 4
        assert table["validity.reasons"].to_pylist()[4] == ["a", "b"]
        assert table["validity.warnings"].to_pylist()[4] == ["c"]
        assert table.num_rows == 9

    def test_a_factor_as_a_number_is_a_text(self) -> None:
        record = changed(trial_record(1, 0.5, 9.0), factors=factors(0.5, readahead_kib=128))
        assert summary_table([record])["factors.readahead_kib"].to_pylist() == ["128"]
