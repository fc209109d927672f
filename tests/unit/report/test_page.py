"""The page and the table say what the trials say, need nothing from outside, and never make up a zero."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_page import Page, report
from example_run import (
    STAND_IN,
    WEIGHTS,
    factors,
    residency_table,
    run_data,
    run_record,
    stored_run,
    trial_record,
    trials,
    with_sources,
)

from pagelab.analysis.summary import combinations
from pagelab.analysis.trial_table import summary_table
from pagelab.commands import cli
from pagelab.errors import StoreError
from pagelab.report import wording
from pagelab.report.page import TRIAL_TABLES, describe, write_report
from pagelab.report.provenance import Origin
from pagelab.report.run_data import RunData
from pagelab.report.tables import warning_lines
from pagelab.report.wording import ABSENT, DASH, TIMES
from pagelab.store.record import (
    Decode,
    Identity,
    Limit,
    Memory,
    Reads,
    Rereads,
    Residency,
    Steady,
    SwapUsed,
    Throughput,
    Tokens,
    TrialRecord,
    Validity,
    WindowReads,
)
from pagelab.store.run_store import RunStore
from pagelab.terminal.summary import summary_renderable
from printed import printed


def with_one_invalid() -> list[TrialRecord]:
    records = trials()
    records[7].validity = Validity(
        valid=False, reasons=["12 MB of the model <stayed> in cache"], warnings=["swap in use"]
    )
    return records


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return stored_run(tmp_path_factory.mktemp("results"), with_one_invalid())


@pytest.fixture(scope="module")
def page(complete: RunStore) -> Page:
    return report(complete)


class TestPage:
    def test_needs_nothing_from_outside(self, page: Page) -> None:
        assert page.links
        for link in page.links:
            parts = urlsplit(link)
            assert (parts.scheme, parts.netloc) == ("", ""), link
            assert not parts.path.startswith("/"), link
        assert not page.tags & {"script", "link", "img", "iframe", "object"}
        assert "@import" not in page.text
        assert re.findall(r"url\((?!#)", page.text) == []
        names = set(re.findall(r"https?://[^\"'<\s]+", page.text))
        assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "only names of XML namespaces"

    def test_every_link_leads_somewhere(self, page: Page, complete: RunStore) -> None:
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids
            else:
                assert (complete.report_directory / link).exists(), link

    def test_ids_are_unique_over_all_figures(self, page: Page) -> None:
        assert len(page.ids) == len(set(page.ids))
        references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page.text))
        assert {first or second for first, second in references} <= set(page.ids)

    def test_the_summary_holds_the_aggregates(self, page: Page) -> None:
        rows = page.table("slowdown", "read/token")
        assert [row[0] for row in rows] == ["100 %", "50 %", "0 %"]
        half = rows[1]
        # valid repetitions 6.71 and 5.93 against 82.9, 84.1 and 81.7
        assert half[1:4] == ["cgroup", f"6.32 5.93{DASH}6.71", f"13.1{TIMES}"], "two repetitions have no interval"
        assert rows[2][3] == f"17.9{TIMES} 16.7{DASH}19.1"
        assert half[-2:] == ["yes", "2/3"]
        assert rows[0][2:7] == [f"82.9 81.7{DASH}84.1", "baseline", f"0 B 0{TIMES}", "0 B", "0 B"]
        for row, aggregated in zip(rows, combinations(with_one_invalid()), strict=True):
            assert row[5] == wording.size(wording.median(aggregated.per_token("reads.decode.model_bytes")))
            assert row[6] == wording.size(wording.median(aggregated.per_token("reads.decode.swap_bytes")))

    def test_the_answer_is_computed(self, page: Page) -> None:
        assert (
            f"With half of the weights allowed in RAM decoding was 13.1{TIMES} slower (6.32 tokens/s); "
            f"with none of them it was 17.9{TIMES} slower (16.7{DASH}19.1; 4.63 tokens/s)." in page.text
        )

    def test_tables_of_trials_show_columns_that_there_are(self) -> None:
        columns = {column for table in TRIAL_TABLES.values() for *_, column in table}
        assert columns - set(summary_table([]).column_names) == {"whole_seconds", "traced_by"}

    def test_every_trial_is_listed_in_every_table(self, page: Page, complete: RunStore) -> None:
        records = complete.read_trials()
        for headings in (["reasons and warnings"], ["load", "tokens decoded"], ["disk rate"], ["pinned"], ["major"]):
            assert [row[0] for row in page.table(*headings)] == [f"{record.trial:03d}" for record in records]
        for row, record in zip(page.table("load", "tokens decoded"), records, strict=True):
            assert row[4] == wording.number(record.decode.tokens_per_second)

    def test_an_invalid_trial_says_why(self, page: Page) -> None:
        row = page.table("reasons and warnings")[7]
        assert row[-2:] == ["invalid", "12 MB of the model <stayed> in cache Warning: swap in use"]
        assert "&lt;stayed&gt;" in page.text
        assert "Trial 008 is invalid and left out" in page.text

    def test_identity_host_preflight_and_command(self, page: Page) -> None:
        identity = run_record().identity
        for digest in (identity.config_sha256, identity.llama_cpp_sha256, identity.image_digest or ""):
            assert digest in page.text
        assert ["cpu, physical cores", "2"] in [row for table in page.tables for row in table]
        assert ["memory total", "25 GB"] in [row for table in page.tables for row in table]
        assert page.table("what fixes it")[1][:2] == ["readahead", "warn"]
        assert "llama-cli --model gemma-3-270m-q4_k_m.gguf --prompt &#39;Once upon a time&#39; --no-repack" in page.text
        assert STAND_IN in page.text

    def test_figures_are_inside_and_hold_the_medians(self, page: Page, complete: RunStore) -> None:
        assert page.text.count("<svg role=") == 3
        speed = (complete.report_directory / "figures/speed.svg").read_text()
        assert all(f">{text}</text>" in speed for text in ("82.9", "6.32", "4.63"))
        assert {path.name for path in (complete.report_directory / "figures").iterdir()} == {
            f"{name}.{kind}" for name in ("speed", "latency", "reads") for kind in ("svg", "png", "pdf")
        }

    def test_recomputing_gives_the_same(self, complete: RunStore, page: Page) -> None:
        def content() -> dict[Path, bytes]:
            files = [*complete.report_directory.rglob("*.*"), complete.directory / "summary.parquet"]
            return {path: path.read_bytes() for path in files}

        before = content()
        write_report(RunData.read(complete))
        assert content() == before

    def test_summary_files(self, complete: RunStore, page: Page) -> None:
        rows = list(csv.DictReader((complete.report_directory / "summary.csv").open()))
        records = complete.read_trials()
        assert [float(row["decode.tokens_per_second"]) for row in rows] == [r.decode.tokens_per_second for r in records]
        assert rows[0]["limit.bytes"] == ""
        assert rows[7]["validity.reasons"] == "12 MB of the model <stayed> in cache"
        table = pq.read_table(complete.directory / "summary.parquet")
        assert table.num_rows == 9
        assert list(rows[0]) == table.column_names


class TestOddRuns:
    def test_a_combination_alone_among_series(self, tmp_path: Path) -> None:
        """As in a run that ended after the first trial of its second model."""
        alone = trial_record(40, 0.5, 9.0, factors=factors(0.5, model="other"))
        page = report(stored_run(tmp_path, [*trials(), alone], status="incomplete"))
        assert "other: With half of the weights allowed in RAM decoding ran at 9.00 tokens/s" in page.text
        assert ">other, cgroup</text>" in page.text

    def test_an_incomplete_run_says_so(self, tmp_path: Path) -> None:
        page = report(stored_run(tmp_path, trials()[:4], status="incomplete", ended_at=None))
        assert "This run is incomplete: 4 of 9 trials are finished." in page.text

    def test_a_forced_check_is_said(self, tmp_path: Path) -> None:
        page = report(stored_run(tmp_path, forced=["swap"]))
        assert "This preflight check failed and was forced: swap." in page.text
        assert page.table("what fixes it")[0][1] == "pass, forced"

    def test_no_finished_trial(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no finished trial to report"):
            write_report(RunData.read(stored_run(tmp_path, [])))

    def test_only_invalid_trials(self, tmp_path: Path) -> None:
        records = trials()
        for record in records:
            record.validity = Validity(valid=False, reasons=["no"])
        page = report(stored_run(tmp_path, records))
        assert "there is no slowdown to report" in page.text
        for row in page.table("slowdown", "read/token"):
            assert row[2:9] == [ABSENT] * 7
            assert row[9] == "0/3"

    def test_absent_values_are_dashes_and_never_zero(self, tmp_path: Path) -> None:
        bare = {
            "decode": Decode(),
            "prompt": Tokens(),
            "reads": WindowReads(),
            "rereads": Rereads(),
            "throughput": Throughput(),
            "memory": Memory(),
            "swap_used": SwapUsed(),
            "residency": Residency(),
            "limit": Limit(),
            "load": {},
            "faults": {},
            "refaults": {},
            "swap": {},
            "engine": {},
            "time_to_first_token_seconds": None,
            "exit_status": None,
            "command": [],
        }
        page = report(
            stored_run(tmp_path, [trial_record(1, 0.5, None, **bare)], preflight=[], manifest={}, ended_at=None)
        )
        (row,) = page.table("slowdown", "read/token")
        assert row[2:9] == [ABSENT] * 7
        for headings in (["load", "tokens decoded"], ["disk rate"], ["pinned"], ["major"]):
            (row,) = page.table(*headings)
            assert set(row[3:-1]) == {ABSENT}, row
        assert "no token times recorded" in page.text
        assert "not measured" in page.text

    def test_a_real_zero_stays_a_zero(self, tmp_path: Path) -> None:
        page = report(stored_run(tmp_path))
        assert page.table("disk rate")[0][5] == "0 B"

    def test_several_models_pressures_and_settings(self, tmp_path: Path) -> None:
        records = trials()
        for offset, values in (
            (20, {"model": "dense $2g$"}),
            (40, {"pressure": "pin"}),
            (60, {"weights": "anonymous"}),
        ):
            records += [
                TrialRecord.model_validate(
                    record.model_dump()
                    | {"trial": record.trial + offset, "factors": factors(record.factors.resident, **values)}
                )
                for record in trials()
            ]
        page = report(stored_run(tmp_path, records, trials_planned=36))
        rows = page.table("slowdown", "read/token")
        assert len(rows) == 12
        assert rows[0][:4] == [f"dense $2g$ {wording.size(WEIGHTS)}", "weights mmap", "100 %", "none"]
        assert "gemma-3-270m, cgroup, weights anonymous: With half of the weights" in page.text
        assert page.text.count("With half of the weights") == 4


@pytest.fixture(scope="module")
def asked(complete: RunStore, page: Page) -> Page:
    return report(complete, include_invalid=True)


class TestInvalidTrialsAskedFor:
    """Said in big words on the page, in its figures and on the terminal, and kept apart from the usual report."""

    def test_the_page_says_so(self, asked: Page, page: Page) -> None:
        assert '<div class="banner" role="alert">INVALID TRIAL 008 IS INCLUDED IN EVERY NUMBER HERE' in asked.text
        assert "all repetitions, INVALID ONES TOO" in asked.text
        assert "Trial 008 is invalid and INCLUDED ALL THE SAME: 12 MB of the model" in asked.text
        assert 'class="banner"' not in page.text

    def test_the_medians_hold_it(self, asked: Page, page: Page) -> None:
        half = asked.table("slowdown", "read/token")[1]
        assert half[2] == f"6.71 5.93{DASH}7.02"  # 6.71, 5.93 and the invalid 7.02
        assert half[-1] == "2/3"
        assert page.table("slowdown", "read/token")[1][2] == f"6.32 5.93{DASH}6.71"

    def test_every_figure_says_so(self, asked: Page, complete: RunStore) -> None:
        folder = complete.report_directory / "with-invalid"
        for name in ("speed", "latency", "reads"):
            assert "INVALID TRIAL 008 IS INCLUDED" in (folder / f"figures/{name}.svg").read_text()
            assert "INVALID TRIAL" not in (complete.report_directory / f"figures/{name}.svg").read_text()
        assert "invalid, BUT IN THE MEDIAN" in (folder / "figures/speed.svg").read_text()
        assert "invalid, not in the median" in (complete.report_directory / "figures/speed.svg").read_text()

    def test_the_usual_report_stays(self, complete: RunStore) -> None:
        usual = write_report(RunData.read(complete))
        before = usual.read_bytes()
        other = write_report(RunData.read(complete, include_invalid=True))
        assert other != usual
        assert usual.read_bytes() == before

    def test_every_link_leads_somewhere(self, asked: Page, complete: RunStore) -> None:
        for link in asked.links:
            if not link.startswith("#"):
                assert (complete.report_directory / "with-invalid" / link).exists(), link

    def test_the_terminal_says_so(self) -> None:
        text = " ".join(printed(summary_renderable(run_data(with_one_invalid(), include_invalid=True))).split())
        assert "*** INVALID TRIAL 008 IS INCLUDED IN EVERY NUMBER HERE: DO NOT PUBLISH THESE ***" in text
        assert "INCLUDED" not in printed(summary_renderable(run_data(with_one_invalid())))

    def test_where_every_trial_is_valid(self) -> None:
        text = printed(summary_renderable(run_data(trials(), include_invalid=True)))
        assert "INVALID TRIALS WERE ASKED FOR, BUT EVERY TRIAL IS VALID" in text

    def test_the_command(self, complete: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
        cli.app(["report", str(complete.directory), "--include-invalid"], standalone_mode=False)
        printed = capsys.readouterr().out
        assert "INVALID TRIAL 008 IS INCLUDED" in printed
        assert "with-invalid/index.html" in printed.replace("\n", "")

    def test_the_reason_stands_at_every_mark(self, page: Page) -> None:
        assert page.text.count('title="12 MB of the model &lt;stayed&gt; in cache">invalid') == 6


class TestWarnings:
    def test_outliers_and_two_groups_are_on_the_page(self, tmp_path: Path) -> None:
        rates = {1.0: (82.0, 83.0, 8.3, 82.5, 81.0), 0.0: (6.9, 2.1, 7.1, 2.0, 6.7)}
        page = report(stored_run(tmp_path, trials(rates)))
        assert "100 % in RAM: trial 005 with 8.3 tokens/s lies far from the median" in page.text
        assert "tokens/s are bimodal, in two groups around 2.05 (trials 004, 008) and 6.9 (trials" in page.text

    def test_what_holds_everywhere_is_said_once(self) -> None:
        records = trials({1.0: (82.0,), 0.5: (6.0,), 0.0: (4.0,)})
        lines = [line for line in warning_lines(run_record(), records, combinations(records)) if "counts" in line]
        assert len(lines) == 1
        assert lines[0].startswith("every combination: only 1 repetition counts")

    def test_what_holds_for_some_names_them(self) -> None:
        records = [*trials({1.0: (82.0, 81.0, 83.0)}), trial_record(50, 0.5, 6.0), trial_record(51, 0.0, 4.0)]
        lines = [line for line in warning_lines(run_record(), records, combinations(records)) if "counts" in line]
        assert len(lines) == 1
        assert lines[0].startswith("gemma-3-270m, 50 % in RAM, cgroup; gemma-3-270m, 0 % in RAM, cgroup: only 1")


class TestHypotheses:
    def test_verdicts_and_their_numbers(self, tmp_path: Path) -> None:
        claims = {
            "median(decode.tokens_per_second | resident=0.0) < 4.9": "slow <b>",
            "median(decode.tokens_per_second | resident=0.0) < 4.6": "slower",
            "median(decode.tokens_per_second | resident=0.0) > median(decode.tokens_per_second | resident=1.0)": "fast",
            "median(decode.tokens_per_second | resident=0.3) > 1": "elsewhere",
        }
        store = stored_run(tmp_path)
        document = {
            "experiment": "e",
            "models": [{"name": "m", "source": {"file": "/m.gguf", "sha256": "a5" * 32}}],
            "hypotheses": [{"claim": claim, "expect": expect} for expect, claim in claims.items()],
        }
        store.write_config(json.dumps(document))
        rows = report(store).table("verdict", "claim")
        middle = f"4.63 [4.41{DASH}4.88]"
        assert [row[0] for row in rows] == ["supported", "undecided", "refuted", "undecided"]
        assert [row[1] for row in rows] == [f"{claim} {expect}" for expect, claim in claims.items()]
        assert rows[0][2:] == [middle, "4.90", "", "3 trials", ""]
        assert rows[1][2:4] == [middle, "4.60"]
        assert rows[1][6].startswith("more than 100 further repetitions")
        assert rows[2][2:6] == [middle, f"82.9 [81.7{DASH}84.1]", f"ratio 0.0559 [0.0524{DASH}0.0597]", "6 trials"]
        assert rows[3][2:] == [ABSENT, "1.00", "", "0 trials", "trials with resident=0.3: the run has none"]

    def test_the_terminal_says_the_same(self, tmp_path: Path) -> None:
        store = stored_run(tmp_path)
        config = "experiment: e\nmodels: [{name: m, source: {file: /m.gguf, sha256: %s}}]\n" % ("a5" * 32)
        expect = "max(decode.tokens_per_second | resident=0.0) < 5"
        store.write_config(config + f"hypotheses: [{{claim: slow, expect: '{expect}'}}]\n")
        text = " ".join(printed(summary_renderable(RunData.read(store)), width=160).split())
        assert f"? supported: “slow” (4.88 against 5.00, from 3 trials). {expect}" in text


class TestTimesOfTokens:
    def test_percentiles_and_the_steady_speed(self, tmp_path: Path) -> None:
        """Of each trial in the tables of all trials, their medians where the repetitions are."""
        records = trials()
        for record in records:
            record.decode.token_p50_seconds, record.decode.token_p90_seconds = 0.01 * record.trial, 0.02 * record.trial
            record.steady = Steady(from_token=5, tokens=26, seconds=1.0, tokens_per_second=26.0 + record.trial)
        page = report(stored_run(tmp_path, records))
        row = page.table("tokens decoded", "p90")[1]
        assert row[5:10] == ["28.0", "5", "20 ms", "40 ms", ABSENT]
        cells = page.table("geometric mean", "steady")[1]  # trials 2, 5 and 8
        assert "31.0" in cells
        assert f"50 ms 100 ms, {ABSENT}" in cells


def provenance_run(results: Path) -> RunStore:
    """Mapped and anonymous weights side by side, with all that is known of where bytes came from."""
    records = [with_sources(record) for record in trials()]
    for record in trials():
        changes = {"trial": record.trial + 20, "factors": factors(record.factors.resident, weights="anonymous")}
        records.append(with_sources(record.model_copy(update=changes)))
    store = stored_run(results, records, trials_planned=18)
    for record in records:
        if record.factors.weights == "mmap":
            store.write_trial_table(record.trial, "residency", residency_table(record.factors.resident))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return provenance_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def full(store: RunStore) -> Page:
    return report(store)


class TestProvenance:
    def test_bytes_by_each_source(self, full: Page, store: RunStore) -> None:
        rows = full.table("process", "refaults", "disagreement")
        assert len(rows) == 6 * 3
        cells = {(row[0], row[1], row[3]): row[4:] for row in rows}
        # mapped: 1.04 weights a token from the file and 2 % of that from swap; anonymous: the other way round
        whole, little = wording.size(1.04 * WEIGHTS), wording.size(0.02 * 1.04 * WEIGHTS)
        for weights, from_file, from_swap in (("mmap", whole, little), ("anonymous", little, whole)):
            process, _, disk, host, disagreement = cells[f"weights {weights}", "0 %", "model file"]
            assert (process.startswith(from_file), disk.startswith(from_file), host) == (True, True, ABSENT)
            assert disagreement == "1 % 1 %", "median and largest"
            process, refaults, disk, host, disagreement = cells[f"weights {weights}", "0 %", "swap"]
            assert (refaults.startswith(from_swap), host.startswith(from_swap)) == (True, True)
            assert (process, disk, disagreement) == (ABSENT, ABSENT, "0 % 0 %")
            assert cells[f"weights {weights}", "0 %", "others' reads"][0] == ABSENT
        (one,) = [one for one in combinations(store.read_trials()) if one.factors == factors(0.0)]
        counted = Origin(one.trials, one.counted, one.baseline, "model").counted_by("process_bytes")
        assert wording.median(counted) == pytest.approx(1.04 * WEIGHTS, rel=1e-6)
        assert Origin(one.trials, one.counted, one.baseline, "swap").counted_by("group_bytes") is None

    def test_a_counter_that_nobody_has_is_no_column(self, full: Page) -> None:
        headings = [cell for table in full.tables for cell in table[0]]
        assert not any("page cache" in heading for heading in headings)
        assert any("refaults" in heading for heading in headings)

    def test_residency_from_eviction_to_the_end(self, full: Page) -> None:
        rows = {(row[0], row[1]): row[3:] for row in full.table("asked for", "at the first token")}
        assert rows["weights mmap", "50 %"] == [
            "50 % 50 % to 50 %",
            "0 % 0 % to 0 %",
            "52 % 52 % to 52 %",
            "50 % 50 % to 50 %",
            "50 % 50 % to 50 %",
        ]
        assert rows["weights anonymous", "50 %"][2:] == [ABSENT] * 3

    def test_kinds_of_tensors(self, full: Page, store: RunStore) -> None:
        rows = {row[0]: row[2:] for row in full.table("embedding", "attention", "feed_forward")}
        assert list(rows) == ["100 %", "50 %", "0 %"], "only the combinations that have the table"
        assert rows["50 %"] == ["50 % of 4 kB", "100 % of 4 kB", "50 % of 12 kB"]
        assert rows["0 %"] == ["0 % of 4 kB", "100 % of 4 kB", "0 % of 12 kB"]
        (half,) = [one for one in RunData.read(store).resident if one.factors.resident == 0.5]
        assert half.by_layer.keys() == {0, 1, 2, 3}
        assert half.by_layer[2].decode is not None
        assert half.by_layer[2].decode.values == (0.625,) * 3  # (1000 + 0.5 * 3000) / 4000

    def test_the_figure_of_layers(self, full: Page, store: RunStore) -> None:
        assert full.text.count("<svg role=") == 4
        drawing = (store.report_directory / "figures/residency.svg").read_text()
        assert ">50 % allowed, cgroup</text>" in drawing
        for link in full.links:
            if not link.startswith("#"):
                assert (store.report_directory / link).exists(), link
        assert len(full.ids) == len(set(full.ids))

    def test_invalid_trials_do_not_enter(self, tmp_path: Path) -> None:
        store = provenance_run(tmp_path)
        wrong = next(record for record in store.read_trials() if record.trial == 3)
        store.write_trial_table(3, "residency", residency_table(1.0))
        store.write_trial(wrong.model_copy(update={"validity": Validity(valid=False, reasons=["no"])}))
        for include, count in ((False, 2), (True, 3)):
            data = RunData.read(store, include)
            (parts,) = [one for one in data.resident if one.factors == factors(0.0)]
            assert parts.by_class["embedding"].decode is not None
            assert parts.by_class["embedding"].decode.count == count
            assert len(parts.counted) == count

    def test_tables_without_what_was_seen_while_decoding(self, tmp_path: Path) -> None:
        store = stored_run(tmp_path, trials()[:1])
        table = residency_table(1.0)
        empty = pa.nulls(table.num_rows, pa.float64())
        store.write_trial_table(1, "residency", table.set_column(5, "resident_decode_bytes", empty))
        page = report(store)
        assert page.table("embedding", "attention")[0][2:] == [
            f"{ABSENT} of 4 kB",
            f"{ABSENT} of 4 kB",
            f"{ABSENT} of 12 kB",
        ]
        assert page.text.count("<svg role=") == 3, "nothing to draw"

    def test_a_table_of_another_shape_is_left_alone(self, tmp_path: Path) -> None:
        store = stored_run(tmp_path, trials()[:1])
        store.write_trial_table(1, "residency", pa.table({"something": [1]}))
        assert "What was in RAM" not in report(store).text

    def test_older_runs_have_neither_section(self, page: Page) -> None:
        assert "Where the bytes came from" not in page.text
        assert "What was in RAM" not in page.text

    def test_a_run_of_the_first_version_can_still_be_read(self, tmp_path: Path) -> None:
        store = stored_run(tmp_path, trials()[:1])
        path = store.directory / "trials/001/trial.json"
        document = json.loads(path.read_text())
        document["residency"] = {"target_fraction": 1.0, "achieved_fraction": 1.0, "before_load_bytes": 0}
        path.write_text(json.dumps(document))
        for name in ("checksums.json", "derived.json"):
            (store.directory / name).unlink()
        assert report(store).table("slowdown", "read/token")[0][0] == "100 %"


class TestWording:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ABSENT),
            (0, "0"),
            (83.06, "83.1"),
            (4.9, "4.90"),
            (12, "12.0"),
            (99.96, "100"),
            (1234.4, "1,234"),
            (0.0123, "0.0123"),
        ],
    )
    def test_number(self, value: float | None, text: str) -> None:
        assert wording.number(value) == text

    def test_no_change_is_called_no_change(self) -> None:
        (finding,) = wording.findings(combinations(trials({1.0: (80.0, 82.0, 84.0), 0.75: (79.0, 83.0, 81.0)})))
        assert f"was as fast as in RAM within the spread (slowdown 1.01, 0.964{DASH}1.06; 81.0 tokens/s)" in finding

    def test_faster_is_called_faster(self) -> None:
        (finding,) = wording.findings(combinations(trials({1.0: (10.0, 10.0, 10.0), 0.3: (20.0, 20.0, 25.0)})))
        assert finding.startswith(
            f"With 30 % of the weights allowed in RAM decoding was 2.00{TIMES} faster (2.00{DASH}2.50; 20.0 tokens/s)"
        )

    def test_without_a_baseline(self) -> None:
        (finding,) = wording.findings(combinations([trial_record(1, 0.0, 4.0)]))
        assert finding.startswith(
            "With none of the weights allowed in RAM decoding ran at 4.00 tokens/s, and no valid baseline"
        )

    def test_a_shared_baseline_begins_both_series(self) -> None:
        records = trials()
        records += [
            TrialRecord.model_validate(
                record.model_dump()
                | {"trial": record.trial + 20, "factors": factors(record.factors.resident, pressure="pin")}
            )
            for record in trials()
            if record.factors.resident < 1.0
        ]
        series = wording.series_of(combinations(records))
        assert [[row.factors.resident for row in group] for group in series] == [[1.0, 0.5, 0.0]] * 2
        assert wording.series_names(series) == ["gemma-3-270m, cgroup", "gemma-3-270m, pin"]

    def test_describe(self) -> None:
        assert describe("size_bytes", 2_147_479_552) == "2.15 GB"
        assert describe("swap", [{"name": "/swap", "size_bytes": 1000}]) == "name /swap, size 1 kB"
        assert describe("readahead_kib", 8192) == "8192 KiB"
        assert describe("swap", []) == "none"
        assert describe("lockdown", None) == ABSENT
        assert describe("avx2", True) == "yes"


class TestTerminal:
    def test_fits_into_eighty_columns_with_whole_words(self) -> None:
        text = printed(summary_renderable(run_data(with_one_invalid())), width=80)
        assert max(map(len, text.splitlines())) <= 80
        for part in (f"16.7{DASH}19.1", f"5.93{DASH}6.71", "baseline", "read/token", "from swap", "2/3"):
            assert part in text

    def test_says_the_same_as_the_page(self, page: Page) -> None:
        text = " ".join(printed(summary_renderable(run_data(with_one_invalid()))).split())
        assert wording.findings(combinations(with_one_invalid()))[0] in text
        assert STAND_IN in text
        assert "Trial 008 is invalid and left out: 12 MB of the model <stayed> in cache." in text

    def test_markup_in_names_is_text(self) -> None:
        record = trial_record(1, 0.5, 9.0, factors=factors(0.5, model="[red]m[/red]"))
        assert "[red]m[/red]" in printed(summary_renderable(run_data([record])))

    def test_identity_without_an_image(self, tmp_path: Path) -> None:
        identity = Identity(
            config_sha256="c", llama_cpp_commit="b", llama_cpp_sha256="d", model_sha256={"gemma-3-270m": "e"}
        )
        page = report(stored_run(tmp_path, identity=identity))
        assert ["container image", ABSENT] in [row for table in page.tables for row in table]

    def test_reads_of_a_window_that_is_absent(self) -> None:
        record = trial_record(1, 0.5, 9.0, reads=WindowReads(decode=Reads(swap_bytes=5)))
        (row,) = combinations([record])
        assert row.per_token("reads.decode.model_bytes") is None
