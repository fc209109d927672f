"""The access pattern of trials that read in known ways: by window, token, layer and expert."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from example_run import stored_run, trial_record
from example_trace import (
    EXPERTS,
    FILE_BYTES,
    FIRST,
    STEP,
    TOKENS,
    PageEvent,
    Request,
    add_trace,
    block_table,
    pages_in_order,
    reads_in_order,
    traced,
)

from pagelab.analysis.access.pattern import access_of_block_io, analyse_trial
from pagelab.analysis.hypotheses import Uncertain, judge_hypotheses
from pagelab.analysis.trial_table import summary_table
from pagelab.config.schema import Hypothesis
from pagelab.errors import StoreError
from pagelab.store.files import write_table
from pagelab.store.record import SCHEMA_VERSION, Access, Load
from pagelab.units import KIB, MIB

DECODED = TOKENS - 1
LAST = FIRST + DECODED * STEP
SCAN = reads_in_order(0.0, 1.0, 0, FILE_BYTES)
WEIGHTS = FILE_BYTES - MIB
LAYER = 4 * MIB  # where the first layer begins


class Trial:
    """A trial with a trace, analysed; tables by name."""

    def __init__(self, results: Path, **trace: Any) -> None:
        self.record = traced(trial_record(1, 0.5, 9.0))
        self.store = stored_run(results, [self.record], tokens=False)
        add_trace(self.store, 1, **trace)
        self.access = analyse_trial(self.store, self.record)
        document = json.loads(self.store.read_trial_text(1, "access.json"))
        assert document is not None
        self.document = document

    def window(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document["windows"][name]
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        table = self.store.read_trial_table(1, name)
        assert table is not None
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def every_token(
    offset: int, size: int, tokens: Iterable[int] = range(DECODED), request: int = MIB // 4
) -> list[Request]:
    """The same piece of the file for each decoded token."""
    return [
        one
        for token in tokens
        for one in reads_in_order(FIRST + token * STEP, FIRST + (token + 1) * STEP, offset, size, request)
    ]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Loading reads all, the prompt nothing, and each token all weights again, with some swap and a stranger's read."""
    requests = [*SCAN, *every_token(MIB, WEIGHTS)]
    requests += [
        Request(-0.5, 0, 4096, source="other"),
        Request(2.25, 9 * MIB, 8192, source="swap"),
        Request(2.75, 100 * MIB, 4096, source="other"),
        Request(2.75, 200 * MIB, 4096, operation="write", source="other"),
        Request(2.8, 300 * MIB, 4096, source="other", error=5),
    ]
    return Trial(tmp_path_factory.mktemp("dense"), requests=requests)


class TestWindows:
    def test_bytes_of_each_window(self, dense: Trial) -> None:
        assert dense.window("load")["model_bytes"] == FILE_BYTES
        assert dense.window("load")["reads"] == 64
        prompt = dense.window("prompt")
        assert (prompt["reads"], prompt["read_bytes"], prompt["model_bytes"]) == (0, 0, 0)
        decode = dense.window("decode")
        assert decode["model_bytes"] == DECODED * WEIGHTS
        assert decode["model_reads"] == DECODED * 60
        assert decode["reads"] == DECODED * 60 + 2
        assert (decode["swap_bytes"], decode["other_bytes"]) == (8192, 4096)
        assert decode["read_bytes"] == DECODED * WEIGHTS + 8192 + 4096
        assert decode["seconds"] == DECODED * STEP

    def test_the_whole_recording_holds_what_came_before(self, dense: Trial) -> None:
        whole = dense.window("all")
        assert whole["reads"] == 64 + DECODED * 60 + 3
        assert whole["model_bytes"] == FILE_BYTES + DECODED * WEIGHTS
        assert "seconds" not in whole

    def test_nothing_read_has_no_order(self, dense: Trial) -> None:
        assert not {"sequential_fraction", "mean_read_bytes", "reread_factor"} & dense.window("prompt").keys()
        assert dense.window("prompt")["distinct_bytes"] == 0

    def test_reads_of_the_whole_model_again(self, dense: Trial) -> None:
        decode = dense.window("decode")
        assert decode["distinct_bytes"] == WEIGHTS
        assert decode["reread_factor"] == DECODED
        assert decode["coverage_fraction"] == WEIGHTS / FILE_BYTES
        assert dense.window("load")["reread_factor"] == 1.0
        assert dense.window("load")["coverage_fraction"] == 1.0

    def test_order(self, dense: Trial) -> None:
        decode = dense.window("decode")
        assert (decode["runs"], decode["mean_run_bytes"], decode["median_run_bytes"]) == (DECODED, WEIGHTS, WEIGHTS)
        assert decode["sequential_fraction"] == 1 - MIB / WEIGHTS
        assert decode["sequential_fraction_next"] == (DECODED * 60 - DECODED) / (DECODED * 60 - 1)
        assert decode["sequential_fraction_notes"] == 0.0
        assert decode["forward_fraction"] == 0.0
        assert decode["backward_fraction"] == (DECODED - 1) / (DECODED * 60 - 1)
        assert decode["gaps"]["adjacent"] == DECODED * 59
        assert decode["gaps"]["backward"] == [{"from_bytes": 8 * MIB, "below_bytes": 16 * MIB, "gaps": DECODED - 1}]

    def test_sizes(self, dense: Trial) -> None:
        decode = dense.window("decode")
        assert (decode["mean_read_bytes"], decode["median_read_bytes"]) == (MIB / 4, MIB / 4)
        assert decode["read_sizes"] == [
            {"from_bytes": MIB // 4, "below_bytes": MIB // 2, "reads": DECODED * 60, "read_bytes": DECODED * WEIGHTS}
        ]

    def test_what_it_was_counted_from(self, dense: Trial) -> None:
        document = dense.document
        assert (document["schema_version"], document["model_bytes_source"], document["order"]) == (
            SCHEMA_VERSION,
            "block",
            "issue",
        )
        assert (document["readahead_bytes"], document["readahead_assumed"]) == (MIB, False)

    def test_the_headlines_are_those_of_decode(self, dense: Trial) -> None:
        decode = dense.window("decode")
        headlines = dense.access.document()
        assert (headlines.pop("model_bytes_source"), headlines.pop("order")) == ("block", "issue")
        assert headlines.pop("model_bytes_per_token") == decode["model_bytes"] / (dense.record.decode.tokens or 0)
        assert headlines == {name: value for name, value in decode.items() if name in Access.model_fields}
        assert headlines["sequential_fraction"] == decode["sequential_fraction"]

    def test_without_the_time_of_loading(self, tmp_path: Path) -> None:
        trial = Trial(tmp_path, requests=SCAN)
        analyse_trial(trial.store, trial.record.model_copy(update={"load": Load()}))
        document = json.loads(trial.store.read_trial_text(1, "access.json"))
        assert document is not None
        assert document["windows"].keys() == {"decode", "all"}


class TestQueue:
    def test_latency(self, tmp_path: Path) -> None:
        took = [0.001] * 50 + [0.002] * 40 + [0.010] * 9 + [0.1]
        requests = [Request(2.0 + 0.001 * place, place * 4096, 4096, one) for place, one in enumerate(took)]
        decode = Trial(tmp_path, requests=requests).window("decode")
        names = ("latency_p50_seconds", "latency_p90_seconds", "latency_p99_seconds", "latency_max_seconds")
        assert [decode[name] for name in names] == [0.001, 0.002, 0.010, 0.1]

    def test_depth_over_time(self, tmp_path: Path) -> None:
        """One request for 0.2 s, a second one beside it for the last 0.1 s; and one that was under way at the end."""
        requests = [Request(1.8, 0, 4096, 0.2), Request(1.8, 8192, 4096, 0.1), Request(LAST + 1, 0, 4096, 1.1)]
        decode = Trial(tmp_path, requests=requests).window("decode")
        assert decode["reads"] == 2
        assert decode["queue_depth_mean"] == pytest.approx((0.2 + 0.1 + 0.1) / 2.0)
        assert decode["busy_fraction"] == pytest.approx(0.3 / 2.0)
        assert (decode["queue_depth_p50"], decode["queue_depth_p90"], decode["queue_depth_max"]) == (1, 2, 2)

    def test_without_issues(self, tmp_path: Path) -> None:
        requests = [Request(one.at, one.offset, one.bytes, None) for one in every_token(MIB, WEIGHTS)]
        trial = Trial(tmp_path, requests=requests, issues=False)
        decode = trial.window("decode")
        assert not [name for name in decode if name.startswith(("latency", "queue", "busy"))]
        assert trial.document["order"] == "completion"
        assert decode["sequential_fraction"] == 1 - MIB / WEIGHTS

    def test_order_is_that_of_issue(self, tmp_path: Path) -> None:
        """Each pair of requests is completed the wrong way round."""
        requests = [
            Request(2.0 + 0.01 * place + (0.015 if place % 2 == 0 else 0.0), place * MIB, MIB, None)
            for place in range(16)
        ]
        began = [
            Request(one.at, one.offset, one.bytes, one.at - 1.9 - 0.001 * place) for place, one in enumerate(requests)
        ]
        decode = Trial(tmp_path, requests=began).window("decode")
        assert decode["sequential_fraction_next"] == 1.0
        assert decode["runs"] == 1


class TestTables:
    def test_a_row_a_token(self, dense: Trial) -> None:
        rows = dense.rows("access_tokens")
        assert [row["token_index"] for row in rows] == list(range(TOKENS))
        assert [row["model_bytes"] for row in rows] == [0] + [WEIGHTS] * DECODED
        assert [row["distinct_bytes"] for row in rows] == [0] + [WEIGHTS] * DECODED
        assert [row["new_bytes"] for row in rows] == [None, WEIGHTS, 0, 0, 0]
        assert [row["seconds"] for row in rows] == [STEP] * TOKENS
        assert sum(row["read_bytes"] for row in rows) == dense.window("decode")["read_bytes"]
        assert sum(row["swap_bytes"] for row in rows) == 8192
        assert sum(row["reads"] for row in rows) == dense.window("decode")["reads"]

    def test_bytes_over_time(self, dense: Trial) -> None:
        rows = dense.rows("access_throughput")
        assert rows[0]["begin_seconds"] == -0.5
        assert rows[-1]["begin_seconds"] == 3.4
        assert len(rows) == 40
        assert sum(row["model_bytes"] for row in rows) == dense.window("all")["model_bytes"]
        assert sum(row["read_bytes"] for row in rows) == dense.window("all")["read_bytes"]
        swapped = [row for row in rows if row["swap_bytes"]]
        assert [(row["begin_seconds"], row["swap_bytes"]) for row in swapped] == [(2.2, 8192)]

    def test_a_row_a_tensor(self, dense: Trial) -> None:
        rows = dense.rows("access_tensors")
        assert [row["tensor"] for row in rows] == [
            "token_embd.weight",
            "blk.0.attn_q.weight",
            "blk.0.ffn_up_exps.weight",
            "blk.1.attn_q.weight",
            "blk.1.ffn_up_exps.weight",
        ]
        for row in rows:
            assert row["load_read_bytes"] == row["bytes"]
            assert row["prompt_read_bytes"] == 0
            assert row["decode_read_bytes"] == DECODED * row["bytes"]
            assert (row["reread_factor"], row["coverage_fraction"], row["decode_tokens"]) == (DECODED, 1.0, DECODED)
            assert row["decode_reads"] == DECODED * row["bytes"] // (MIB // 4)
        assert sum(row["decode_read_bytes"] for row in rows) == dense.window("decode")["model_bytes"]

    def test_layers(self, dense: Trial) -> None:
        rows = {(row["layer"], row["tensor_class"]): row for row in dense.rows("access_layers")}
        assert list(rows) == [(None, "embedding"), (0, "attention"), (0, "experts"), (1, "attention"), (1, "experts")]
        assert rows[0, "experts"]["bytes"] == EXPERTS * MIB
        assert rows[1, "attention"]["decode_read_bytes"] == DECODED * 2 * MIB

    def test_where_and_when(self, dense: Trial) -> None:
        rows = dense.rows("access_map")
        assert sum(row["read_bytes"] for row in rows) == dense.window("decode")["model_bytes"]
        assert {row["bytes"] for row in rows} == {FILE_BYTES // 64}
        assert all(FIRST <= row["begin_seconds"] < LAST for row in rows)
        classes = {row["offset_bytes"]: row["tensor_class"] for row in rows}
        assert (classes[MIB], classes[4 * MIB], classes[6 * MIB]) == ("embedding", "attention", "experts")

    def test_reuse_of_a_cyclic_scan(self, dense: Trial) -> None:
        rows = dense.rows("reuse")
        assert [(row["cache_bytes"], row["miss_ratio"]) for row in rows] == [(0, 1.0), (WEIGHTS, 1 / DECODED)]
        assert [row["reuse_miss_ratio"] for row in rows] == [1.0, 0.0]
        assert dense.document["reuse"] == {
            "block_bytes": 64 * KIB,
            "accesses": DECODED * WEIGHTS // (64 * KIB),
            "first_accesses": WEIGHTS // (64 * KIB),
            "median_reuse_bytes": WEIGHTS,
        }


class TestExperts:
    """Tokens that use some experts only; a read that spans two of them counts for each by its share."""

    @pytest.fixture(scope="class")
    @staticmethod
    def sparse(tmp_path_factory: pytest.TempPathFactory) -> Trial:
        experts = LAYER + 2 * MIB
        requests = every_token(LAYER, 2 * MIB)
        requests += every_token(experts + MIB, MIB, tokens=[0, 2])
        requests += every_token(experts + MIB + MIB // 2, MIB, tokens=[3], request=MIB)
        return Trial(tmp_path_factory.mktemp("sparse"), requests=requests)

    def test_bytes_by_expert(self, sparse: Trial) -> None:
        rows = {(row["layer"], row["expert"]): row for row in sparse.rows("access_experts")}
        assert list(rows) == [(layer, expert) for layer in range(2) for expert in range(EXPERTS)]
        assert [rows[0, expert]["decode_read_bytes"] for expert in range(4)] == [0, 2.5 * MIB, MIB / 2, 0]
        assert [rows[0, expert]["decode_tokens"] for expert in range(4)] == [0, 3, 1, 0]
        assert [rows[0, expert]["decode_reads"] for expert in range(4)] == [0, 9, 1, 0]
        assert [rows[0, expert]["coverage_fraction"] for expert in range(4)] == [0.0, 1.0, 0.5, 0.0]
        assert [rows[0, expert]["reread_factor"] for expert in range(4)] == [None, 2.5, 1.0, None]
        assert {row["bytes"] for row in rows.values()} == {MIB}

    def test_layers_hold_the_same_bytes(self, sparse: Trial) -> None:
        rows = {(row["layer"], row["tensor_class"]): row["decode_read_bytes"] for row in sparse.rows("access_layers")}
        assert rows[0, "experts"] == 3 * MIB
        assert rows[0, "attention"] == DECODED * 2 * MIB
        assert rows[None, "embedding"] == rows[1, "experts"] == 0

    def test_new_bytes_of_each_token(self, sparse: Trial) -> None:
        rows = sparse.rows("access_tokens")
        assert [row["new_bytes"] for row in rows] == [None, 3 * MIB, 0, 0, MIB / 2]
        assert [row["distinct_bytes"] for row in rows] == [0, 3 * MIB, 2 * MIB, 3 * MIB, 3 * MIB]


class TestPages:
    """Where the file system does not say where the file lies, pages that enter the cache tell what was read."""

    @staticmethod
    def events() -> list[PageEvent]:
        events = pages_in_order(0.0, 1.0, 0, FILE_BYTES)
        for token in range(DECODED):
            begin = FIRST + token * STEP
            events += pages_in_order(begin, begin + STEP, LAYER, 2 * MIB)
            events += [PageEvent(begin + 0.25, "map", LAYER, 64 * KIB), PageEvent(begin + 0.3, "fault", LAYER + MIB)]
            events += [PageEvent(begin + 0.31, "delete", LAYER + place * 4096) for place in range(256)]
        return events

    @pytest.fixture(scope="class")
    @staticmethod
    def without_extents(tmp_path_factory: pytest.TempPathFactory) -> Trial:
        file = {"kind": "model", "path": "m.gguf", "bytes": FILE_BYTES, "without_extents": "btrfs has its own"}
        requests = [Request(one.at, one.offset, one.bytes, source="other") for one in every_token(LAYER, 2 * MIB)]
        return Trial(tmp_path_factory.mktemp("btrfs"), requests=requests, events=TestPages.events(), files=[file])

    def test_bytes(self, without_extents: Trial) -> None:
        assert without_extents.document["model_bytes_source"] == "page_cache"
        assert without_extents.document["order"] == "page_cache"
        assert without_extents.window("load")["model_bytes"] == FILE_BYTES
        decode = without_extents.window("decode")
        assert decode["model_bytes"] == decode["page_added_bytes"] == DECODED * 2 * MIB
        assert decode["read_bytes"] == DECODED * 2 * MIB
        assert "other_bytes" not in decode, "what of the disk's reads was the model's is not known"
        assert decode["page_deleted_bytes"] == DECODED * MIB
        assert decode["distinct_bytes"] == 2 * MIB
        assert decode["sequential_fraction"] == 0.5

    @pytest.mark.parametrize("level", ["faults", "entered", "all"])
    def test_what_was_not_recorded_is_not_known(self, tmp_path: Path, level: str) -> None:
        recorded = {"faults": ("fault", "map"), "entered": ("fault", "map", "add")}
        events = [event for event in self.events() if event.event in recorded.get(level, (event.event,))]
        decode = Trial(tmp_path, events=events, pages=level).window("decode")
        assert ("page_added_bytes" in decode) == ("model_bytes" in decode) == (level != "faults")
        assert ("page_deleted_bytes" in decode) == (level == "all")

    def test_pages_are_joined_to_readahead_windows(self, without_extents: Trial) -> None:
        decode = without_extents.window("decode")
        assert (decode["model_reads"], decode["mean_read_bytes"]) == (DECODED * 2, MIB)

    def test_read_amplification(self, without_extents: Trial) -> None:
        decode = without_extents.window("decode")
        assert decode["mapped_bytes"] == 68 * KIB
        assert decode["read_amplification"] == DECODED * 2 * MIB / (68 * KIB)
        assert decode["read_amplification_per_token"] == 2 * MIB / (68 * KIB)
        rows = without_extents.rows("access_tokens")
        assert [row["mapped_bytes"] for row in rows] == [0] + [68 * KIB] * DECODED
        assert [row["read_amplification"] for row in rows] == [None] + [2 * MIB / (68 * KIB)] * DECODED

    def test_of_a_mapped_range_only_what_was_read_counts(self, tmp_path: Path) -> None:
        """As under MADV_RANDOM: a page is read, and the event of the mapping names the 64 KiB around it."""
        events = [PageEvent(2.0, "add", LAYER + 8 * KIB), PageEvent(2.1, "map", LAYER, 64 * KIB)]
        decode = Trial(tmp_path, events=events, profiles=["page"]).window("decode")
        assert (decode["mapped_bytes"], decode["read_amplification"]) == (4096, 1.0)
        assert decode["read_amplification_per_token"] == 1.0

    def test_pages_alone(self, tmp_path: Path) -> None:
        trial = Trial(tmp_path, events=self.events(), profiles=["page"])
        decode = trial.window("decode")
        assert decode["model_bytes"] == DECODED * 2 * MIB
        assert not {"reads", "read_bytes", "swap_bytes", "sequential_fraction_notes"} & decode.keys()
        assert trial.rows("access_tokens")[1]["reads"] is None
        assert trial.rows("access_layers")[1]["decode_read_bytes"] == DECODED * 2 * MIB

    def test_both(self, tmp_path: Path) -> None:
        trial = Trial(tmp_path, requests=every_token(LAYER, 2 * MIB), events=self.events())
        decode = trial.window("decode")
        assert trial.document["model_bytes_source"] == "block"
        assert decode["model_bytes"] == decode["page_added_bytes"]
        assert decode["mean_read_bytes"] == MIB / 4
        assert decode["read_amplification_per_token"] == 2 * MIB / (68 * KIB)

    def test_nothing_was_traced(self, tmp_path: Path) -> None:
        trial = Trial(tmp_path)
        assert trial.access == Access()
        assert trial.window("decode") == {"seconds": DECODED * STEP}
        assert trial.rows("reuse") == trial.rows("access_map") == []
        assert trial.rows("access_layers")[0]["decode_read_bytes"] is None


class TestSwapThatIsUnknown:
    def test_is_absent(self, tmp_path: Path) -> None:
        extents = [{"file_offset": 0, "disk_offset": 512 * MIB, "bytes": FILE_BYTES}]
        files = [
            {"kind": "model", "path": "m.gguf", "bytes": FILE_BYTES, "device": "vda", "extents": extents},
            {"kind": "swap", "path": "/swapfile", "bytes": MIB, "without_extents": "it lies on btrfs"},
        ]
        decode = Trial(tmp_path, requests=every_token(LAYER, MIB), files=files).window("decode")
        assert decode["model_bytes"] == DECODED * MIB
        assert not {"swap_bytes", "other_bytes"} & decode.keys()


class TestInTheRecord:
    def test_hypotheses_and_the_summary(self, dense: Trial) -> None:
        record = dense.record.model_copy(update={"access": dense.access})
        expect = "median(access.sequential_fraction | resident=0.5) >= 0.8"
        repeated = [record.model_copy(update={"trial": number}) for number in (1, 2, 3)]
        (verdict,) = judge_hypotheses([Hypothesis(claim="in order", expect=expect)], repeated)
        assert (verdict.outcome, verdict.left) == ("supported", Uncertain(1 - MIB / WEIGHTS, (1 - MIB / WEIGHTS,) * 2))
        table = summary_table([record, trial_record(2, 1.0, 80.0)])
        assert table["access.model_bytes"].to_pylist() == [DECODED * WEIGHTS, None]
        assert table["access.model_bytes_source"].to_pylist() == ["block", None]

    def test_the_same_bytes_again(self, dense: Trial) -> None:
        directory = dense.store.trial_directory(1)
        before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
        assert analyse_trial(dense.store, dense.record) == dense.access
        assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == before


class TestImports:
    @staticmethod
    def table(directory: Path, requests: Iterable[Request]) -> Path:
        path = directory / "block_io.parquet"
        write_table(path, block_table(requests, placed=False))
        return path

    def test_numbers(self, tmp_path: Path) -> None:
        requests = [*every_token(0, FILE_BYTES), Request(0.5, 0, 4096, operation="write")]
        facts = access_of_block_io(self.table(tmp_path, requests), MIB)
        assert facts["schema_version"] == SCHEMA_VERSION
        assert (facts["reads"], facts["read_bytes"]) == (DECODED * 64, DECODED * FILE_BYTES)
        assert (facts["mean_read_bytes"], facts["median_read_bytes"]) == (MIB / 4, MIB / 4)
        assert facts["sequential_fraction"] == 15 / 16
        assert facts["sequential_fraction_next"] == DECODED * 63 / (DECODED * 64 - 1)
        assert facts["sequential_fraction_notes"] == 0.0
        assert (facts["reread_factor"], facts["distinct_bytes"]) == (DECODED, FILE_BYTES)
        assert (facts["order"], facts["offsets"], facts["readahead_assumed"]) == ("issue", "device", False)
        assert facts["latency_p50_seconds"] == pytest.approx(0.001)

    def test_an_unknown_readahead_is_assumed_and_said(self, tmp_path: Path) -> None:
        facts = access_of_block_io(self.table(tmp_path, every_token(0, FILE_BYTES)))
        assert (facts["readahead_bytes"], facts["readahead_assumed"]) == (128 * KIB, True)
        assert facts["sequential_fraction"] == 63 / 64

    def test_the_notes_rule_is_in_order_of_completion(self, tmp_path: Path) -> None:
        """Issued in order, completed so that one read in the middle is last."""
        requests = [Request(1.0 + place, place * 4096, 4096, 0.5 + place) for place in (0, 1, 3, 4)]
        late = Request(9.0, 2 * 4096 * 1000, 4096, 0.1)
        facts = access_of_block_io(self.table(tmp_path, [*requests, late]), MIB)
        assert facts["sequential_fraction_notes"] == 3 / 4

    def test_an_empty_recording(self, tmp_path: Path) -> None:
        facts = access_of_block_io(self.table(tmp_path, []), MIB)
        assert (facts["reads"], facts["read_bytes"]) == (0, 0)
        assert "sequential_fraction" not in facts
        assert "mean_read_bytes" not in facts

    def test_a_table_without_a_column(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, every_token(0, MIB))
        write_table(path, pq.read_table(path).drop_columns(["sector"]))
        with pytest.raises(StoreError, match="has no column sector: compute it again by `pagelab analyze`"):
            access_of_block_io(path)

    def test_texts_that_are_no_dictionary(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, every_token(0, MIB))
        expected = access_of_block_io(path)
        table = pq.read_table(path)
        for name in ("device", "operation"):
            table = table.set_column(table.column_names.index(name), name, table[name].cast("string"))
        write_table(path, table)
        assert access_of_block_io(path) == expected
