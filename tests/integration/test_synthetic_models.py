"""llama.cpp itself loads and runs what pagelab generates."""

import os
import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from pagelab.config.synthetic_spec import SyntheticSpec, WeightType
from pagelab.models.gguf_map import read_gguf_map
from pagelab.models.synthetic import write_synthetic

LLAMA_CPP = Path(os.environ.get("PAGELAB_LLAMA_CPP", "/var/lib/pagelab/llama.cpp")) / "pin"
LLAMA_CLI = LLAMA_CPP / "bin" / "llama-cli"
PROMPT = "Once upon a time"
TOKENS = 24

pytestmark = pytest.mark.skipif(not LLAMA_CLI.exists(), reason=f"llama.cpp is not at {LLAMA_CPP}: run make provision")

SPECS = {
    "dense": SyntheticSpec(architecture="llama", layers=3, width=256, feed_forward=768),
    "experts": SyntheticSpec(architecture="moe", layers=3, width=256, feed_forward=512, experts=16, experts_used=4),
    "dense-q4_k": SyntheticSpec(architecture="llama", layers=3, width=256, feed_forward=768, type="Q4_K"),
    "experts-q8_0": SyntheticSpec(architecture="moe", layers=2, width=128, feed_forward=64, type="Q8_0"),
    "experts-alike": SyntheticSpec(
        architecture="moe", layers=3, width=256, feed_forward=64, experts=32, experts_used=4, router_skew=0
    ),
    "experts-concentrated": SyntheticSpec(
        architecture="moe",
        layers=3,
        width=256,
        feed_forward=256,
        experts=16,
        experts_used=4,
        type="Q4_K",
        router_skew=9,
    ),
    "dense-f16": SyntheticSpec(architecture="llama", layers=3, width=320, feed_forward=96, type="F16"),
    "deep": SyntheticSpec(architecture="llama", layers=64, width=64, feed_forward=128),
    "many-tokens": SyntheticSpec(architecture="llama", layers=1, width=64, feed_forward=64, vocabulary=50_000),
}


@pytest.mark.parametrize("name", SPECS)
def test_llama_cpp_loads_and_decodes(name: str, tmp_path: Path) -> None:
    spec, path = SPECS[name], tmp_path / "m.gguf"
    write_synthetic(spec, path)
    command = [str(LLAMA_CLI), "-m", str(path), "-p", PROMPT, "-n", str(TOKENS), "-c", "512", "--seed", "1", "-t", "2"]
    command += ["-no-cnv", "--no-warmup", "--no-repack", "--ignore-eos"]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, cwd=tmp_path
    )
    log = result.stderr.decode(errors="replace")
    assert result.returncode == 0, log
    assert re.search(rf"n_expert\s+= {spec.experts}\n", log)
    assert re.search(rf"n_layer\s+= {spec.layers}\n", log)
    model = read_gguf_map(path)
    assert re.search(rf"n_expert_used\s+= {model.experts_used}\n", log)
    assert re.search(rf"n_head\s+= {model.attention.heads}\n", log)
    assert re.search(rf"n_head_kv\s+= {model.attention.kv_heads}\n", log)
    assert not re.search(r"\bnan\b", log, re.IGNORECASE)
    # Every token after the first prints, and what it prints is ordinary text.
    text = result.stdout.decode().strip().removeprefix(PROMPT)
    assert len(text) >= TOKENS - 1
    assert text.isascii()
    assert text.replace("\n", " ").isprintable()
    assert len(set(text.split())) > 3


@pytest.mark.parametrize("kind", get_args(WeightType))
def test_llama_cpp_takes_every_type(kind: str, tmp_path: Path) -> None:
    """Its own check of the tensors finds nothing in them that is no number, and it decodes."""
    shape = {"layers": 2, "width": 256, "feed_forward": 256, "experts": 8, "router_skew": 1.0, "type": kind}
    path = tmp_path / "m.gguf"
    write_synthetic(SyntheticSpec.model_validate({"architecture": "moe", **shape}), path)
    command = [str(LLAMA_CLI), "-m", str(path), "-p", PROMPT, "-n", "6", "-c", "64", "--seed", "1", "-t", "1"]
    command += ["-no-cnv", "--no-warmup", "--no-repack", "--ignore-eos", "--check-tensors"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    log = result.stderr.decode(errors="replace")
    assert result.returncode == 0, log
    assert not re.search(r"\bnan\b", log, re.IGNORECASE)
    assert len(result.stdout.decode().strip().removeprefix(PROMPT)) >= 5


def test_context_and_size_agree_with_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_synthetic(SPECS["experts"].model_copy(update={"context": 1234}), path)
    command = [str(LLAMA_CLI), "-m", str(path), "-p", "a", "-n", "1", "-no-cnv", "--no-warmup", "--no-repack"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True)
    log = result.stderr.decode(errors="replace")
    assert re.search(r"n_ctx_train\s+= 1234\n", log)
    file_size = re.search(r"file size\s+= ([0-9.]+) MiB", log)
    assert file_size is not None
    assert float(file_size[1]) == pytest.approx(read_gguf_map(path).weights_bytes / 2**20, abs=0.01)
