"""Names, against the tables of the gguf package; places of experts, against its reader."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import MODEL_ARCH, MODEL_TENSOR, MODEL_TENSORS, TENSOR_NAMES
from hypothesis import given
from hypothesis import strategies as st

from pagelab.config.model_specs import SyntheticSpec
from pagelab.models.gguf_map import read_gguf_map
from pagelab.models.synthetic import write_synthetic
from pagelab.models.tensors import Tensor, classify, expert_count, expert_ranges, layer_of

T = MODEL_TENSOR
# gemma, qwen2 and qwen3, qwen3moe, gpt-oss, deepseek2 with latent attention, mixtral (llama), hybrids.
ARCHITECTURES = [
    "LLAMA",
    "GEMMA",
    "GEMMA2",
    "GEMMA3",
    "GEMMA3N",
    "QWEN2",
    "QWEN3",
    "QWEN2MOE",
    "QWEN3MOE",
    "QWEN3NEXT",
    "GPT_OSS",
    "DEEPSEEK",
    "DEEPSEEK2",
    "MAMBA",
    "MAMBA2",
    "JAMBA",
    "FALCON_H1",
    "GRANITE_MOE",
    "GRANITE_HYBRID",
    "NEMOTRON_H",
    "LFM2",
    "KIMI_LINEAR",
    "RWKV7",
    "LLAMA4",
    "GLM4_MOE",
    "GROVEMOE",
    "PHI3",
    "T5",
]
EXPECTED = {
    "embedding": {T.TOKEN_EMBD, T.PER_LAYER_TOKEN_EMBD, T.NEXTN_EMBED_TOKENS},
    "attention": {
        *(T.ATTN_Q, T.ATTN_K, T.ATTN_V, T.ATTN_QKV, T.ATTN_OUT, T.ATTN_SINKS, T.ATTN_GATE, T.ATTN_ROT_EMBD),
        *(T.ATTN_Q_A, T.ATTN_Q_B, T.ATTN_KV_A_MQA, T.ATTN_KV_B, T.ATTN_K_B, T.ATTN_V_B),
    },
    "feed_forward": {T.FFN_GATE, T.FFN_UP, T.FFN_DOWN, T.CHANNEL_MIX_LERP_K, T.CHANNEL_MIX_KEY, T.CHANNEL_MIX_VALUE},
    "experts": {
        *(T.FFN_GATE_EXP, T.FFN_UP_EXP, T.FFN_DOWN_EXP, T.FFN_GATE_UP_EXP),
        *(T.FFN_GATE_CHEXP, T.FFN_UP_CHEXP, T.FFN_DOWN_CHEXP),
    },
    "shared_experts": {T.FFN_GATE_SHEXP, T.FFN_UP_SHEXP, T.FFN_DOWN_SHEXP},
    "router": {T.FFN_GATE_INP, T.FFN_GATE_INP_SHEXP, T.FFN_EXP_PROBS_B},
    "output": {T.OUTPUT, T.NEXTN_SHARED_HEAD_HEAD},
    "other": {
        *(T.ROPE_FREQS, T.ROPE_FACTORS_LONG, T.ROPE_FACTORS_SHORT, T.NEXTN_EH_PROJ, T.DENSE_2_OUT, T.DENSE_3_OUT),
        *(T.PER_LAYER_MODEL_PROJ, T.PER_LAYER_INP_GATE, T.PER_LAYER_PROJ, T.LAUREL_L, T.LAUREL_R),
        *(T.ALTUP_PROJ, T.ALTUP_UNEMBD_PROJ, T.ALTUP_CORRECT_COEF, T.ALTUP_CORRECT_SCALE, T.ALTUP_PREDICT_COEF),
        T.ALTUP_ROUTER,
    },
}
PREFIXES = ("SSM_", "TIME_MIX_", "SHORTCONV_")


def expected(tensor: MODEL_TENSOR) -> str:
    """The class by the gguf package's own key of the tensor, which is not the name that a file has."""
    if tensor.name.endswith(("NORM", "_NORM_2", "_NORM_1")) or tensor is T.TIME_MIX_LN:
        return "norm"
    if tensor.name.startswith(PREFIXES):
        return "recurrent"
    decoder = {T[f"{half}_{rest}"] for half in ("ENC", "DEC") for rest in ("ATTN_Q", "ATTN_K", "ATTN_V", "ATTN_OUT")}
    if tensor in decoder or "ATTN_REL_B" in tensor.name or "CROSS_ATTN" in tensor.name:
        return "attention"
    if tensor.name.startswith(("ENC_FFN", "DEC_FFN")):
        return "feed_forward"
    return next(kind for kind, tensors in EXPECTED.items() if tensor in tensors)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_of_an_architecture_has_its_class(architecture: str) -> None:
    for tensor in MODEL_TENSORS[MODEL_ARCH[architecture]]:
        name = TENSOR_NAMES[tensor].format(bid=7)
        assert classify(f"{name}.weight") == classify(f"{name}.bias") == expected(tensor), name
        assert layer_of(f"{name}.weight") == (7 if "{bid}" in TENSOR_NAMES[tensor] else None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("position_embd.weight", "embedding"),
        ("token_types.weight", "embedding"),
        ("blk.3.ffn_gate.7.weight", "experts"),  # as older files of Mixtral have it
        ("blk.3.exp_probs_b.bias", "router"),
        ("blk.3.ssm_a", "recurrent"),  # without a suffix
        ("blk.3.post_attention_norm.weight", "norm"),
        ("blk.3.vis_attn_qkv.weight", "attention"),
        ("cls.output.weight", "output"),
        ("something.new", "other"),
    ],
)
def test_names_that_are_written_otherwise(name: str, kind: str) -> None:
    assert classify(name) == kind


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F16"])
def test_each_expert_lies_where_the_reader_finds_it(tmp_path: Path, kind: str) -> None:
    spec = SyntheticSpec.model_validate(
        {
            "architecture": "moe",
            "layers": 2,
            "width": 64,
            "feed_forward": 96,
            "experts": 5,
            "experts_used": 2,
            "type": kind,
        }
    )
    path = tmp_path / "m.gguf"
    write_synthetic(spec, path)
    content = np.fromfile(path, dtype=np.uint8)
    arrays = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    checked = 0
    for tensor in read_gguf_map(path).tensors:
        ranges = expert_ranges(tensor)
        assert bool(ranges) == ("_exps" in tensor.name)
        for found in ranges:
            there = content[found.offset : found.offset + found.bytes]
            assert (there == arrays[tensor.name][found.expert].reshape(-1).view(np.uint8)).all()
            checked += 1
    assert checked == 2 * 3 * 5


@given(
    experts=st.integers(1, 600), rows=st.integers(1, 50), row_bytes=st.integers(1, 999), offset=st.integers(0, 2**40)
)
def test_experts_share_a_tensor_without_gaps(experts: int, rows: int, row_bytes: int, offset: int) -> None:
    size = experts * rows * row_bytes
    tensor = Tensor("blk.0.ffn_up_exps.weight", "F32", (row_bytes, rows, experts), offset, size, 0, "experts")
    ranges = expert_ranges(tensor)
    assert [found.expert for found in ranges] == list(range(experts))
    ends = [found.offset + found.bytes for found in ranges]
    assert [found.offset for found in ranges] == [offset, *ends[:-1]]
    assert ends[-1] == offset + size
    assert expert_count(tensor) == experts


def test_a_tensor_of_one_expert_knows_its_number() -> None:
    tensor = Tensor("blk.0.ffn_up.11.weight", "F32", (32, 4), 100, 512, 0, "experts")
    (found,) = expert_ranges(tensor)
    assert (found.expert, found.offset, found.bytes) == (11, 100, 512)


def test_what_is_no_expert_has_no_ranges() -> None:
    tensor = Tensor("blk.0.ffn_up_shexp.weight", "F32", (32, 4), 100, 512, 0, "shared_experts")
    assert expert_ranges(tensor) == ()
    assert expert_count(tensor) == 0
