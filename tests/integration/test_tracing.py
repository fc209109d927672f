"""Traces hold every read, by the disk's own counter; and nothing of a trace stays on the host."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from lab import DISK_DIRECTORY, Call, needs_lab, needs_root, on_host, run, write_config
from pagelab.config.model_specs import SyntheticSpec
from pagelab.host.storage import disk_of
from pagelab.models.gguf_map import GgufMap, read_gguf_map
from pagelab.models.synthetic import write_synthetic
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import read_trace_record

pytestmark = needs_root

HERE = Path(__file__).parent
SPEC = SyntheticSpec.model_validate({"architecture": "llama", "layers": 12, "width": 1024, "feed_forward": 4096})


@pytest.fixture(scope="module")
def model() -> Iterator[GgufMap]:
    """A model file on a disk."""
    path = DISK_DIRECTORY / f"pagelab-trace-{os.getpid()}.gguf"
    write_synthetic(SPEC, path)
    yield read_gguf_map(path)
    path.unlink()


def recorded(pattern: str, model: GgufMap, directory: Path, page_cache: str = "all") -> dict[str, Any]:
    """Read the model in a pattern while it is recorded by tracefs, which is mounted for the reader alone."""
    reader = [sys.executable, HERE / "recorded_reader.py", pattern, "tracefs", model.path, directory, page_cache]
    answer = subprocess.run(["unshare", "--mount", *map(str, reader)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout)
    return said


def compared(said: dict[str, Any], *directories: Path) -> dict[str, Any]:
    script = [sys.executable, HERE / "compare_traces.py", said["seconds"], *directories]
    answer = subprocess.run(list(map(str, script)), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("pattern", ["random", "in-order", "touched", "touched-random"])
def test_a_trace_has_every_byte_that_the_disk_delivered(pattern: str, model: GgufMap, disk_path: Path) -> None:
    said = recorded(pattern, model, disk_path)
    assert said["lost_events"] == {"tracefs": 0}
    seen = compared(said, disk_path / "tracefs")["tracefs"]
    assert seen["read_bytes"] == said["disk_read_bytes"]


@pytest.mark.parametrize("pattern", ["touched", "touched-random"])
def test_blocks_and_page_cache_give_the_same_pages_of_the_file(pattern: str, model: GgufMap, disk_path: Path) -> None:
    seen = compared(recorded(pattern, model, disk_path), disk_path / "tracefs")
    assert seen["tracefs"]["pages_sha256"] == seen["page_cache"]["pages_sha256"]


@pytest.fixture
def btrfs(disk_path: Path) -> Iterator[Path]:
    """A file system that does not say where on the disk a file lies."""
    if shutil.which("mkfs.btrfs") is None or not Path("/dev/loop-control").exists():
        pytest.skip("needs mkfs.btrfs (package btrfs-progs) and loop devices")
    image, place = disk_path / "btrfs.img", disk_path / "btrfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "--quiet", image], capture_output=True, check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_on_btrfs_pages_tell_what_requests_cannot(btrfs: Path, disk_path: Path) -> None:
    write_synthetic(SPEC, btrfs / "model.gguf")
    model = read_gguf_map(btrfs / "model.gguf")
    said = recorded("whole", model, disk_path, page_cache="auto")
    seen = compared(said, disk_path / "tracefs")
    assert seen["page_cache"]["pages_sha256"] == seen["whole_model"]["pages_sha256"]
    assert seen["tracefs"]["pages_sha256"] == seen["nothing"]["pages_sha256"], "no request is placed in the file"
    assert seen["tracefs"]["read_bytes"] == said["disk_read_bytes"] >= model.file_bytes
    record = read_trace_record(disk_path / "tracefs")
    assert record.pages == "entered"
    (file,) = (one for one in record.files if one.kind == "model")
    assert "btrfs" in (file.without_extents or "")


def test_what_sequential_means(model: GgufMap, disk_path: Path) -> None:
    """Four readers, three rules: only one of them tells streams from chance."""
    order = {}
    readers = {"in-order": "direct", "four-streams": "direct", "touched": "mapped", "touched-random": "mapped"}
    for pattern, way in readers.items():
        (disk_path / pattern).mkdir()
        said = recorded(pattern, model, disk_path / pattern)
        order[pattern] = compared(said, disk_path / pattern / "tracefs")["tracefs"][f"order_{way}"]
    sound = {pattern: facts["sequential_fraction"] for pattern, facts in order.items()}
    assert sound["in-order"] > 0.98
    assert sound["four-streams"] > 0.95
    assert sound["touched"] < 0.1
    assert sound["touched-random"] < 0.05
    naive = {pattern: facts["sequential_fraction_next"] for pattern, facts in order.items()}
    assert naive["in-order"] > 0.95
    assert naive["four-streams"] < 0.6, "streams that take turns look random to it"
    assert naive["touched-random"] < 0.05


# --- in a trial -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, dense_model: Path) -> Iterator[Call]:
    """A run with one trial in RAM and one half in RAM, with every event."""
    directory = tmp_path_factory.mktemp("traced")
    config = write_config(
        directory / "traced.yml",
        factors={"resident": [1.0, 0.5]},
        inference={"tokens": 12},
        trace={"page_cache": "all"},
    )
    yield run(config, directory / "results")
    shutil.rmtree(directory)


def half(call: Call) -> TrialRecord:
    return call.trial(resident=0.5)


@needs_lab
def test_a_trial_is_traced_whole(traced: Call) -> None:
    assert traced.code == 0, traced.show()
    for record in traced.store.read_trials():
        assert record.trace is not None
        assert record.trace.recorders == ["tracefs"]
        assert record.trace.profiles == ["block", "page"]
        assert record.trace.lost_events == 0
        assert record.trace.capped == []


@needs_lab
def test_traced_pages_are_what_the_counters_say(traced: Call) -> None:
    """A third source beside the process's reads and the group's refaults."""
    sources = half(traced).sources.model
    assert sources.page_cache_bytes == pytest.approx(sources.process_bytes, rel=0.02)
    assert sources.disagreement_fraction is not None
    assert sources.disagreement_fraction < 0.05


@needs_lab
def test_every_read_of_the_model_has_a_tensor(traced: Call, dense_model: Path) -> None:
    table = traced.store.read_trial_table(half(traced).trial, "block_io")
    assert table is not None
    reads = table.filter(pc.equal(table["source"], "model"))
    assert reads.num_rows > 0
    offset = read_gguf_map(dense_model).data_offset
    in_data = reads.filter(pc.greater_equal(reads["file_offset_bytes"], offset))
    assert in_data["tensor"].null_count <= len(read_gguf_map(dense_model).tensors), "only padding has none"


@needs_lab
def test_fio_replays_the_reads_of_the_model_from_the_disk(traced: Call, dense_model: Path, disk_path: Path) -> None:
    if shutil.which("fio") is None:
        pytest.skip("needs fio (package fio)")
    log = disk_path / "reads.log"
    where = ["--models", dense_model.parent, "--trial", str(half(traced).trial)]
    written = on_host("trace", "export", traced.store.directory, "--format", "iolog", "--out", log, *where)
    assert written.returncode == 0, written.stderr
    reads = [int(line.split()[-1]) for line in log.read_text().splitlines() if " read " in line]
    disk = disk_of(dense_model)
    before = disk.read_and_written_bytes()[0]
    command = ["fio", "--name=replay", "--direct=1", f"--read_iolog={log}", "--replay_no_stall=1"]
    answer = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True, check=False)
    after = disk.read_and_written_bytes()[0]
    assert answer.returncode == 0, answer.stderr
    (replayed,) = json.loads(answer.stdout)["jobs"]
    assert (replayed["error"], replayed["read"]["total_ios"], replayed["read"]["io_bytes"]) == (
        0,
        len(reads),
        sum(reads),
    )
    assert sum(reads) > dense_model.stat().st_size
    assert before is not None
    assert after is not None
    assert after - before >= sum(reads), "past the page cache"


@needs_lab
def test_a_run_in_ram_reads_nothing_while_decoding(traced: Call) -> None:
    record = traced.trial(resident=1.0)
    assert record.access.model_bytes == 0


@needs_lab
def test_where_there_is_no_room_for_pages_requests_are_traced_to_the_end(dense_model: Path, tmp_path: Path) -> None:
    trace = {"page_cache": "all", "most_bytes": "1MiB"}
    config = write_config(tmp_path / "capped.yml", factors={"resident": [0.0]}, inference={"tokens": 12}, trace=trace)
    call = run(config, tmp_path / "results")
    assert call.code == 0, call.show()
    (record,) = call.store.read_trials()
    assert record.trace is not None
    assert record.trace.capped == ["page"]
    assert any("trace.most_bytes" in warning for warning in record.validity.warnings)
    assert record.access.model_bytes == pytest.approx(record.reads.decode.model_bytes, rel=0.02)
    assert record.sources.model.page_cache_bytes is None


def decode_window(call: Call, record: TrialRecord) -> dict[str, Any]:
    """What access.json says of decoding."""
    document = json.loads(call.store.read_trial_text(record.trial, "access.json"))
    assert document is not None
    found: dict[str, Any] = document["windows"]["decode"]
    return found


@needs_lab
def test_as_many_pages_leave_as_enter(traced: Call) -> None:
    decode = decode_window(traced, half(traced))
    assert decode["page_deleted_bytes"] == pytest.approx(decode["page_added_bytes"], rel=0.2), "what comes makes room"


@needs_lab
def test_by_default_faults_alone_are_recorded_where_requests_tell_the_rest(dense_model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "default.yml", factors={"resident": [0.0]}, inference={"tokens": 6})
    call = run(config, tmp_path / "results")
    assert call.code == 0, call.show()
    (record,) = call.store.read_trials()
    pages = call.store.read_trial_table(record.trial, "page_cache")
    assert pages is not None
    assert set(pages["event"].to_pylist()) == {"fault", "map"}
    decode = decode_window(call, record)
    assert decode["model_bytes"] == pytest.approx(record.reads.decode.model_bytes, rel=0.02)
    assert decode["mapped_bytes"] > 0
    assert "page_added_bytes" not in decode


@needs_lab
def test_analysed_elsewhere_a_trace_gives_the_same_files(traced: Call, disk_path: Path) -> None:
    """Without the model and without the container: the run's directory is all that is needed."""
    original = traced.store.directory
    copy = disk_path / "copy"
    shutil.copytree(original, copy)
    names = ("block_io", "page_cache", "access", "reuse")
    derived = [path for path in copy.rglob("*.parquet") if path.name.startswith(names)]
    assert derived
    for path in [*derived, *copy.glob("trials/*/access.json")]:
        path.unlink()
    answer = on_host("analyze", copy)
    assert answer.returncode == 0, answer.stderr
    for path in derived:
        assert path.read_bytes() == (original / path.relative_to(copy)).read_bytes(), path.name
    for path in copy.glob("trials/*/trial.json"):
        assert path.read_bytes() == (original / path.relative_to(copy)).read_bytes()
