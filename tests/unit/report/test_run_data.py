"""The page, its figures and the terminal look at one object, which reads each file once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_run import residency_table, run_data, stored_run, trials

from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.store.run_store import RunStore
from pagelab.terminal.summary import summary_renderable


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored_run(tmp_path)
    for trial in trials():
        store.write_trial_table(trial.trial, "residency", residency_table(trial.factors.resident))
    read: Counter[tuple[object, ...]] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(RunStore, name)

        def call(self: RunStore, *arguments: object) -> Any:
            read[name, *arguments] += 1
            return original(self, *arguments)

        return call

    for name in ("read_run", "read_trials", "read_config_text", "read_trial_table"):
        monkeypatch.setattr(RunStore, name, counted(name))
    data = RunData.read(store)
    summary_renderable(data)
    assert sum(read.values()) == 3, "a table is read where it is looked at"
    write_report(data)
    assert read["read_trial_table", 1, "tokens"] == read["read_trial_table", 1, "residency"] == 1
    assert set(read.values()) == {1}


def test_a_table_of_another_shape_is_none(tmp_path: Path) -> None:
    store = stored_run(tmp_path, tokens=False)
    store.write_trial_table(1, "tokens", pa.table({"something": [1]}))
    data = RunData.read(store)
    assert data.table(1, "tokens") is None
    assert data.rows_of(1, "tokens") == data.rows_of(2, "tokens") == ()


def test_hypotheses_are_judged_by_the_configuration(tmp_path: Path) -> None:
    store = stored_run(tmp_path)
    assert RunData.read(store).verdicts == [], "its configuration is not one of this version"
    store.write_config(
        "experiment: e\n"
        f"models: [{{name: m, source: {{file: /m.gguf, sha256: {'a5' * 32}}}}}]\n"
        "hypotheses: [{claim: slow, expect: 'max(decode.tokens_per_second | resident=0.0) < 5'}]\n"
    )
    (verdict,) = RunData.read(store).verdicts
    assert (verdict.claim, verdict.outcome, verdict.trials) == ("slow", "supported", 3)


def test_invalid_trials_count_where_they_are_asked_for() -> None:
    records = trials()
    records[1].validity.valid = False
    counts = [len(run_data(records, include).combinations[1].counted) for include in (False, True)]
    assert counts == [2, 3]
