"""Values that cannot be are refused by the record itself, in one sentence that names file and value."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_raw import observation, raw_run
from example_run import stored_run, trial_record

from pagelab.analysis.analyze import analyse_run
from pagelab.analysis.compare import compare_runs
from pagelab.errors import StoreError
from pagelab.report.run_data import RunData
from pagelab.store.files import read_document, read_table, write_table
from pagelab.store.run_store import RunStore

BEYOND_JSON = "1e999"


def old(store: RunStore) -> RunStore:
    """The run as an older pagelab leaves it, without checksums: only the records themselves can tell."""
    for name in ("checksums.json", "derived.json"):
        (store.directory / name).unlink(missing_ok=True)
    return store


def changed(path: Path, place: str, value: Any) -> None:
    """Set a value of a JSON file, by its dotted name; the text of one that JSON does not know."""
    document = json.loads(path.read_text())
    *above, last = place.split(".")
    inner = document
    for name in above:
        inner = inner[name]
    inner[last] = "PLACE" if value == BEYOND_JSON else value
    path.write_text(json.dumps(document).replace('"PLACE"', BEYOND_JSON))


def says_one_sentence(error: StoreError, *names: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 600
    for name in names:
        assert name in text


TRIALS: dict[str, tuple[str, Any]] = {
    "negative speed": ("decode.tokens_per_second", -4.6),
    "infinite speed": ("decode.tokens_per_second", float("inf")),
    "speed that is no number": ("decode.tokens_per_second", float("nan")),
    "speed beyond all numbers": ("decode.tokens_per_second", BEYOND_JSON),
    "speed of 400 digits": ("decode.tokens_per_second", 10**400),
    "bytes beyond 64 bits": ("reads.decode.model_bytes", 2**70),
    "bytes of 5,000 digits": ("reads.decode.model_bytes", 10**4999),
    "negative bytes": ("weights_bytes", -1),
    "a model of nothing": ("weights_bytes", 0),
    "a share above 1": ("residency.achieved_fraction", 1.5),
    "a negative share": ("residency.achieved_fraction", -0.1),
    "a requested share above 1": ("factors.resident", 3.0),
    "valid with reasons": ("validity.reasons", ["the limit was not reached"]),
    "invalid without reasons": ("validity.valid", False),
    "another number than its directory": ("trial", 5),
    "another model than the run's": ("factors.model", "another-model"),
    "an unknown key": ("decode.speed", 1.0),
    "a list for a number": ("decode.tokens", [1]),
    "a way out of its directory": ("derived_files", {"../../../run.json": "0" * 64}),
}


@pytest.fixture(autouse=True)
def long_numbers() -> Any:
    """The test writes numbers that Python itself would not print."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_that_cannot_be(tmp_path: Path, name: str) -> None:
    store = old(stored_run(tmp_path, [trial_record(1, 0.5, 6.7), trial_record(2, 1.0, 80.0)], tokens=False))
    changed(store.directory / "trials/001/trial.json", *TRIALS[name])
    for reader in (lambda: RunData.read(store), lambda: compare_runs([store, store])):
        with pytest.raises(StoreError) as refusal:
            reader()
        says_one_sentence(refusal.value, "another-model" if "model than" in name else "trials/001/trial.json")


OBSERVATIONS: dict[str, tuple[str, Any]] = {
    "negative counter": ("inference.at_start.process_read_bytes", -1),
    "negative counter of the group": ("inference.at_start.group.faults", -1),
    "negative ticks": ("inference.interference_at_ready.all_ticks", -5),
    "infinite rate of the disk": ("disk_read_bytes_per_second", BEYOND_JSON),
    "a model of nothing": ("model.weights_bytes", 0),
    "pages of nothing": ("page_bytes", 0),
    "another number than its directory": ("trial", 5),
    "another model than the run's": ("factors.model", "another-model"),
    "share above 1": ("factors.resident", 1.01),
    "checksum that is none": ("raw_files", {"llama.log": "0"}),
    "a way out of its directory": ("raw_files", {"/etc/passwd": "0" * 64}),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_an_observation_that_cannot_be(tmp_path: Path, name: str) -> None:
    store = old(raw_run(tmp_path))
    changed(store.directory / "trials/001/observation.json", *OBSERVATIONS[name])
    found = analyse_run(store)
    assert (found.computed, found.failed) == ([2, 3], [1])
    (note,) = [note for note in found.notes if "left as it is" in note]
    says_one_sentence(StoreError(note), "trial 001", "another-model" if "model than" in name else "observation.json")


def test_what_follows_and_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    store = old(raw_run(tmp_path))
    changed(store.directory / "trials/001/observation.json", "calibrated_non_file_bytes", 2**63 - 1)
    changed(store.directory / "trials/001/observation.json", "inference.at_last_token.group.limit_bytes", 2**64)
    (note,) = [note for note in analyse_run(store).notes if "left as it is" in note]
    says_one_sentence(StoreError(note), "trial 001", "limit.most_bytes" if "most" in note else "trial 001")


@pytest.mark.parametrize("arrivals", [[0.1, None, 0.3], [0.1, float("inf")], [0.3, 0.1], [-1.0, 0.1], [float("nan")]])
def test_tokens_in_an_order_that_cannot_be(tmp_path: Path, arrivals: list[float | None]) -> None:
    store = raw_run(tmp_path)
    store.write_trial_table(2, "tokens", pa.table({"arrival_seconds": pa.array(arrivals, pa.float64())}))
    store.write_observation(store.read_observation(2))
    (note,) = analyse_run(store).notes
    says_one_sentence(StoreError(note), "trial 002", "tokens.parquet")


def test_tokens_that_are_missing_are_named(tmp_path: Path) -> None:
    store = raw_run(tmp_path)
    analyse_run(store)
    rate = store.read_trials()[0].decode.tokens_per_second
    store.trial_table_path(1, "tokens").unlink()
    for run in (store, old(store)):
        assert "trials/001/tokens.parquet is missing" in analyse_run(run).notes[0]
        assert store.read_trials()[0].decode.tokens_per_second == rate is not None


def test_tokens_that_were_never_written_are_named(tmp_path: Path) -> None:
    store = raw_run(tmp_path)
    store.trial_table_path(1, "tokens").unlink()
    store.write_observation(store.read_observation(1))
    assert "tokens.parquet is missing" in analyse_run(store).notes[0]


class TestFiles:
    @pytest.mark.parametrize(
        "text",
        [
            "[" * 100_000 + "]" * 100_000,
            '{"a":' * 60 + "1" + "}" * 60,
            '{"a": ' + "9" * 5000 + "}",
            '{"a": -' + "9" * 21 + "}",
            '{"a": Infinity}',
            '{"a": -1e400}',
            '{"a": NaN}',
            "{" + "x" * 10_000,
            '{"schema_version": 99999999999}',
        ],
        ids=lambda text: text[:12],
    )
    def test_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(StoreError) as refusal:
            read_document(tmp_path / "a.json")
        says_one_sentence(refusal.value, "a.json")

    def test_a_manifest_of_64_bits_comes_back(self, tmp_path: Path) -> None:
        document = {"a": [2**64 - 1, -(2**63), 1.7e308, {"b": {"c": [None, True]}}]}
        (tmp_path / "a.json").write_text(json.dumps(document))
        assert read_document(tmp_path / "a.json") == document

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.json")
        with pytest.raises(StoreError, match=r"a\.json is no regular file"):
            read_document(tmp_path / "a.json")

    def test_a_table_with_texts_that_are_no_utf_8(self, tmp_path: Path) -> None:
        offsets = pa.array([0, 2], pa.int32()).buffers()[1]
        texts = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])
        pq.write_table(pa.table({"s": texts}), tmp_path / "a.parquet")
        with pytest.raises(StoreError) as refusal:
            read_table(tmp_path / "a.parquet")
        says_one_sentence(refusal.value, "a.parquet", "UTF8")

    def test_a_flipped_bit_of_a_page_is_noticed_without_any_checksum_of_ours(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        write_table(path, pa.table({"a": pa.array([1.25] * 3 + [float(n) for n in range(500)])}))
        content = bytearray(path.read_bytes())
        place = 300  # in the middle of the values
        assert b"ARROW:schema" in content[place + 300 :], "it is no part of the footer"
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"a\.parquet"):
            read_table(path)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"arrival_seconds": [0.1]}),
        pa.table({"seconds": [0.1], "model_resident_bytes": ["a"]}),
        pa.table({"layer": pa.array([1], pa.int32())}),
    ],
    ids=lambda table: ",".join(table.column_names),
)
def test_samples_of_another_shape(tmp_path: Path, table: pa.Table) -> None:
    store = raw_run(tmp_path)
    store.write_trial_table(2, "samples", table)
    store.write_observation(store.read_observation(2))
    (note,) = analyse_run(store).notes
    says_one_sentence(StoreError(note), "trial 002", "samples.parquet does not hold samples")


def test_counters_that_are_absent_or_nought_are_fine() -> None:
    assert observation(1, disk_read_bytes_per_second=0.0, oom_kills=None).oom_kills is None
