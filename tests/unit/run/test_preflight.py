"""What the checks before an experiment find, and that each says what to do."""

from pathlib import Path

import pytest
from example_raw import CONFIG

from pagelab.config.load import parse_config
from pagelab.config.model_specs import ModelSpec, SyntheticSource, SyntheticSpec
from pagelab.config.schema import Config, InferenceSettings
from pagelab.host.procfs import SwapArea
from pagelab.host.storage import Disk
from pagelab.host.swap import SwapPlace
from pagelab.models.catalog import model_path
from pagelab.models.synthetic import write_synthetic
from pagelab.run.lab import Lab
from pagelab.run.plan import estimate_result_bytes, make_plan
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
    with_pages = estimate_result_bytes(make_plan(config("trace: {page_cache: all}\n")), sizes)
    without = estimate_result_bytes(make_plan(config(OFF)), sizes)
    assert with_pages > without == len(make_plan(config()).trials) * (4 << 20)
