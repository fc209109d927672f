"""Kinds of attention, by the metadata and tensor names that converters write for each architecture."""

from typing import Any

import pytest
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

from pagelab.models.attention import Attention, attention_of, in_words
from pagelab.models.tensors import Tensor, classify, layer_of

SOFTMAX = ["attn_q", "attn_k", "attn_v", "attn_output", "attn_norm", "ffn_up"]
RECURRENT = ["ssm_in", "ssm_conv1d", "ssm_out", "attn_norm", "ffn_up"]


def attention(architecture: str, layers: list[list[str]], **metadata: Any) -> Attention:
    """The attention of a model with these tensors, whose names must be ones that the architecture has."""
    arch = MODEL_ARCH[architecture]
    known = {TENSOR_NAMES[tensor].removeprefix("blk.{bid}.") for tensor in MODEL_TENSORS[arch]}
    assert known >= {name for names in layers for name in names}
    tensors = [_tensor(f"blk.{layer}.{name}.weight") for layer, names in enumerate(layers) for name in names]
    prefix = MODEL_ARCH_NAMES[arch]
    keys = {
        key.replace("__", "."): tuple(value) if isinstance(value, list) else value for key, value in metadata.items()
    }
    return attention_of({f"{prefix}.attention.{key}": value for key, value in keys.items()}, prefix, tensors)


def _tensor(name: str) -> Tensor:
    return Tensor(name, "F32", (1,), 0, 4, layer_of(name), classify(name))


@pytest.mark.parametrize(
    ("architecture", "heads", "kv_heads", "kind"),
    [
        ("LLAMA", 32, None, "multi-head"),  # llama-2-7b, as of old converters: no head_count_kv
        ("LLAMA", 32, 32, "multi-head"),
        ("LLAMA", 32, 8, "grouped-query"),  # mixtral-8x7b
        ("GEMMA3", 4, 1, "multi-query"),  # gemma-3-270m
        ("QWEN2", 28, 4, "grouped-query"),
        ("QWEN3MOE", 32, 4, "grouped-query"),
        ("LLAMA", 1, 1, "multi-head"),
    ],
)
def test_heads_tell_the_kind(architecture: str, heads: int, kv_heads: int | None, kind: str) -> None:
    counts = {"head_count": heads} | ({} if kv_heads is None else {"head_count_kv": kv_heads})
    names = [name for name in SOFTMAX if not (architecture == "QWEN3MOE" and name == "ffn_up")]
    found = attention(architecture, [names] * 3, **counts)
    assert (found.kind, found.heads, found.kv_heads) == (kind, heads, kv_heads or heads)
    assert (found.layers, found.recurrent_layers, found.hybrid) == (3, 0, False)
    assert (found.sliding_window_tokens, found.sliding_layers) == (0, 0)


def test_gpt_oss_has_a_window_and_does_not_say_where() -> None:
    names = ["attn_q", "attn_k", "attn_v", "attn_sinks", "ffn_up_exps"]
    found = attention("GPT_OSS", [names] * 24, head_count=64, head_count_kv=8, sliding_window=128)
    assert (found.kind, found.sliding_window_tokens, found.sliding_layers) == ("grouped-query", 128, None)
    assert in_words(found) == "grouped-query, 64 heads share 8 of keys and values, sliding window of 128 tokens"


def test_gemma3n_says_which_layers_have_the_window() -> None:
    pattern = [True, True, True, True, False] * 2
    found = attention(
        "GEMMA3N", [SOFTMAX] * 10, head_count=8, head_count_kv=2, sliding_window=512, sliding_window_pattern=pattern
    )
    assert (found.sliding_window_tokens, found.sliding_layers) == (512, 8)
    assert in_words(found).endswith("sliding window of 512 tokens in 8 layers")


def test_phi_with_a_window_of_zero_has_none() -> None:
    found = attention("PHI3", [["attn_qkv", "attn_output"]] * 2, head_count=40, head_count_kv=10, sliding_window=0)
    assert (found.kind, found.sliding_window_tokens, found.sliding_layers) == ("grouped-query", 0, 0)


def test_deepseek2_is_latent_although_it_has_one_key_head() -> None:
    names = ["attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_k_b", "attn_v_b", "attn_output"]
    found = attention("DEEPSEEK2", [names] * 4, head_count=128, head_count_kv=1, kv_lora_rank=512)
    assert (found.kind, found.latent_rank, found.layers) == ("latent", 512, 4)
    assert in_words(found) == "latent (MLA), 128 heads, keys and values of rank 512"


def test_mamba_has_no_attention() -> None:
    found = attention("MAMBA", [["ssm_in", "ssm_conv1d", "ssm_out"]] * 24, head_count=0)
    assert (found.kind, found.layers, found.recurrent_layers, found.hybrid) == ("none", 0, 24, False)
    assert in_words(found) == "none, recurrent in 24 layers"


def test_rwkv_has_no_attention() -> None:
    found = attention("RWKV7", [["time_mix_key", "time_mix_output", "channel_mix_key"]] * 2, head_count=0)
    assert (found.kind, found.recurrent_layers) == ("none", 2)


@pytest.mark.parametrize("architecture", ["JAMBA", "GRANITE_HYBRID", "NEMOTRON_H"])
def test_hybrids_count_key_heads_by_layer(architecture: str) -> None:
    layers = [RECURRENT, RECURRENT, SOFTMAX, RECURRENT]
    found = attention(architecture, layers, head_count=32, head_count_kv=[0, 0, 8, 0])
    assert (found.kind, found.layers, found.recurrent_layers, found.hybrid) == ("grouped-query", 1, 3, True)
    assert in_words(found).endswith("; hybrid: attention in 1 layers, recurrent in 3")


def test_linear_attention_is_recurrent_although_its_tensors_are_named_so() -> None:
    linear = ["attn_qkv", "attn_gate", "ssm_conv1d", "ssm_ba", "ssm_out"]
    full = ["attn_q", "attn_k", "attn_v", "attn_output"]
    found = attention("QWEN3NEXT", [linear, linear, linear, full] * 2, head_count=16, head_count_kv=2)
    assert (found.kind, found.layers, found.recurrent_layers) == ("grouped-query", 2, 6)
    kda = ["attn_q", "attn_k", "attn_v", "ssm_conv1d_q", "ssm_beta"]
    latent = ["attn_q", "attn_kv_a_mqa", "attn_k_b", "attn_v_b"]
    found = attention(
        "KIMI_LINEAR", [kda, kda, kda, latent], head_count=32, head_count_kv=[0, 0, 0, 1], kv_lora_rank=512
    )
    assert (found.kind, found.layers, found.recurrent_layers) == ("latent", 1, 3)


def test_layers_may_have_both() -> None:
    found = attention("FALCON_H1", [SOFTMAX + RECURRENT[:3]] * 5, head_count=8, head_count_kv=2)
    assert (found.kind, found.layers, found.recurrent_layers, found.hybrid) == ("grouped-query", 5, 5, True)


def test_heads_that_differ_between_layers() -> None:
    found = attention("OPENELM", [["attn_qkv"]] * 3, head_count=[12, 16, 20], head_count_kv=[3, 4, 20])
    assert (found.kind, found.heads, found.kv_heads) == ("grouped-query", 20, 20)


def test_a_file_that_does_not_tell() -> None:
    assert attention("LLAMA", [SOFTMAX]).kind == "unknown"
    assert in_words(attention("LLAMA", [])) == "unknown, the file does not tell"
