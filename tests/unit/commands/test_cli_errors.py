"""Bad input is one sentence on standard error and exit code 2, before anything on the host is touched."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_raw import raw_run

from pagelab.commands import cli
from pagelab.config.load import load_config
from pagelab.config.model_specs import SyntheticSpec
from pagelab.errors import PagelabError, PreflightRefusedError
from pagelab.models.catalog import model_path
from pagelab.models.synthetic import write_synthetic
from pagelab.run import experiment

SYNTHETIC = {"architecture": "llama", "layers": 1, "width": 64, "feed_forward": 64, "vocabulary": 512}
SHA256 = "0" * 64


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """`main` takes some signals over."""
    before = {number: signal.getsignal(number) for number in cli.STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of models, and no lab around it."""
    directory = tmp_path / "models"
    directory.mkdir()
    monkeypatch.setenv("PAGELAB_MODELS", str(directory))
    monkeypatch.setenv("PAGELAB_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PAGELAB_LLAMA_CPP", str(tmp_path / "llama.cpp"))
    monkeypatch.delenv("PAGELAB_DEBUG", raising=False)
    return directory


def config(tmp_path: Path, **sections: Any) -> Path:
    document = {"experiment": "e", "models": [{"name": "m", "source": {"synthetic": SYNTHETIC}}], **sections}
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 2) -> str:
    """Call the command line and return its one sentence."""
    with pytest.raises(SystemExit) as ending:
        cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert ending.value.code == code, printed
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("pagelab: ")
    return lines[0].removeprefix("pagelab: ")


# --- the configuration ------------------------------------------------------------------------------------------------

BAD_CONFIGURATIONS: dict[str, tuple[Mapping[str, Any], str]] = {
    "unknown key": ({"factor": {"resident": [1.0]}}, "unknown key 'factor'; did you mean 'factors'?"),
    "unknown key inside": ({"factors": {"residents": [1.0]}}, "'factors.residents'; did you mean 'resident'?"),
    "far from any key": ({"zzzzz": 1}, "unknown key 'zzzzz'; see `pagelab schema` for the known ones"),
    "share above 1": ({"factors": {"resident": [1.5]}}, "factors.resident[0]: input should be less than or equal to 1"),
    "share below 0": ({"factors": {"resident": [-0.1]}}, "factors.resident[0]: input should be greater than or equal"),
    "share twice": ({"factors": {"resident": [0.5, 0.5]}}, "factors: resident names a value twice"),
    "no value": ({"factors": {"resident": []}}, "factors.resident: list should have at least 1 item"),
    "no model": ({"models": []}, "models: list should have at least 1 item"),
    "no source": (
        {"models": [{"name": "m", "source": {}}]},
        "source has one of the keys pypi, pypi_parts, synthetic, file, url",
    ),
    "a size beside a shape": (
        {"models": [{"name": "m", "source": {"synthetic": {**SYNTHETIC, "size": "1GiB"}}}]},
        "models[0].source.synthetic: size chooses layers; leave out one of the two",
    ),
    "no key of a size": (
        {"models": [{"name": "m", "source": {"synthetic": {"architecture": "llama", "size": "1GiB", "sed": 1}}}]},
        "unknown key 'models[0].source.synthetic.sed'; did you mean 'seed'?",
    ),
    "pressure": ({"factors": {"pressure": ["weight"]}}, "factors.pressure[0]: input should be 'cgroup' or 'pin'"),
    "size": ({"memory": {"floor": "lots"}}, "memory.floor:"),
    "floor": ({"memory": {"floor": "1KiB"}}, "memory.floor: input should be greater than or equal to 4194304"),
    "tokens": ({"inference": {"tokens": 600}}, "inference: tokens (600) must be below context (512)"),
    "repetitions": ({"repetitions": 0}, "repetitions: input should be greater than or equal to 1 (got 0)"),
    "name": ({"experiment": "../e"}, "experiment: string should match pattern"),
}


@pytest.mark.parametrize("name", BAD_CONFIGURATIONS)
@pytest.mark.parametrize("command", ["plan", "preflight", "run"])
def test_a_bad_configuration(
    command: str, name: str, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections, expected = BAD_CONFIGURATIONS[name]
    path = config(tmp_path, **sections)
    sentence = fails(capsys, command, path)
    assert sentence.startswith(f"{path}: ")
    assert expected in sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("experiment: [", "is not valid YAML"),
        ("experiment: a\nexperiment: b\n", "the key 'experiment' stands twice"),
        ("- a list\n", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_configuration(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yml").write_text(text)
    assert expected in fails(capsys, "plan", tmp_path / "bad.yml")


def test_a_missing_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing.yml: cannot be read" in fails(capsys, "run", tmp_path / "missing.yml")


@pytest.mark.parametrize("command", ["plan", "preflight", "run"])
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("repetitions", "--set repetitions: write KEY=VALUE, for example --set inference.tokens=16"),
        ("repetitons=2", "config.yml with --set: unknown key 'repetitons'; did you mean 'repetitions'?"),
        ("factors.resident=[2]", "factors.resident[0]: input should be less than or equal to 1 (got 2)"),
    ],
)
def test_a_bad_setting(
    command: str, setting: str, expected: str, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in fails(capsys, command, config(tmp_path), "--set", setting)


def test_what_is_set_and_chosen_is_planned(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--set=repetitions=3", "--set=factors={resident: [1.0, 0.5], threads: [1, 2]}", "--only=threads=2"]
    with pytest.raises(SystemExit) as ending:
        cli.main(["plan", str(config(tmp_path)), *words, "--set", "until={interval: 5%, at_most: 10}"])
    assert ending.value.code == 0
    assert "\n6 to 20 trials; " in capsys.readouterr().out
    assert "names a value twice" in fails(capsys, "model", "files", config(tmp_path), "--set=factors.swappiness=[1,1]")


# --- what it names ----------------------------------------------------------------------------------------------------


def test_a_missing_model_file(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, models=[{"name": "mine", "source": {"file": "mine.gguf", "sha256": SHA256}}])
    sentence = fails(capsys, "run", path)
    assert sentence == f"model mine is not at {models}/mine.gguf; correct its path"
    assert not (tmp_path / "state").exists()


def test_a_model_that_has_not_been_fetched(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = fails(capsys, "run", config(tmp_path))
    assert f"model m is not at {models}/llama-1x64-q4_0-" in sentence
    assert sentence.endswith("`make provision CONFIG=…` or `pagelab model fetch` gets it")
    with pytest.raises(SystemExit) as ending:
        cli.main(["plan", str(config(tmp_path))])  # its size is known from its shape
    assert ending.value.code == 0


def test_a_size_that_cannot_fit(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    huge = {"architecture": "llama", "layers": 512, "width": 65536, "feed_forward": 262144, "type": "F16"}
    path = config(tmp_path, models=[{"name": "huge", "source": {"synthetic": huge}}])
    sentence = fails(capsys, "plan", path)
    assert "model huge: resident 1 keeps" in sentence
    assert sentence.endswith("lower factors.resident")


def test_a_reserve_that_cannot_fit(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, factors={"pressure": ["pin"]}, memory={"os_reserve": "1000000GiB"})
    file = model_path(load_config(path).models[0], models)
    write_synthetic(SyntheticSpec.model_validate(SYNTHETIC), file)
    for command in ("plan", "run"):
        assert "memory.os_reserve" in fails(capsys, command, path)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("resident", "write FACTOR=VALUE, for example --only resident=0.5"),
        ("residence=0.5", "--only residence=…: unknown factor 'residence'; valid factors: model, resident"),
        ("resident=0.7", "--only leaves no trial"),
    ],
)
def test_a_selection_of_nothing(
    option: str, expected: str, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in fails(capsys, "plan", config(tmp_path), "--only", option)


def test_a_directory_that_holds_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path} holds no run.json" in fails(capsys, "report", tmp_path)


DAMAGED = {
    "infinity": "trial_timeout_seconds: .inf\n",
    "2**70 bytes": f"memory: {{floor: {2**70}}}\n",
    "5000 digits": f"repetitions: {'9' * 5000}\n",
    "deep": f"hypotheses: {'[' * 5000}",
    "tag": "repetitions: !!int foo\n",
    "NUL": 'inference: {prompt: "\\0"}\n',
    "not UTF-8": b"inference: {prompt: \xff}\n",
    "cut": "inference: {prompt: 'Once",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_configuration_of_a_run(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, more = raw_run(tmp_path), DAMAGED[damage]
    (store.directory / "checksums.json").unlink()  # a run of an older version: its reader alone has to notice
    config = store.config_path.read_bytes() + (more if isinstance(more, bytes) else more.encode())
    store.config_path.write_bytes(config)
    of_another_version = damage in ("2**70 bytes", "NUL")  # for all that a report can say
    for command in ("analyze",) if of_another_version else ("analyze", "report"):
        sentence = fails(capsys, command, store.directory)
        assert str(store.config_path) in sentence
        assert len(sentence) < 500 + len(str(store.config_path))


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": Infinity}', '{"a": 1e999}', "\xff"]
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_damaged_record_of_a_run(command: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = raw_run(tmp_path)
    record = store.directory / "run.json"
    record.write_bytes(text.encode("latin-1"))
    sentence = fails(capsys, command, store.directory, *([store.directory] if command == "compare" else []))
    assert str(record) in sentence
    assert len(sentence) < 400 + len(str(record))


def test_a_configuration_of_a_run_that_is_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = raw_run(tmp_path)
    (store.directory / "checksums.json").unlink()
    store.config_path.unlink()
    os.mkfifo(store.config_path)
    assert f"{store.config_path} is no regular file" in fails(capsys, "analyze", store.directory)


# --- the command line itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "frobnicate"),
        (["plan"], "CONFIG"),
        (["run", "c.yml", "--frobnicate"], "--frobnicate"),
        (["run", "c.yml", "--results"], "--results"),
        (["plan", "c.yml", "d.yml"], "d.yml"),
        (["model", "synth", "--layers", "many"], "'--layers': Input should be a valid integer"),
    ],
)
def test_a_misspelt_command(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in fails(capsys, *arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [(PagelabError("no"), 2), (PreflightRefusedError("no"), 3), (KeyboardInterrupt(), 130)],
    ids=["error", "preflight", "Ctrl-C"],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(experiment, "run_experiment", raising)
    with pytest.raises(SystemExit) as ending:
        cli.main(["run", str(config(tmp_path))])
    assert ending.value.code == code
    assert capsys.readouterr().err.splitlines()[-1].startswith("pagelab: ")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pagelab", "--debug", "plan", str(tmp_path / "missing.yml")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert "ConfigError" in answer.stderr
