import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from typer.testing import CliRunner

from pagelab.commands.model import model_app
from pagelab.errors import ConfigError, ModelError

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
    first, *rest = run("inspect", path).splitlines()
    assert first.startswith("mixture of experts: 2 of 4 experts a token, in 1 of 1 layers; a token touches ")
    assert first == facts["summary"]
    assert any(line.split()[:2] == ["attention", "multi-head,"] for line in rest)
    assert facts["attention"]["kind"] == "multi-head"
    assert sum(facts["bytes_by_class"].values()) == sum(facts["bytes_by_type"].values()) == facts["weights_bytes"]
    assert sum(facts["bytes_per_token_by_class"].values()) == facts["bytes_per_token"]
    assert facts["bytes_per_token_by_class"]["experts"] == facts["bytes_by_class"]["experts"] // 2


def test_synth_with_a_skewed_router(tmp_path: Path) -> None:
    run(*SYNTH, "--experts", "4", "--router-skew", "1.5", "--output", tmp_path / "m.gguf")
    facts = json.loads(run("inspect", tmp_path / "m.gguf", "--json"))
    assert facts["name"] == "pagelab synthetic moe 1x64 seed 0 skew 1.5"
    with pytest.raises(ConfigError, match="a llama model is dense and has no router"):
        run(*SYNTH, "--architecture", "llama", "--router-skew", "1", "--output", tmp_path / "m.gguf")


def test_synth_of_a_size(tmp_path: Path) -> None:
    size = ["synth", "--architecture", "moe", "--size", "30MB", "--output", tmp_path / "m.gguf"]
    run(*size, "--type", "IQ4_XS", "--router-skew", "olmoe")
    facts = json.loads(run("inspect", tmp_path / "m.gguf", "--json"))
    assert facts["name"].endswith(" seed 0 skew olmoe")
    assert facts["file_bytes"] == pytest.approx(30e6, rel=0.02)
    with pytest.raises(ConfigError, match=r"^size chooses width; leave out one of the two"):
        run(*size, "--width", "64")
    with pytest.raises(ConfigError, match=r"^--router-skew: is a number from 0 to 10, or one of even, olmoe"):
        run(*size, "--router-skew", "odd")


def test_the_first_line_says_that_a_model_is_dense(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    run("synth", "--architecture", "llama", "--layers", "1", "--width", "64", "--feed-forward", "64", "--output", path)
    facts = json.loads(run("inspect", path, "--json"))
    # All but the embedding of 2048 tokens, of which one row of 64 weights in Q4_0 is looked up.
    assert facts["bytes_per_token"] == facts["weights_bytes"] - 2048 * 36 + 36
    assert run("inspect", path).splitlines()[0] == "dense; a token touches 90.7 kB of 164 kB (55%) of the weights"


def test_a_split_model_is_looked_into_whole(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "gpt-oss", split_max_tensors=2)
    writer.add_block_count(2)
    writer.add_expert_count(32)
    writer.add_expert_used_count(4)
    for name in ("attn_q", "ffn_up_exps"):
        for layer in range(2):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones((32, 4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    facts = json.loads(run("inspect", tmp_path / "m-00002-of-00002.gguf", "--json"))
    assert facts["parts"] == [str(tmp_path / f"m-0000{part}-of-00002.gguf") for part in (1, 2)]
    assert facts["summary"].startswith("mixture of experts: 4 of 32 experts a token, in 2 of 2 layers; ")
    assert {tensor["part"] for tensor in facts["tensors"]} == {0, 1}
    assert "and 1 more parts" in " ".join(run("inspect", tmp_path / "m-00001-of-00002.gguf").split())


def test_what_gpt_oss_20b_is(tmp_path: Path) -> None:
    """The shapes and types of the real model, whose file says F16; without its data, which takes no room."""
    width, experts, path = 2880, 32, tmp_path / "gpt-oss-20b-F16.gguf"
    writer = GGUFWriter(path, "gpt-oss")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_block_count(24)
    writer.add_head_count(64)
    writer.add_head_count_kv(8)
    writer.add_sliding_window(128)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(4)
    half, block, single = GGMLQuantizationType.F16, GGMLQuantizationType.MXFP4, GGMLQuantizationType.F32
    tensors = {"token_embd": ((201_088, width), half), "output": ((201_088, width), half)}
    for layer in range(24):
        inner = {"attn_q": ((4096, width), half), "attn_k": ((512, width), half), "attn_v": ((512, width), half)}
        inner |= {"attn_output": ((width, 4096), half), "attn_norm": ((width,), single), "attn_sinks": ((64,), single)}
        inner |= {"ffn_gate_inp": ((experts, width), single)}
        inner |= {f"ffn_{name}_exps": ((experts, width, width), block) for name in ("gate", "up", "down")}
        tensors |= {f"blk.{layer}.{name}": value for name, value in inner.items()}
    for name, (shape, kind) in tensors.items():
        elements, size = GGML_QUANT_SIZES[kind]
        count = math.prod(shape) // elements * size
        writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float32), count, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, 14 * 10**9)
    facts = json.loads(run("inspect", path, "--json"))
    first = run("inspect", path).splitlines()[0]
    assert first == facts["summary"]
    assert first.startswith("mixture of experts: 4 of 32 experts a token, in 24 of 24 layers; a token touches ")
    assert "of 13.8 GB" in first
    assert (facts["architecture"], facts["quantisation"]) == ("gpt-oss", "F16")
    assert max(facts["bytes_by_type"], key=facts["bytes_by_type"].__getitem__) == "MXFP4"
    assert facts["bytes_per_token_by_class"]["experts"] * 8 == facts["bytes_by_class"]["experts"]
    assert facts["attention"]["kind"] == "grouped-query"


def test_bad_shape_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="width 100 is not a multiple"):
        run(*SYNTH, "--width", "100", "--output", tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match=r"^--kv-heads: Input should be greater"):
        run(*SYNTH, "--kv-heads", "0", "--output", tmp_path / "m.gguf")


def test_inspect_loads_only_what_it_needs(tmp_path: Path) -> None:
    """Loading the rest takes several times as long as looking into a model."""
    run(*SYNTH, "--output", tmp_path / "m.gguf")
    code = """
import sys
from contextlib import suppress
from pagelab.commands.cli import main
with suppress(SystemExit):
    main(["model", "inspect", sys.argv[1]])
print(sorted({"gguf", "matplotlib", "numpy", "pyarrow", "yaml"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "m.gguf")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *_, last = answer.stdout.splitlines()
    assert first.startswith("mixture of experts")
    assert last == "[]"


def test_inspect_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("hello")
    with pytest.raises(ModelError, match="not a GGUF file"):
        run("inspect", tmp_path / "m.gguf")


def test_fetch_says_what_changed(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    assert run("fetch", config, "--models", tmp_path / "models") == "changed: tiny\n"
    assert run("fetch", config, "--models", tmp_path / "models") == "unchanged: tiny\n"


def test_a_path_is_in_one_piece_in_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / ("a directory with a long name [v2] " * 4) / "m[v2].gguf"
    path.parent.mkdir()
    run(*SYNTH, "--output", path)
    assert str(path) in run("inspect", path)


def test_files_says_where_each_model_is(tmp_path: Path) -> None:
    config = tmp_path / "c.yml"
    names = ["/a b/\n'\".gguf", "ü [x].gguf", "../outside.gguf"]
    models = [{"name": f"m{n}", "source": {"file": name, "sha256": "a" * 64}} for n, name in enumerate(names)]
    config.write_text(yaml.safe_dump({"experiment": "x", "models": models}))
    assert run("files", "--models", "/models", "--null", config).split("\0") == [
        names[0],
        "/models/ü [x].gguf",
        "/models/../outside.gguf",
        "",
    ]


@pytest.mark.parametrize("name", ['"a\\0b"', '"\\ud800"'])
def test_files_refuses_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    config = tmp_path / "c.yml"
    config.write_text(f"experiment: x\nmodels: [{{name: m, source: {{file: {name}, sha256: {'a' * 64}}}}}]\n")
    with pytest.raises(ConfigError):
        run("files", "--models", tmp_path, config)
