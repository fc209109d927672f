"""Two runs side by side: whether they are the same experiment comes before any number."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_run import factors, run_record, stored_run, trial_record

from pagelab.analysis.compare import Comparison, compare_runs
from pagelab.commands import cli
from pagelab.errors import ConfigError, StoreError
from pagelab.report.wording import DASH, TIMES
from pagelab.store.record import TrialRecord, Validity
from pagelab.store.run_store import RunStore
from pagelab.terminal.comparison import comparison_renderable
from printed import printed

FAST = {1.0: (80.0, 82.0, 81.0, 79.0, 83.0), 0.0: (4.0, 4.1, 3.9, 4.05, 3.95)}
SLOW = {1.0: (80.5, 81.0, 82.0, 80.0, 81.5), 0.0: (3.2, 3.28, 3.12, 3.24, 3.16)}


def records(rates: dict[float, tuple[float, ...]]) -> list[TrialRecord]:
    pairs = [(resident, rate) for resident, values in rates.items() for rate in values]
    return [trial_record(number, resident, rate) for number, (resident, rate) in enumerate(pairs, start=1)]


def stored(
    tmp_path: Path,
    run_id: str,
    rates: dict[float, tuple[float, ...]] = FAST,
    trials: list[TrialRecord] | None = None,
    **changed: Any,
) -> RunStore:
    return stored_run(tmp_path, records(rates) if trials is None else trials, tokens=False, run_id=run_id, **changed)


def changed_identity(**values: object) -> dict[str, Any]:
    return {"identity": run_record().identity.model_copy(update=values)}


def text_of(comparison: Comparison) -> str:
    return " ".join(printed(comparison_renderable(comparison), width=160).split())


class TestSameExperiment:
    def test_equal_runs(self, tmp_path: Path) -> None:
        found = compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", SLOW)])
        assert found.same_experiment
        assert found.identity == found.configuration == found.host == ()
        text = text_of(found)
        assert "These runs are the same experiment" in text
        assert "The hosts do not differ" in text

    @pytest.mark.parametrize(
        ("values", "line"),
        [
            ({"llama_cpp_commit": "abc"}, "llama.cpp commit: A 6eea6669c2d9; B abc"),
            ({"llama_cpp_sha256": "12ab" * 16}, "llama.cpp binaries: A 850885088508; B 12ab12ab12ab"),
            ({"image_digest": None}, "container image: A 77aa77aa77aa; B absent"),
            ({"model_sha256": {"gemma-3-270m": "00ff" * 16}}, "model gemma-3-270m: A a5fda5fda5fd; B 00ff00ff00ff"),
            ({"pagelab_version": "9.9"}, "pagelab: A 0.1.0; B 9.9"),
            ({"config_sha256": "77" * 32}, "configuration: A 5b0c5b0c5b0c; B 777777777777"),
        ],
    )
    def test_each_difference_comes_before_any_number(
        self, tmp_path: Path, values: dict[str, object], line: str
    ) -> None:
        stores = [stored(tmp_path, "one"), stored(tmp_path, "two", SLOW, **changed_identity(**values))]
        found = compare_runs(stores)
        assert not found.same_experiment
        text = text_of(found)
        assert "THESE RUNS ARE NOT THE SAME EXPERIMENT" in text
        assert 0 < text.index(line) < text.index("tokens/s")

    def test_which_settings_make_the_difference(self, tmp_path: Path) -> None:
        stores = [stored(tmp_path, "one"), stored(tmp_path, "two", **changed_identity(config_sha256="77" * 32))]
        for store, tokens in zip(stores, (16, 8), strict=True):
            source = {"synthetic": {"layers": tokens}}
            settings = {"inference": {"tokens": tokens, "seed": 1}, "models": [{"name": "m", "source": source}]}
            store.write_config(yaml.safe_dump(settings))
        found = compare_runs(stores)
        assert [(difference.name, difference.values) for difference in found.configuration] == [
            ("inference.tokens", (16, 8)),
            ("models.m.synthetic.layers", (16, 8)),
        ]
        assert "inference.tokens: A 16; B 8" in text_of(found)

    def test_a_damaged_configuration_is_named(self, tmp_path: Path) -> None:
        stores = [stored(tmp_path, "one"), stored(tmp_path, "two", **changed_identity(config_sha256="77" * 32))]
        for text in ("memory: {floor: .inf}", "repetitions: !!int foo", "[" * 5000, "a: " + "9" * 5000, ""):
            stores[1].write_config(text)
            with pytest.raises(ConfigError, match=re.escape(str(stores[1].config_path))):
                compare_runs(stores)


class TestHosts:
    def manifest(self, **values: object) -> dict[str, Any]:
        return {"host": "lab2", "manifest": run_record().manifest | values}

    def test_differences_come_before_any_number(self, tmp_path: Path) -> None:
        other = self.manifest(
            kernel="6.1.0", swap=[{"name": "/var/lib/pagelab/swapfile", "size_bytes": 1_000_000_000, "used_bytes": 5}]
        )
        text = text_of(compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", **other)]))
        for line in ("host: A localhost; B lab2", "kernel: A 6.18.0; B 6.1.0", "swap.0.size_bytes: A 2.15 GB; B 1 GB"):
            assert 0 < text.index(line) < text.index("tokens/s")
        assert "used_bytes" not in text

    def test_details_are_counted_and_listed_by_json(self, tmp_path: Path) -> None:
        facts = [
            {"kernel": {"release": "6.1"}, "models_disk": {"queue": {"fua": fua}}, "at_start": fua} for fua in (0, 1)
        ]
        found = compare_runs([stored(tmp_path, f"run{index}", manifest=one) for index, one in enumerate(facts)])
        assert found.host == ()
        assert "The hosts differ in 1 detail of less weight" in text_of(found)
        (difference,) = found.document()["further_host_differences"]
        assert difference == {"name": "models_disk.queue.fua", "values": (0, 1)}

    def test_what_only_one_version_records_is_a_detail(self, tmp_path: Path) -> None:
        stores = [
            stored(tmp_path, "one"),
            stored(tmp_path, "two", manifest=run_record().manifest | {"lockdown": "none"}),
        ]
        found = compare_runs(stores)
        assert (found.host, [difference.name for difference in found.host_details]) == ((), ["lockdown"])

    def test_what_was_only_measured_a_little_differently_is_no_difference(self, tmp_path: Path) -> None:
        stores = [
            stored(
                tmp_path, name, **self.manifest(disk_read_bytes_per_second={"m": rate}, calibration=[{"kept": rate}])
            )
            for name, rate in (("one", 1.00e9), ("two", 1.09e9), ("three", 1.2e9))
        ]
        assert compare_runs(stores[:2]).host == ()
        (difference,) = compare_runs([stores[0], stores[2]]).host
        assert difference.name == "disk_read_bytes_per_second.m"
        assert "A 1 GB/s; B 1.2 GB/s" in text_of(compare_runs([stores[0], stores[2]]))


class TestNumbers:
    def test_slower_and_no_difference(self, tmp_path: Path) -> None:
        found = compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", SLOW)])
        baseline, limited = found.rows
        assert (baseline.factors.resident, limited.factors.resident) == (1.0, 0.0)
        assert baseline.against_first[0].verdict == "same"
        (against,) = limited.against_first
        assert against.verdict == "slower"
        assert against.ratio is not None
        assert against.ratio.value == pytest.approx(0.8)
        text = text_of(found)
        assert "no significant difference (p = " in text
        assert against.ranks is not None
        assert (against.ranks.faster_share, against.ranks.delta) == (0.0, -1.0)
        assert against.ranks.p_value == pytest.approx(2 / 252)  # of the ways to divide ten in halves
        assert against.corrected_rank_p_value == pytest.approx(2 * 2 / 252)
        assert "by ranks faster in 0 %, p = 0.016" in text
        assert "significantly slower: a token takes 25 % longer (2" in text

    def test_faster(self, tmp_path: Path) -> None:
        text = text_of(compare_runs([stored(tmp_path, "one", SLOW), stored(tmp_path, "two")]))
        assert "significantly faster: a token takes 20 % less time (1" in text

    def test_much_slower_is_given_as_a_multiple(self, tmp_path: Path) -> None:
        slow = SLOW | {0.0: tuple(rate / 4 for rate in FAST[0.0])}
        text = text_of(compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", slow)]))
        assert f"a token takes 4.00{TIMES} as long (3." in text

    def test_too_few_are_not_judged(self, tmp_path: Path) -> None:
        few = {1.0: (80.0, 81.0), 0.0: (4.0, 4.1, 3.9)}
        found = compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", few)])
        assert [row.against_first[0].verdict for row in found.rows] == ["not judged", "same"]
        assert "not judged: 5 against 2 repetitions count, each needs 3" in text_of(found)

    def test_combinations_of_one_run_only(self, tmp_path: Path) -> None:
        stores = [stored(tmp_path, "one", {1.0: FAST[1.0]}), stored(tmp_path, "two", {0.0: FAST[0.0]})]
        found = compare_runs(stores)
        assert [row.against_first[0].reason for row in found.rows] == [
            "this run has no trial of it",
            "the first run has no trial of it",
        ]
        assert DASH in text_of(found)

    def test_three_runs_are_each_held_against_the_first(self, tmp_path: Path) -> None:
        stores = [stored(tmp_path, "one"), stored(tmp_path, "two", SLOW), stored(tmp_path, "three")]
        found = compare_runs(stores)
        assert [[against.verdict for against in row.against_first] for row in found.rows] == [
            ["same", "same"],
            ["slower", "same"],
        ]
        assert "C: 4.00" in text_of(found)

    def test_pressures_are_told_apart(self, tmp_path: Path) -> None:
        trials = records(FAST)
        for trial in records(FAST):
            changed = {"trial": trial.trial + 50, "factors": factors(trial.factors.resident, pressure="pin")}
            trials.append(TrialRecord.model_validate(trial.model_dump() | changed))
        text = text_of(compare_runs([stored(tmp_path, name, trials=trials) for name in ("one", "two")]))
        for place in ("100 % in RAM, cgroup", "100 % in RAM, pin", "0 % in RAM, cgroup", "0 % in RAM, pin"):
            assert place in text

    def test_fits_into_eighty_columns(self, tmp_path: Path) -> None:
        text = printed(
            comparison_renderable(compare_runs([stored(tmp_path, "one"), stored(tmp_path, "two", SLOW)])), width=80
        )
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text


class TestInvalidTrials:
    def invalid(self, tmp_path: Path) -> list[RunStore]:
        trials = records(FAST)
        trials[9] = trial_record(10, 0.0, 4000.0, validity=Validity(valid=False, reasons=["something else ran"]))
        return [stored(tmp_path, "one"), stored(tmp_path, "two", trials=trials)]

    def test_they_are_left_out_and_said(self, tmp_path: Path) -> None:
        found = compare_runs(self.invalid(tmp_path))
        (side,) = [row.runs[1] for row in found.rows if row.factors.resident == 0.0]
        assert side is not None
        assert side.tokens_per_second is not None
        assert side.tokens_per_second.maximum == 4.1
        text = text_of(found)
        assert "B: Trial 010 is invalid and left out: something else ran." in text
        assert "4 of 5" in text
        assert "INCLUDED" not in text

    def test_asked_for_they_count_in_big_words(self, tmp_path: Path) -> None:
        found = compare_runs(self.invalid(tmp_path), include_invalid=True)
        (side,) = [row.runs[1] for row in found.rows if row.factors.resident == 0.0]
        assert side is not None
        assert side.tokens_per_second is not None
        assert side.tokens_per_second.maximum == 4000.0
        text = text_of(found)
        assert "*** B: INVALID TRIAL 010 IS INCLUDED IN EVERY NUMBER HERE" in text
        assert text.index("***") < text.index("tokens/s")


class TestCommand:
    def call(self, *arguments: object) -> None:
        cli.app(["compare", *map(str, arguments)], standalone_mode=False)

    def test_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = changed_identity(image_digest=None)
        stores = [stored(tmp_path, "one"), stored(tmp_path, "two", SLOW, **other)]
        self.call(*(store.directory for store in stores), "--json")
        document = json.loads(capsys.readouterr().out)
        assert document["same_experiment"] is False
        assert [difference["name"] for difference in document["identity_differences"]] == ["image_digest"]
        assert [run["run_id"] for run in document["runs"]] == ["one", "two"]
        row = document["rows"][1]
        assert row["factors"]["resident"] == 0.0
        assert row["runs"][0]["tokens_per_second"]["median"] == 4.0
        (against,) = row["against_first"]
        assert against["verdict"] == "slower"
        assert against["ratio"] == pytest.approx(0.8)
        assert against["interval"][0] < 0.8 < against["interval"][1] < 1
        assert against["p_value"] <= against["corrected_p_value"] < document["significance"]
        assert against["ranks"] == pytest.approx(
            {"faster_share": 0.0, "cliffs_delta": -1.0, "p_value": 2 / 252, "corrected_p_value": 4 / 252}
        )

    def test_json_with_invalid_trials(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        stores = TestInvalidTrials().invalid(tmp_path)
        self.call(*(store.directory for store in stores), "--json", "--include-invalid")
        document = json.loads(capsys.readouterr().out)
        assert document["include_invalid"] is True
        assert document["runs"][1]["invalid_trials"] == {"010": ["something else ran"]}

    def test_table(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.call(stored(tmp_path, "one").directory, stored(tmp_path, "two", SLOW).directory)
        assert "These runs are the same experiment" in capsys.readouterr().out

    def test_one_run_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="name two or more"):
            self.call(stored(tmp_path, "one").directory)

    def test_no_run_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"holds no run\.json"):
            self.call(stored(tmp_path, "one").directory, tmp_path)
