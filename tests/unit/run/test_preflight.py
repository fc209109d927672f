"""What the checks before an experiment find, and that each says what to do."""

from dataclasses import replace
from pathlib import Path

import pytest
from example_devices import device
from example_raw import CONFIG

from pagelab.config.load import parse_config
from pagelab.config.model_specs import ModelSpec, SyntheticSource, SyntheticSpec
from pagelab.config.schema import Config, InferenceSettings
from pagelab.host.procfs import SwapArea
from pagelab.host.storage import Disk
from pagelab.host.swap import SwapPlace
from pagelab.models.catalog import model_path
from pagelab.models.synthetic import write_synthetic
from pagelab.run.estimate import estimate
from pagelab.run.lab import Lab
from pagelab.run.models_disk import models_disk_check
from pagelab.run.plan import make_plan
from pagelab.run.preflight import refusals, run_checks, swap_disk_check, zswap_check
from pagelab.store.record import CheckRecord

OFF = "trace: {block: off, page_cache: off}\n"


def config(more: str = "") -> Config:
    return parse_config(CONFIG % ("0" * 64) + more, "test")


def disk(directory: Path, name: str) -> Disk:
    (directory / name).mkdir(exist_ok=True)
    return Disk(name, directory / name)


def place(path: str, on: Disk | None) -> SwapPlace:
    return SwapPlace(SwapArea(path, "file", 2**30, 0, -2), on)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "no build", tmp_path, tmp_path / "results", tmp_path / "state")


def checks(found: list[CheckRecord]) -> dict[str, CheckRecord]:
    return {check.name: check for check in found}


class TestSwapDisk:
    def test_on_the_models_disk(self, tmp_path: Path) -> None:
        models = disk(tmp_path, "vda")
        assert swap_disk_check(place("/swapfile", models), models, "same").verdict == "pass"

    def test_on_another_disk(self, tmp_path: Path) -> None:
        models, other = disk(tmp_path, "vda"), disk(tmp_path, "vdb")
        refused = swap_disk_check(place("/swapfile", other), models, "same")
        assert (refused.verdict, refused.found) == ("fail", "/swapfile on vdb, the models on vda")
        assert "memory.swap_disk: any" in (refused.fix or "")
        assert swap_disk_check(place("/swapfile", other), models, "any").verdict == "warn"

    def test_compressed_memory_is_never_a_disk(self, tmp_path: Path) -> None:
        zram, models = disk(tmp_path, "zram0"), disk(tmp_path, "vda")
        for declared in ("same", "any"):
            refused = swap_disk_check(place("/dev/zram0", zram), models, declared)  # type: ignore[arg-type]
            assert (refused.verdict, refused.fix) == ("fail", "swapoff /dev/zram0")

    def test_a_disk_that_cannot_be_seen_is_warned_of(self, tmp_path: Path) -> None:
        assert swap_disk_check(place("/swapfile", None), disk(tmp_path, "vda"), "same").verdict == "warn"


@pytest.mark.parametrize(("setting", "verdict"), [("Y", "warn"), ("N", "pass"), (None, "pass")])
def test_zswap_is_warned_of_and_refuses_nothing(setting: str | None, verdict: str) -> None:
    found = zswap_check(setting)
    assert found.verdict == verdict
    assert (found.fix is not None) == (verdict == "warn")
    assert refusals([found]) == []


def test_what_is_missing_is_found_and_each_finding_says_what_to_do(lab: Lab) -> None:
    found = checks(run_checks(config(), lab))
    assert found["llama.cpp"].verdict == "fail"
    assert found["model gemma-3-270m"].verdict == "fail"
    assert all(check.fix for check in found.values() if check.verdict == "fail")
    assert {"readahead", "swappiness", "huge pages"} <= found.keys(), "every factor of the host is recorded"


@pytest.mark.parametrize("directory", [Path("/proc"), Path("/dev/shm")])  # noqa: S108 - a tmpfs
def test_models_on_no_disk_are_a_failed_check_beside_the_others(lab: Lab, directory: Path) -> None:
    found = checks(run_checks(config(), replace(lab, models_directory=directory)))
    refused = found["models disk"]
    assert refused.verdict == "fail"
    assert f"{directory} is on no disk of this host (file system " in refused.found
    assert refused.fix
    assert {"swap", "zswap", "memory lock", "free disk for results", "readahead", "swappiness"} <= found.keys()
    assert found["readahead"].verdict == "info"


def test_a_models_directory_that_is_not_there_is_a_failed_check(lab: Lab) -> None:
    found = checks(run_checks(config(), replace(lab, models_directory=lab.models_directory / "missing")))
    assert found["models disk"].verdict == "fail"
    assert "swappiness" in found


class TestModelsDisk:
    def test_a_plain_disk(self, tmp_path: Path) -> None:
        found = models_disk_check(disk(tmp_path, "vda"), readahead_is_set=True)
        assert (found.verdict, found.found, found.fix) == ("pass", "vda", None)

    def test_what_serves_a_volume_is_named(self, tmp_path: Path) -> None:
        device(tmp_path, "nvme0n1")
        found = models_disk_check(Disk("dm-0", device(tmp_path, "dm-0", ("nvme0n1",))), readahead_is_set=True)
        assert (found.verdict, found.found) == ("pass", "dm-0, served and counted by nvme0n1")

    @pytest.mark.parametrize(
        ("name", "files", "said", "fix"),
        [
            ("zram0", {}, "zram0 is RAM", "put the models on a disk"),
            ("sda", {"queue__iostats": "0"}, "does not count", "echo 1 > "),
            (
                "loop0",
                {"loop__backing_file": "/a", "loop__dio": "0"},
                "page cache",
                "losetup --direct-io=on /dev/loop0",
            ),
        ],
    )
    def test_what_makes_wrong_numbers_is_refused(
        self, tmp_path: Path, name: str, files: dict[str, str], said: str, fix: str
    ) -> None:
        device(tmp_path, name, **files)
        for disk_there in (Disk(name, tmp_path / name), Disk("dm-0", device(tmp_path, "dm-0", (name,)))):
            found = models_disk_check(disk_there, readahead_is_set=False)
            assert found.verdict == "fail"
            assert said in found.found
            assert found.fix is not None
            assert found.fix.startswith(fix)

    @pytest.mark.parametrize(("is_set", "verdict"), [(True, "fail"), (False, "warn")])
    def test_a_readahead_that_cannot_be_told_is_no_factor(self, tmp_path: Path, is_set: bool, verdict: str) -> None:
        unknown = Disk("sda", device(tmp_path, "sda"), own_readahead=tmp_path / "btrfs" / "bdi")
        found = models_disk_check(unknown, readahead_is_set=is_set)
        assert found.verdict == verdict
        assert "a readahead of its own" in found.found


def test_a_context_is_held_against_what_the_model_was_trained_for(lab: Lab) -> None:
    shape = SyntheticSpec(architecture="llama", layers=1, width=64, feed_forward=64, vocabulary=512, context=1234)
    spec = ModelSpec(name="m", source=SyntheticSource(synthetic=shape))
    write_synthetic(shape, model_path(spec, lab.models_directory))
    for context, verdict in ((1234, "pass"), (1235, "fail")):
        asked = Config(experiment="e", models=[spec], inference=InferenceSettings(context=context))
        found = checks(run_checks(asked, lab))["context of m"]
        assert (found.verdict, found.found) == (verdict, f"{context} tokens, of 1234 that the model was trained for")
        assert (found.fix == "lower inference.context") == (verdict == "fail")


def test_with_tracing_off_nothing_of_it_is_checked_or_counted(lab: Lab) -> None:
    assert "trace" in checks(run_checks(config(), lab))
    assert "trace" not in checks(run_checks(config(OFF), lab))
    sizes = {"gemma-3-270m": 10**9}
    with_pages = estimate(make_plan(config("trace: {page_cache: all}\n")), sizes).result_bytes
    without = estimate(make_plan(config(OFF)), sizes).result_bytes
    assert with_pages > without == len(make_plan(config()).trials) * (4 << 20)


def test_a_budget_needs_room_for_all_that_it_may_add(lab: Lab) -> None:
    def needed(more: str) -> str:
        return checks(run_checks(config(OFF + more), lab))["free disk for results"].found.rpartition("about ")[2]

    assert needed("") == "62.9 MB needed"
    assert needed("until: {interval: 5%, at_most: 10}\n") == "126 MB needed"


def test_what_a_case_pins_or_sets_is_checked_as_what_a_factor_does(lab: Lab) -> None:
    before = checks(run_checks(config(), lab))["memory lock"]
    pinned = checks(run_checks(config("cases: [{}, {pressure: pin}]\n"), lab))["memory lock"]
    assert before.verdict in ("pass", "warn")
    assert pinned.verdict == before.verdict.replace("warn", "fail")
