"""The section of the page on what was read: medians of the trials, figures that stay small, files with the same."""

import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest
from example_page import Page, report
from example_run import factors, run_data, stored_run, trial_record, trials
from example_trace import (
    FILE_BYTES,
    FIRST,
    STEP,
    TOKENS,
    Request,
    add_trace,
    experts_read,
    pages_in_order,
    reads_in_order,
    traced,
)

from pagelab.analysis.access.pattern import analyse_trial
from pagelab.report import wording
from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.report.wording import ABSENT, MICRO, TIMES
from pagelab.store.record import Decode, TrialRecord, Validity
from pagelab.store.run_store import RunStore
from pagelab.terminal.summary import summary_renderable
from pagelab.units import MIB
from printed import printed

DECODED = TOKENS - 1
FIGURES = ("access_map", "access_layers", "access_experts", "reuse")


def decoding(resident: float, repetition: int) -> list[Request]:
    """In RAM nothing; at half the second layer; out of it attention, and of each layer the expert of the token."""
    requests = reads_in_order(0.0, 1.0, 0, FILE_BYTES)
    for token in range(DECODED):
        begin = FIRST + token * STEP
        if resident == 0.5:
            requests += reads_in_order(begin, begin + 0.4, 10 * MIB, 6 * MIB, MIB // 4 * repetition)
        if resident == 0.0:
            for layer in range(2):
                requests += reads_in_order(
                    begin + 0.2 * layer, begin + 0.2 * layer + 0.1, 4 * MIB + layer * 6 * MIB, 2 * MIB
                )
                offset, size = experts_read(layer, token % 2)
                requests.append(Request(begin + 0.2 * layer + 0.15, offset, size))
    return requests


def traced_run(results: Path) -> RunStore:
    """Two repetitions of three shares; the second reads in larger requests at half."""
    records = [
        traced(trial_record(number, resident, rate, repetition)).model_copy(
            update={
                "decode": Decode(tokens=DECODED, seconds=DECODED / rate, tokens_per_second=rate),
                "weights_bytes": 15 * MIB,
            }
        )
        for number, (repetition, resident, rate) in enumerate(
            (
                (repetition, resident, rate)
                for repetition in (1, 2)
                for resident, rate in ((1.0, 80.0), (0.5, 6.0), (0.0, 4.0))
            ),
            start=1,
        )
    ]
    store = stored_run(results, records, trials_planned=6)
    for record in records:
        add_trace(store, record.trial, decoding(record.factors.resident, record.repetition))
        store.write_trial(record.model_copy(update={"access": analyse_trial(store, record)}))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return traced_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(store: RunStore) -> Page:
    return report(store)


class TestTables:
    def test_order(self, page: Page) -> None:
        rows = page.table("in order", "notes' rule", "re-read")
        assert [row[0] for row in rows] == ["100 %", "50 %", "0 %"]
        # at half each token reads 6 MiB in one run, of which the first readahead window of 1 MiB does not count
        assert rows[1][2] == "83.3 % 83.3 % to 83.3 %"
        assert rows[1][5] == "393 kB 262 kB to 524 kB", "the mean size of a read, its median over two repetitions"
        assert rows[1][7] == "6.29 MB 6.29 MB to 6.29 MB"
        assert rows[1][8] == "4.00 4.00 to 4.00"
        assert rows[1][9] == "37.5 % 37.5 % to 37.5 %"
        # out of RAM an even token reads 3 MiB of each layer in one run, and an odd one 2 MiB and then an expert that
        # goes on where the token before had ended: of every 6 MiB the first 1 MiB of two runs does not count
        assert rows[2][2].startswith("66.7 %")
        assert rows[2][8] == "3.00 3.00 to 3.00"

    def test_a_baseline_that_reads_nothing_has_no_order(self, page: Page) -> None:
        row = page.table("in order", "notes' rule", "re-read")[0]
        assert row[2] == row[5] == row[8] == ABSENT
        assert row[7] == "0 B 0 B to 0 B"

    def test_latency_and_depth(self, page: Page) -> None:
        row = page.table("in order", "notes' rule", "re-read")[1]
        assert row[-3] == "1 ms 1 ms to 1 ms"

    def test_kinds_of_tensors(self, page: Page) -> None:
        rows = page.table("embedding", "attention", "experts", "pressure")
        assert rows[1][2:] == [
            f"0 B 0{TIMES} of 3.15 MB",
            f"2.1 MB 0.500{TIMES} of 4.19 MB",
            f"4.19 MB 0.500{TIMES} of 8.39 MB",
        ]
        assert rows[2][2:] == [
            f"0 B 0{TIMES} of 3.15 MB",
            f"4.19 MB 1.00{TIMES} of 4.19 MB",
            f"2.1 MB 0.250{TIMES} of 8.39 MB",
        ]

    def test_what_it_was_counted_from(self, page: Page) -> None:
        assert "The model&#39;s reads are requests of the disk that lie in its files, in order of issue." in page.text

    def test_the_answer_in_words(self, page: Page) -> None:
        text = page.text.split('<h2 id="order">')[1].split("<table")[0]
        assert (
            "Bytes read in order: 83.3 % with 50 % of the weights allowed in RAM (0 % by the notes&#39; rule); " in text
        )
        assert "; 66.7 % with 0 % of the weights" in text
        assert "100 %" not in text, "a baseline has nothing to say"


class TestFigures:
    def test_all_are_there_and_small(self, page: Page, store: RunStore) -> None:
        assert page.text.count("<svg role=") == 7
        for name in FIGURES:
            drawing = store.report_directory / f"figures/{name}.svg"
            assert drawing.stat().st_size < 100_000, name
            assert "<image" not in drawing.read_text(), "no pixels, which the page's policy would not show"

    def test_the_map_has_the_kinds_that_were_read(self, store: RunStore, page: Page) -> None:
        drawing = (store.report_directory / "figures/access_map.svg").read_text()
        assert all(f">{text}</text>" in drawing for text in ("attention", "experts", "50 % allowed"))
        assert ">embedding</text>" not in drawing
        assert "100 % allowed" not in drawing, "a baseline has nothing to show"

    def test_links_and_ids(self, page: Page, store: RunStore) -> None:
        for link in page.links:
            if not link.startswith("#"):
                assert (store.report_directory / link).exists(), link
        assert len(page.ids) == len(set(page.ids))
        assert "data:" not in page.text
        assert re.findall(r"url\((?!#)", page.text) == []

    def test_recomputing_gives_the_same(self, store: RunStore, page: Page) -> None:
        def content() -> dict[Path, bytes]:
            return {path: path.read_bytes() for path in store.report_directory.rglob("*.*")}

        before = content()
        write_report(RunData.read(store))
        assert content() == before


class TestPatterns:
    def test_the_representative_is_the_slower_of_two_in_the_middle(self, store: RunStore) -> None:
        found = RunData.read(store).patterns
        assert [one.representative.trial for one in found] == [1, 2, 3], "equal speeds: the first"
        assert found[1].table("reuse")

    def test_what_was_read_of_layers_and_experts(self, store: RunStore) -> None:
        _, half, none = RunData.read(store).patterns
        assert {layer: part.share for layer, part in half.by_layer.items()} == {0: 0.0, 1: 1.0}
        assert {layer: part.share for layer, part in none.by_layer.items()} == {0: 0.5, 1: 0.5}
        assert none.expert_use == {0: [0.5, 0.5, 0.0, 0.0], 1: [0.5, 0.5, 0.0, 0.0]}

    def test_invalid_trials_are_left_out(self, store: RunStore) -> None:
        records = store.read_trials()
        records[1].validity = Validity(valid=False, reasons=["no"])
        spreads = [run_data(records, include).patterns[1].spread("access.mean_read_bytes") for include in (False, True)]
        assert [spread.count for spread in spreads if spread] == [1, 2]

    def test_without_traces_there_is_no_section(self, tmp_path: Path) -> None:
        store = stored_run(tmp_path, trials())
        page = report(store)
        assert "What was read, in which order" not in page.text
        assert not list(store.report_directory.glob("access_*.csv"))
        assert run_data(trials()).patterns == []

    def test_traced_headlines_whose_tables_are_gone(self, store: RunStore, tmp_path: Path) -> None:
        bare = stored_run(tmp_path, store.read_trials(), tokens=False, trials_planned=6)
        page = report(bare)
        assert page.table("in order", "re-read")[1][8] == "4.00 4.00 to 4.00"
        assert page.text.count("<svg role=") == 3

    def test_a_table_of_another_shape_is_left_alone(self, store: RunStore, tmp_path: Path) -> None:
        bare = stored_run(tmp_path, store.read_trials(), tokens=False, trials_planned=6)
        for name in FIGURES:
            bare.write_trial_table(2, name, pa.table({"something": [1]}))
        assert report(bare).text.count("<svg role=") == 3

    def test_pages_alone(self, tmp_path: Path) -> None:
        record = traced(trial_record(1, 0.0, 4.0))
        store = stored_run(tmp_path, [record])
        add_trace(store, 1, events=pages_in_order(2.0, 2.4, 4 * MIB, 2 * MIB), profiles=["page"])
        store.write_trial(record.model_copy(update={"access": analyse_trial(store, record)}))
        page = report(store)
        assert "pages of its files that entered the page cache, in order of their entering it." in page.text
        headings = [cell for table in page.tables for cell in table[0]]
        assert not any("notes' rule" in heading for heading in headings), "no disk was traced"


class TestFiles:
    def test_rows_of_every_trial(self, store: RunStore, page: Page) -> None:
        rows = list(csv.DictReader((store.report_directory / "access_layers.csv").open()))
        assert {row["trial"] for row in rows} == {"1", "2", "3", "4", "5", "6"}
        half = [row for row in rows if row["trial"] == "2" and row["layer"] == "1"]
        assert sum(int(row["decode_read_bytes"]) for row in half) == DECODED * 6 * MIB
        assert (half[0]["model"], half[0]["resident"], half[0]["readahead_kib"]) == ("gemma-3-270m", "0.5", "default")
        experts = list(csv.DictReader((store.report_directory / "access_experts.csv").open()))
        assert sum(row["decode_tokens"] == "2" for row in experts if row["trial"] == "3") == 4
        curve = list(csv.DictReader((store.report_directory / "reuse.csv").open()))
        assert {row["trial"] for row in curve} == {"2", "3", "5", "6"}
        assert {"access_layers.csv", "access_experts.csv", "reuse.csv"} <= set(page.links)

    def test_the_summary_has_the_headlines(self, store: RunStore, page: Page) -> None:
        rows = list(csv.DictReader((store.report_directory / "summary.csv").open()))
        assert rows[1]["access.sequential_fraction"] == str(5 / 6)
        assert rows[0]["access.sequential_fraction"] == ""

    def test_different_models_in_one_file(self, store: RunStore, tmp_path: Path) -> None:
        """Factors that are a number in one trial and a word in another are text in both."""
        records = [record for record in store.read_trials() if record.factors.resident == 0.5]
        records[1] = TrialRecord.model_validate(
            records[1].model_dump() | {"factors": factors(0.5, model="other", readahead_kib=128)}
        )
        run = stored_run(tmp_path, records, tokens=False, trials_planned=2)
        for record in records:
            table = store.read_trial_table(record.trial, "access_layers")
            assert table is not None
            run.write_trial_table(record.trial, "access_layers", table)
        write_report(RunData.read(run))
        rows = list(csv.DictReader((run.report_directory / "access_layers.csv").open()))
        assert {(row["model"], row["readahead_kib"]) for row in rows} == {("gemma-3-270m", "default"), ("other", "128")}


class TestTerminal:
    def test_the_answer_is_there_and_fits(self, store: RunStore) -> None:
        text = printed(summary_renderable(run_data(store.read_trials())), width=80)
        assert "Bytes read in order: 83.3 % with 50 % of the weights allowed in RAM" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ABSENT), (0.0000852, f"85.2 {MICRO}s"), (0.001, "1 ms"), (0.0123, "12.3 ms"), (2.5, "2.5 s")],
)
def test_short_times(value: float | None, text: str) -> None:
    assert wording.short_time(value) == text
