"""What the lab reports of a program that counts its own reads: it must be what the program did.

The program of known_reader.py takes llama-cli's place in a trial; all else is the lab's own. Where the kernel counts
pages, equality is to the page.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import DISK_DIRECTORY, needs_root
from pagelab.analysis.analyze import derive
from pagelab.config.model_specs import SyntheticSpec
from pagelab.config.schema import Config
from pagelab.host.cgroup import new_group
from pagelab.host.child import enter
from pagelab.host.journal import Journal, restore
from pagelab.host.kernel_setting import KernelSetting
from pagelab.host.procfs import PAGE_BYTES, swap_areas
from pagelab.host.storage import disk_of
from pagelab.inference.build import Build
from pagelab.models.gguf_map import GgufMap, read_gguf_map
from pagelab.models.synthetic import write_synthetic
from pagelab.run.plan import make_plan
from pagelab.run.trial import run_trial
from pagelab.run.trial_setup import Calibration, TrialSetup
from pagelab.store.files import read_table
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

pytestmark = needs_root

READER = Path(__file__).with_name("known_reader.py")
SPEC = SyntheticSpec.model_validate({"architecture": "llama", "layers": 10, "width": 1024, "feed_forward": 4096})
INTERPRETER_BYTES = 2 * MIB  # of the reader itself, which may be swapped out and in again beside what it counts
READER_BYTES = 64 * MIB  # room for the interpreter beside what it reads
LAG_EVENTS = 64 * (os.cpu_count() or 1)  # by which the kernel lets the counters of a group lag


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufMap]:
    """A model file on a disk, large beside the noise of a host."""
    path = DISK_DIRECTORY / f"pagelab-test-{os.getpid()}.gguf"
    write_synthetic(SPEC, path)
    yield read_gguf_map(path)
    path.unlink()


class KnownLab:
    """Runs one trial with the reader in llama-cli's place."""

    def __init__(self, directory: Path, model: GgufMap) -> None:
        self.directory = directory
        self.model = model
        program = directory / "build" / "bin" / "llama-cli"
        program.parent.mkdir(parents=True)
        program.write_text(READER.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.build = Build(directory / "build", "none", 0, "tests", is_pin=False, files={})
        self.store = RunStore.create(directory / "results", "known", "here", "run")

    def run(
        self,
        pattern: str,
        *,
        resident: float = 1.0,
        non_file_bytes: int = READER_BYTES,
        skip_eviction: bool = False,
        follow: bool = True,
        at_first: Callable[[], None] = lambda: None,
        **asked: Any,
    ) -> tuple[TrialRecord, dict[str, int]]:
        """The trial's record, and what the reader says that it did while decoding."""
        marks = {name: str(self.directory / name) for name in ("start", "end", "answer")}
        prompt = json.dumps({"pattern": pattern, **marks, **asked})
        config = Config.model_validate(
            {
                "experiment": "known",
                "models": [{"name": "model", "source": {"file": str(self.model.path), "sha256": "0" * 64}}],
                "factors": {"resident": [resident]},
                "repetitions": 1,
                "inference": {"prompt": prompt, "tokens": 2, "threads": 1},
                "memory": {"floor": "4MiB", "follow_anonymous": follow},
                "trial_timeout_seconds": 120,
            }
        )
        disk = disk_of(self.model.path)
        setup = TrialSetup(
            config, {"pin": self.build}, self.model, disk, Journal(self.directory), skip_eviction=skip_eviction
        )

        def follow(_phase: str, tokens: int) -> None:
            """The counters of a boundary have been read when this is called."""
            if tokens == 1:
                at_first()
                Path(marks["start"]).touch()
            elif tokens == 2:
                Path(marks["end"]).touch()

        (trial,) = make_plan(config).trials
        try:
            run_trial(setup, trial, Calibration(non_file_bytes, non_file_bytes, 0, None), self.store, follow)
        finally:
            restore(self.directory)
        record, _ = derive(self.store, 1, config)
        assert record.exit_status == 0, (self.store.trial_directory(1) / "llama.log").read_text()
        return record, json.loads(Path(marks["answer"]).read_text())


@pytest.fixture
def lab(disk_path: Path, model: GgufMap) -> KnownLab:
    return KnownLab(disk_path, model)


def pages(count: int) -> int:
    return count * PAGE_BYTES


@pytest.mark.parametrize("pattern", ["in_order", "at_random"])
def test_bytes_read_once_are_reported_to_the_page(lab: KnownLab, pattern: str) -> None:
    """Nothing was loaded before, so each page comes once, by a major fault of its own."""
    record, answer = lab.run(pattern, load=False, bytes=24 * MIB, seed=1)
    assert answer == {"came_pages": 24 * MIB // PAGE_BYTES, "major_faults": 24 * MIB // PAGE_BYTES}
    assert record.reads.decode.model_bytes == 24 * MIB
    assert record.reads.decode.swap_bytes == 0
    assert record.reads.load.model_bytes is not None
    assert record.faults.major == answer["major_faults"]
    assert (record.refaults.file_pages or 0) <= LAG_EVENTS, "nothing came back, all came for the first time"
    assert record.residency.before_fraction == 0
    assert record.rereads.factor == 24 * MIB / record.weights_bytes


def test_what_is_resident_is_known_by_tensor_to_the_page(lab: KnownLab, model: GgufMap) -> None:
    """The first 24 MiB of the file are read and nothing else."""
    record, _ = lab.run("in_order", load=False, bytes=24 * MIB)
    table = read_table(lab.store.trial_directory(1) / "residency.parquet")
    for row, tensor in zip(table.to_pylist(), sorted(model.tensors, key=lambda each: each.offset), strict=True):
        inside = min(max(0, 24 * MIB - tensor.offset), tensor.bytes)
        assert abs(row["resident_after_bytes"] - inside) < PAGE_BYTES, tensor.name
        assert row["resident_before_bytes"] == 0
    assert record.residency.after_fraction == pytest.approx(
        (24 * MIB - model.data_offset) / model.weights_bytes, abs=PAGE_BYTES / model.weights_bytes
    )


def test_reading_what_is_in_ram_reads_nothing(lab: KnownLab) -> None:
    record, answer = lab.run("in_order", bytes=24 * MIB)
    assert answer == {"came_pages": 0, "major_faults": 0}
    assert record.reads.decode.process_bytes == 0
    assert record.faults.major == 0
    assert (record.reads.load.model_bytes or 0) >= record.weights_bytes
    assert record.residency.achieved_fraction == 1.0


def test_the_same_half_again_under_a_limit_is_reread_and_refaulted(lab: KnownLab, model: GgufMap) -> None:
    half = model.file_bytes // 2 // PAGE_BYTES * PAGE_BYTES
    record, answer = lab.run("again_and_again", resident=0.25, bytes=half, times=3)
    came = pages(answer["came_pages"])
    assert came > half, "a quarter in RAM cannot hold the half"
    assert record.limit.effective
    assert record.reads.decode.model_bytes == pytest.approx(came, rel=0.01)
    assert record.rereads.factor == pytest.approx(came / record.weights_bytes, rel=0.01)
    assert pages(record.refaults.file_pages or 0) == pytest.approx(came, rel=0.01)
    assert record.sources.model.disagreement_fraction is not None
    assert record.sources.model.disagreement_fraction < 0.05
    assert record.residency.achieved_fraction == pytest.approx(0.25, abs=0.03)


def test_only_anonymous_memory_comes_from_swap_and_not_from_the_model(lab: KnownLab) -> None:
    """Without readahead of swap a major fault brings one page; both counters of swap say how many."""
    size = 48 * MIB
    KernelSetting(Path("/proc/sys/vm/page-cluster"), "0").apply(Journal(lab.directory))  # put back when the trial ends
    asked = {
        "resident": 0.0,
        "non_file_bytes": READER_BYTES // 2,
        "follow": False,
    }  # else the limit would rise with it
    record, answer = lab.run("anonymous", **asked, bytes=size, times=3)
    assert record.limit.effective
    came = pages(answer["came_pages"])
    assert came > size // 4, "the limit holds half of it"
    assert pages(record.faults.major or 0) == pytest.approx(pages(answer["major_faults"]), abs=INTERPRETER_BYTES)
    assert record.reads.decode.swap_bytes == pytest.approx(came, abs=INTERPRETER_BYTES)
    assert record.sources.swap.disagreement_fraction is not None
    assert record.sources.swap.disagreement_fraction < 0.05
    assert (record.reads.decode.model_bytes or 0) < 0.02 * came
    assert (record.swap.out_bytes or 0) > 0


def test_reads_of_all_threads_count(lab: KnownLab) -> None:
    record, answer = lab.run("with_threads", load=False, bytes=24 * MIB, threads=8)
    assert answer["came_pages"] == 24 * MIB // PAGE_BYTES
    assert record.reads.decode.model_bytes == 24 * MIB
    assert record.faults.major == answer["major_faults"] == answer["came_pages"]


def cat_in_another_group(path: Path) -> Callable[[], None]:
    """Reads a file inside a group that is not the trial's, to which its pages then belong."""
    group = new_group("somebody-else")

    def read() -> None:
        group.create()
        subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, preexec_fn=enter(group), check=True)

    return read


def test_a_model_hot_in_another_group_is_evicted_and_that_is_reported(lab: KnownLab, model: GgufMap) -> None:
    cat_in_another_group(model.path)()
    record, _ = lab.run("in_order", bytes=4 * MIB, resident=0.5)
    # A kernel that pages out by itself (DAMON) may have taken some pages before the trial did.
    assert record.residency.evicted_bytes == pytest.approx(model.file_bytes, rel=0.01)
    assert record.residency.before_fraction == 0
    assert (record.reads.load.model_bytes or 0) >= record.weights_bytes, "it all had to be read again"


def test_without_the_eviction_the_trial_is_invalid_for_that(lab: KnownLab, model: GgufMap) -> None:
    cat_in_another_group(model.path)()
    record, _ = lab.run("in_order", bytes=4 * MIB, resident=0.5, skip_eviction=True)
    assert record.residency.evicted_bytes is None
    assert not record.validity.valid
    assert any("100.0% of the model was in the page cache before" in reason for reason in record.validity.reasons)


def test_what_another_process_reads_is_other_and_makes_the_trial_invalid(lab: KnownLab, disk_path: Path) -> None:
    size = 160 * MIB
    (disk_path / "other").write_bytes(os.urandom(size))
    os.sync()

    def read_past_the_page_cache() -> None:
        other = ["dd", f"if={disk_path / 'other'}", "of=/dev/null", "bs=1M", "iflag=direct", "status=none"]
        subprocess.run(other, check=True)

    record, _ = lab.run("in_order", load=False, bytes=24 * MIB, at_first=read_past_the_page_cache)
    assert record.reads.decode.model_bytes == 24 * MIB
    assert record.reads.decode.other_bytes == pytest.approx(size, rel=0.05)
    assert record.sources.other.host_bytes == pytest.approx(size, rel=0.05)
    assert any("others read" in reason for reason in record.validity.reasons)


def test_the_host_has_swap_for_these_tests() -> None:
    assert swap_areas()
