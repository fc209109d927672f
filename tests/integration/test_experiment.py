"""A whole experiment in the lab's container: a small model in RAM and out of it, and what its result files say."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lab import Call, needs_lab, needs_root, on_host, own_faults, run, write_config
from pagelab.host.procfs import meminfo_bytes
from pagelab.report.wording import number
from pagelab.store.record import SCHEMA_VERSION, Identity, TrialRecord
from pagelab.store.trace_record import TRACE_VERSION
from pagelab.units import GIB, MIB

pytestmark = [needs_lab, needs_root]

TOKENS = 12
SHARES = (1.0, 0.5, 0.0)
LIMITED = (0.5, 0.0)
OWNER = (4242, 4343)
AS_OWNER = {"SUDO_UID": str(OWNER[0]), "SUDO_GID": str(OWNER[1])}
WHOLE_RUN = {"experiment": "paging", "factors": {"resident": list(SHARES)}}


@pytest.fixture(scope="module")
def paging(dense_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """One run of three trials, typed by somebody under sudo."""
    directory = tmp_path_factory.mktemp("paging")
    call = run(write_config(directory / "paging.yml", **WHOLE_RUN), directory / "results", environment=AS_OWNER)
    assert call.code == 0, call.show()
    return call


@pytest.fixture(params=SHARES)
def trial(request: pytest.FixtureRequest, paging: Call) -> TrialRecord:
    return paging.trial(resident=request.param)


@pytest.fixture(params=LIMITED)
def limited(request: pytest.FixtureRequest, paging: Call) -> TrialRecord:
    return paging.trial(resident=request.param)


def weights_per_token(record: TrialRecord) -> float:
    """How much of the weights was read again for a token."""
    assert record.reads.decode.model_bytes is not None
    assert record.decode.tokens is not None
    return record.reads.decode.model_bytes / record.decode.tokens / record.weights_bytes


# --- what is there ----------------------------------------------------------------------------------------------------


def test_every_file_of_the_run_is_there(paging: Call) -> None:
    directory = paging.store.directory
    assert directory.parent == paging.results / "paging" / "localhost"
    assert sorted(path.name for path in directory.iterdir()) == [
        "checksums.json",
        "config.yml",
        "derived.json",
        "report",
        "run.json",
        "summary.parquet",
        "trials",
    ]
    assert sorted(path.name for path in (directory / "trials").iterdir()) == ["001", "002", "003"]
    for path in (directory / "trials").iterdir():
        there = {file.name for file in path.iterdir()}
        assert there == {
            "observation.json",
            "trial.json",
            "llama.log",
            "output.txt",
            "tokens.parquet",
            "samples.parquet",
            "residency.parquet",
            "trace",
            "block_io.parquet",
            "page_cache.parquet",
            "access.json",
            "access_tokens.parquet",
            "access_layers.parquet",
            "access_experts.parquet",
            "access_tensors.parquet",
            "access_throughput.parquet",
            "access_map.parquet",
            "reuse.parquet",
        }
        raw = {file.name for file in (path / "trace").iterdir()}
        assert {"trace.json", "cpu0.raw.zst"} <= raw
    assert list(directory.rglob("*.partial")) == []


RAW = {"observation.json", "llama.log", "output.txt", "tokens.parquet", "samples.parquet", "residency.parquet"}
KEPT = RAW | {"run.json", "config.yml", "checksums.json"}


def test_all_that_is_derived_comes_back_byte_for_byte_elsewhere(paging: Call, tmp_path: Path) -> None:
    """Made in the container, made again in the virtual environment, from the raw files alone."""
    run = paging.store.directory
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report"))
    derived = [path for path in copy.rglob("*") if path.is_file() and path.name not in KEPT]
    derived = [path for path in derived if "trace" not in path.parts]
    assert {"trial.json", "access.json", "block_io.parquet", "summary.parquet"} <= {path.name for path in derived}
    for path in derived:
        path.unlink()
    again = on_host("analyze", copy)
    assert again.returncode == 0, again.stderr
    for path in derived:
        assert path.read_bytes() == (run / path.relative_to(copy)).read_bytes(), path


def test_the_run_is_complete_and_says_how_it_was_made(paging: Call) -> None:
    record = paging.store.read_run()
    assert record.status == "complete"
    assert (record.trials_planned, record.trials_done) == (3, 3)
    assert record.forced == []
    verdicts = {check.name: check.verdict for check in record.preflight}
    assert (verdicts["swap"], verdicts["memory controller"], verdicts["model dense"]) == ("pass", "pass", "pass")
    assert record.identity.image_digest is not None
    assert record.identity.image_digest.startswith("sha256:")
    assert record.manifest["llama_cpp"]["is_pin"] or record.notes, "the stand-in is declared in every result"


def test_every_json_file_carries_the_schema_version_and_no_empty_value(paging: Call) -> None:
    files = list(paging.store.directory.rglob("*.json"))
    of_a_trial = ("observation.json", "trial.json", "access.json", "trace.json")
    assert len(files) == len(("run.json", "checksums.json", "derived.json")) + 3 * len(of_a_trial)
    for file in files:
        document = json.loads(file.read_text())
        assert document["schema_version"] == (TRACE_VERSION if file.name == "trace.json" else SCHEMA_VERSION)
        assert None not in document.values()


def test_results_belong_to_who_typed_the_command(paging: Call) -> None:
    paths = [paging.results, *paging.results.rglob("*")]
    assert len(paths) > 20
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {OWNER}


def test_the_last_line_names_the_page(paging: Call) -> None:
    page = paging.store.directory / "report" / "index.html"
    assert paging.stdout.splitlines()[-1] == f"Page: {page}"
    assert "<html" in page.read_text()


def test_the_table_is_printed_with_the_slowdown(paging: Call) -> None:
    fast, slow = (paging.trial(resident=share).decode.tokens_per_second for share in (1.0, 0.0))
    assert fast is not None
    assert slow is not None
    words = " ".join(paging.stdout.split())
    assert f"with none of them it was {number(fast / slow)}" in words
    assert f"{number(slow)} tokens/s)" in words


def test_the_summary_has_one_row_a_trial(paging: Call) -> None:
    rows = pq.read_table(paging.store.directory / "summary.parquet").to_pylist()
    assert sorted(row["factors.resident"] for row in rows) == sorted(SHARES)
    by_share = {row["factors.resident"]: row for row in rows}
    for share in SHARES:
        record = paging.trial(resident=share)
        assert by_share[share]["reads.decode.model_bytes"] == record.reads.decode.model_bytes
        assert by_share[share]["decode.tokens_per_second"] == record.decode.tokens_per_second


# --- what it says -----------------------------------------------------------------------------------------------------


def test_each_trial_is_valid(trial: TrialRecord) -> None:
    assert own_faults(trial) == []
    assert trial.exit_status == 0


def test_each_trial_began_without_the_model_in_the_page_cache(trial: TrialRecord) -> None:
    assert trial.residency.before_load_bytes == 0
    assert trial.reads.load.model_bytes is not None
    assert trial.reads.load.model_bytes > 0.9 * trial.weights_bytes


def test_no_weights_were_repacked(trial: TrialRecord) -> None:
    assert trial.engine.repacked_bytes == 0
    assert "--no-repack" in trial.command


def test_every_token_is_stamped_as_it_arrives(trial: TrialRecord, paging: Call) -> None:
    table = paging.store.read_trial_table(trial.trial, "tokens")
    assert table is not None
    arrivals = table.column("arrival_seconds").to_pylist()
    assert table.num_rows == TOKENS
    assert table.column("token_index").to_pylist() == list(range(TOKENS))
    assert all(later > earlier for earlier, later in pairwise(arrivals))
    assert trial.decode.tokens == TOKENS - 1
    assert trial.decode.seconds == arrivals[-1] - arrivals[0]
    assert trial.time_to_first_token_seconds == arrivals[0]
    latencies = table.column("latency_seconds").to_pylist()
    assert latencies[0] is None
    assert sum(latencies[1:]) == pytest.approx(trial.decode.seconds)
    assert trial.decode.token_p50_seconds in {later - earlier for earlier, later in pairwise(arrivals)}


def test_our_clock_agrees_with_llama_cpp(trial: TrialRecord) -> None:
    assert trial.engine.decode_seconds == pytest.approx(trial.decode.seconds, rel=0.1)
    assert trial.engine.decode_runs == TOKENS - 1


def test_the_windows_follow_each_other(trial: TrialRecord) -> None:
    assert trial.load.seconds is not None
    assert trial.prompt.seconds is not None
    assert trial.load.seconds + trial.prompt.seconds == pytest.approx(trial.time_to_first_token_seconds)


def test_samples_ascend_and_hold_the_residency(trial: TrialRecord, paging: Call) -> None:
    table = paging.store.read_trial_table(trial.trial, "samples")
    assert table is not None
    seconds = table.column("seconds").to_pylist()
    assert seconds == sorted(seconds)
    assert max(table.column("model_resident_bytes").to_pylist()) > 0


def test_the_baseline_reads_nothing_again(paging: Call) -> None:
    baseline = paging.trial(resident=1.0)
    assert baseline.reads.decode.model_bytes is not None
    assert baseline.reads.decode.model_bytes < 0.01 * baseline.weights_bytes
    assert baseline.residency.achieved_fraction == pytest.approx(1.0, abs=0.01)
    assert baseline.limit.bytes is None
    assert baseline.limit.effective is None


def test_a_limited_trial_reads_the_model_again_for_every_token(limited: TrialRecord) -> None:
    assert weights_per_token(limited) > 0.3
    assert limited.rereads.factor == pytest.approx(weights_per_token(limited) * (TOKENS - 1))
    assert limited.refaults.file_pages is not None
    assert limited.refaults.file_pages > 0
    assert limited.faults.major is not None
    assert limited.faults.major > 0


def test_it_reads_from_the_file_and_hardly_from_swap(limited: TrialRecord) -> None:
    reads = limited.reads.decode
    assert reads.model_bytes is not None
    assert reads.swap_bytes is not None
    assert reads.swap_bytes < 0.1 * reads.model_bytes


def test_the_disk_delivered_what_the_process_read(limited: TrialRecord) -> None:
    reads = limited.reads.decode
    assert reads.device_bytes is not None
    assert reads.process_bytes is not None
    assert reads.device_bytes > 0.95 * reads.process_bytes  # others may have read too


def test_the_limit_bound(limited: TrialRecord) -> None:
    assert limited.limit.effective is True
    assert limited.limit.bytes is not None
    assert limited.limit.non_file_bytes is not None
    assert limited.limit.hits is not None
    assert limited.limit.hits > 0
    assert limited.memory.peak_bytes is not None
    share = max(limited.factors.resident * limited.weights_bytes, 32 << 20)
    beside = 32 << 20  # more than what is ever held beside the weights, which the limit follows
    assert limited.limit.bytes / 2 < limited.memory.peak_bytes <= share + beside < limited.weights_bytes
    assert limited.limit.bytes == pytest.approx(limited.limit.non_file_bytes + share, abs=4096)


def test_the_asked_share_of_the_weights_is_resident(limited: TrialRecord) -> None:
    floor = (32 << 20) / limited.weights_bytes
    wanted = max(limited.factors.resident, floor)
    assert limited.residency.achieved_fraction == pytest.approx(wanted, abs=0.1)


def test_the_slowdown_of_one_repetition_is_printed_without_an_interval(paging: Call) -> None:
    printed = " ".join(paging.stdout.split())
    assert re.search(r"half of the weights allowed in RAM decoding was [\d.]+\S slower \([\d.]+ tokens/s\)", printed)


# --- identity ---------------------------------------------------------------------------------------------------------


def identity(directory: Path, name: str, **sections: object) -> Identity:
    """The identity that a run of only the baseline writes down."""
    results = directory / name
    call = run(write_config(directory / f"{name}.yml", **(WHOLE_RUN | sections)), results, "--only", "resident=1.0")
    assert call.code == 0, call.show()
    return call.store.read_run().identity


def test_two_runs_of_one_configuration_are_the_same_experiment(paging: Call, workspace: Path) -> None:
    assert identity(workspace, "again") == paging.store.read_run().identity


@pytest.mark.parametrize(
    "change", [{"prompt": "Twice upon a time"}, {"threads": 1}, {"repack": True}], ids=["prompt", "threads", "repack"]
)
def test_a_changed_prompt_or_flag_is_another_experiment(
    change: dict[str, object], paging: Call, workspace: Path
) -> None:
    before = paging.store.read_run().identity
    after = identity(workspace, "changed", inference={"tokens": TOKENS, **change})
    assert after.config_sha256 != before.config_sha256
    assert after.model_copy(update={"config_sha256": before.config_sha256}) == before


# --- pinning ----------------------------------------------------------------------------------------------------------


def pinning(share_of_ram: int, fence: bool) -> dict[str, object]:
    """Settings that leave about `share_of_ram` bytes to the locked memory and the model, and the rest to the host."""
    return {"os_reserve": meminfo_bytes()["MemTotal"] - share_of_ram, "fence_reserve": fence, "swap_minimum": "256MiB"}


def test_pinning_behind_a_fence_reads_as_the_group_does(dense_model: Path, workspace: Path) -> None:
    config = write_config(
        workspace / "fenced.yml",
        factors={"resident": [0.5], "pressure": ["cgroup", "pin"]},
        memory=pinning(3 * GIB // 2, fence=True),
    )
    call = run(config, workspace / "results")
    assert call.code == 0, call.show()
    grouped, pinned = call.trial(pressure="cgroup"), call.trial(pressure="pin")
    assert own_faults(pinned) == []
    assert pinned.limit.effective is True
    assert pinned.limit.pinned_bytes is not None
    assert GIB < pinned.limit.pinned_bytes < 3 * GIB // 2
    assert pinned.memory.after.locked_bytes is not None
    assert 0.5 < weights_per_token(pinned) / weights_per_token(grouped) < 2
    assert pinned.reads.decode.swap_bytes is not None
    assert pinned.reads.decode.model_bytes is not None
    assert pinned.reads.decode.swap_bytes < 0.1 * pinned.reads.decode.model_bytes


def test_pinning_that_kept_nothing_out_is_invalid(dense_model: Path, workspace: Path) -> None:
    """Without a fence the page cache takes what the host leaves unused of the reserve, here nearly all of its RAM."""
    config = write_config(
        workspace / "unfenced.yml",
        factors={"resident": [0.5], "pressure": ["pin"]},
        memory=pinning(GIB // 2, fence=False),
    )
    call = run(config, workspace / "results")
    assert call.code == 1, call.show()
    trial = call.trial(pressure="pin")
    assert trial.limit.effective is False
    assert not trial.validity.valid
    (reason,) = own_faults(trial)
    assert reason.startswith("the pressure was not binding to the end")
    assert reason in call.stderr.replace("\n", " ")


# --- repacked weights -------------------------------------------------------------------------------------------------


def test_repacked_weights_have_the_share_of_the_weights_and_the_rest_of_them_swaps(
    dense_model: Path, workspace: Path
) -> None:
    factors = {"resident": [0.5], "repack": [False, True]}
    config = write_config(workspace / "repacked.yml", factors=factors, inference={"tokens": 4})
    call = run(config, workspace / "results")
    assert call.code == 0, call.show()
    mapped, repacked = call.trial(repack=False), call.trial(repack=True)
    assert repacked.engine.repacked_bytes
    assert own_faults(repacked) == []
    assert repacked.limit.share_bytes == mapped.limit.share_bytes
    held = [trial.limit.non_file_bytes or 0 for trial in (mapped, repacked)]
    assert abs(held[0] - held[1]) < 8 * MIB < mapped.weights_bytes // 8, "calibrated without what is repacked"
    assert repacked.residency.achieved_fraction is None
    assert repacked.reads.decode.swap_bytes is not None
    assert mapped.reads.decode.swap_bytes is not None
    assert repacked.reads.decode.swap_bytes > 5 * mapped.reads.decode.swap_bytes
