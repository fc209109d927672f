"""A factor is declared once: what knows of factors takes them from there."""

import re
from pathlib import Path

import pytest
from example_raw import CONFIG
from example_run import factors, trial_record

from pagelab.analysis.trial_table import summary_table
from pagelab.config.expectation import has_value, parse_expectation
from pagelab.config.factors import FACTORS, HUGE_PAGES_FILE, SWAPPINESS_FILE, FactorLists, Factors
from pagelab.config.load import parse_config
from pagelab.config.schema import Config
from pagelab.host.cgroup import Group
from pagelab.host.cpu import physical_cores
from pagelab.host.storage import Disk
from pagelab.inference.build import Build, command_line
from pagelab.run.plan import make_plan, select
from pagelab.store.record import TrialRecord

PACKAGE = Path(__file__).parents[3] / "runner" / "src" / "pagelab"
DISK = Disk("vda", Path("/sys/block/vda"))


def settings(**values: object) -> dict[str, str]:
    group = Group(Path("/sys/fs/cgroup/pagelab/trial-001"))
    return {str(one.file): one.value for one in factors(0.5, **values).settings(DISK, group)}


@pytest.mark.parametrize("name", FACTORS)
def test_what_knows_of_factors_knows_each(name: str) -> None:
    assert name in Factors.model_fields
    assert name in FactorLists.model_fields
    assert Config.model_json_schema()["$defs"]["FactorLists"]["properties"][name]["description"]
    value = FACTORS[name].default[0]
    assert parse_expectation(f"median(x | {name}={value}) >= 1").left.where == ((name, str(value)),)
    plan = make_plan(parse_config(CONFIG % ("0" * 64), "test"))
    assert select(plan, {name: str(value)}).trials
    assert FACTORS[name].words(name, value)


@pytest.mark.parametrize(("value", "word"), [(True, "true"), (False, "false"), ("default", "default")])
def test_yes_and_no_are_named_as_a_configuration_has_them(value: object, word: str) -> None:
    chosen = factors(0.5, repack=value)
    assert has_value(chosen, "repack", word)
    assert not has_value(chosen, "repack", "other")
    assert not has_value(chosen, "repack", "1")
    row = summary_table([trial_record(1, 0.5, 5.0, factors=chosen)]).to_pylist()[0]
    assert row["factors.repack"] == word


@pytest.mark.parametrize("name", ["swappiness", "huge_pages"])
def test_a_setting_of_the_kernel_is_named_in_its_declaration_alone(name: str) -> None:
    uses = re.compile(rf"factors\.{name}\b|[\"']{name}[\"']")
    named = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if uses.search(path.read_text())]
    assert [str(path) for path in named if path.parts[0] != "host"] in ([], ["config/factors.py"])


def test_the_usual_value_sets_nothing() -> None:
    assert settings() == {}
    assert factors(0.5).label() == "gemma-3-270m, resident 0.5, cgroup"


def test_settings_of_the_kernel() -> None:
    assert settings(readahead_kib=128) == {"/sys/block/vda/queue/read_ahead_kb": "128"}
    assert settings(huge_pages="never") == {str(HUGE_PAGES_FILE): "never"}
    (file,) = settings(swappiness=60)
    assert file in (str(SWAPPINESS_FILE), "/sys/fs/cgroup/pagelab/trial-001/memory.swappiness")


def test_words() -> None:
    chosen = factors(0.0, weights="anonymous", readahead_kib=128)
    assert chosen.label() == "gemma-3-270m, resident 0, cgroup, weights anonymous, readahead 128 KiB"
    assert chosen.label(without=("model", "resident", "pressure")) == "weights anonymous, readahead 128 KiB"


def test_what_llama_cpp_is_asked_to_do_is_the_configurations_unless_a_factor_says_otherwise(tmp_path: Path) -> None:
    text = (CONFIG % ("0" * 64)).replace("tokens: 8", "tokens: 8, threads: 3, repack: true")
    config = parse_config(text, "test")
    build = Build(tmp_path, "b9a3771", 7213, "git", True, {})

    def call(**values: object) -> list[str]:
        chosen = factors(0.5, **values)
        return command_line(build, tmp_path / "m.gguf", config.inference_with(chosen), chosen.weights)

    def threads(command: list[str]) -> str:
        assert command.count("--threads") == 1
        return command[command.index("--threads") + 1]

    assert (threads(call()), "--no-repack" in call()) == ("3", False)
    assert (threads(call(threads=1)), "--no-repack" in call(threads=1)) == ("1", False)
    assert threads(call(threads="physical")) == str(physical_cores())
    assert "--no-repack" in call(repack=False)
    assert factors(0.5, threads=4, repack=True).label() == "gemma-3-270m, resident 0.5, cgroup, threads 4, repack true"


def test_repacked_weights_are_no_pages_of_their_file() -> None:
    config = parse_config(CONFIG % ("0" * 64), "test")
    asked = parse_config((CONFIG % ("0" * 64)).replace("tokens: 8", "tokens: 8, repack: true"), "test")
    assert config.maps_weights(factors(0.5))
    assert not config.maps_weights(factors(0.5, repack=True))
    assert not config.maps_weights(factors(0.5, weights="anonymous"))
    assert not asked.maps_weights(factors(0.5))
    assert asked.maps_weights(factors(0.5, repack=False))


def test_a_calibration_is_shared_by_trials_that_need_the_same() -> None:
    several = [factors(share, weights=kind) for share in (1.0, 0.5) for kind in ("mmap", "anonymous")]
    assert len({one.calibrated().label() for one in several}) == 1
    assert factors(0.5, huge_pages="never").calibrated() != factors(0.5).calibrated()
    assert factors(0.5, threads=4).calibrated() != factors(0.5).calibrated()
    assert factors(0.5, repack=True).calibrated() != factors(0.5).calibrated()
    assert factors(0.5, engine="newest").calibrated().engine == "newest"


def test_a_record_of_before_there_was_a_factor_has_its_usual_value() -> None:
    assert Factors.model_validate({"model": "m", "resident": 1.0, "pressure": "cgroup"}).strategy == "kernel"
    assert TrialRecord.model_fields["factors"].annotation is Factors
