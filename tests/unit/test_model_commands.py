import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pagelab.errors import ConfigError, ModelError
from pagelab.model_commands import model_app

SYNTH = ["synth", "--architecture", "moe", "--layers", "1", "--width", "64", "--feed-forward", "64"]
CONFIG = """
experiment: test
models:
  - name: tiny
    source: {synthetic: {architecture: llama, layers: 1, width: 64, feed_forward: 64}}
"""


def run(*arguments: str | Path) -> str:
    return CliRunner().invoke(model_app, [str(argument) for argument in arguments], catch_exceptions=False).output


def test_synth_and_inspect(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    assert "m.gguf" in run(*SYNTH, "--experts", "4", "--seed", "3", "--output", path)
    facts = json.loads(run("inspect", path, "--json"))
    assert (facts["architecture"], facts["experts"], facts["experts_used"], facts["layers"]) == ("llama", 4, 2, 1)
    assert facts["file_bytes"] == path.stat().st_size
    assert facts["weights_bytes"] == sum(tensor["bytes"] for tensor in facts["tensors"])
    assert "mixture of experts, 2 of 4 used" in run("inspect", path)


def test_bad_shape_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="width 100 is not a multiple"):
        run(*SYNTH, "--width", "100", "--output", tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match=r"^--kv-heads: Input should be greater"):
        run(*SYNTH, "--kv-heads", "0", "--output", tmp_path / "m.gguf")


def test_inspect_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("hello")
    with pytest.raises(ModelError, match="not a GGUF file"):
        run("inspect", tmp_path / "m.gguf")


def test_fetch_says_what_changed(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    assert run("fetch", config, "--models", tmp_path / "models") == "changed: tiny\n"
    assert run("fetch", config, "--models", tmp_path / "models") == "unchanged: tiny\n"
