import hashlib
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pagelab.config.synthetic_spec import WEIGHT_BLOCKS, SyntheticSpec, WeightType
from pagelab.errors import ModelError
from pagelab.models.encodings import ENCODINGS
from pagelab.models.gguf_map import read_gguf_map
from pagelab.models.synthetic import digest, estimate_bytes, write_synthetic

SHAPE: dict[str, Any] = {"architecture": "llama", "layers": 1, "width": 256, "feed_forward": 256, "vocabulary": 512}
MOE: dict[str, Any] = {**SHAPE, "architecture": "moe", "experts": 4, "experts_used": 2}


def data_sha256(path: Path) -> str:
    """Hash of the weights alone: the header's bytes are the business of the gguf package."""
    return hashlib.sha256(path.read_bytes()[read_gguf_map(path).data_offset :]).hexdigest()


def test_one_seed_gives_one_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        sha256 = write_synthetic(SyntheticSpec(**SHAPE, seed=seed), path)
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    first, again, other = (data_sha256(path) for path in paths)
    assert first == again
    assert first != other
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("shape", "sha256"),
    [
        ({**SHAPE, "type": "Q4_0"}, "948e1d7e775f9059b853ac5a301f26a8a16395a0e81c0a5faff3903bd9d68b63"),
        ({**MOE, "type": "Q4_K"}, "d28d5589be82b29207d3d19bac1c279e10e9203281541f277e195ec324aa529f"),
        ({**SHAPE, "type": "Q8_0"}, "e84a1f85ded8ebd3793f7fe512a6d49a6751bec3ff19ee0bebdaaafe2db74adc"),
        ({**SHAPE, "type": "F16"}, "825cfc78e8d0ab46a1fe4449862dc760c7ff930de890c6064ecd73fc7df1cf1e"),
        ({**MOE, "router_skew": 1.0}, "920c27a884516d85ed9a71428345871146192db4c51f1272f4449482b3220df2"),
        (
            {**MOE, "type": "F16", "experts": 40, "layers": 4, "router_skew": 0.0},
            "2449bfe866bfc09952ee6c39327519ce6b6b14173eb65e80f13ca63b8f256747",
        ),
        (
            {**MOE, "type": "MXFP4", "experts": 16, "router_skew": "olmoe"},
            "cef7ca2b09832fbbd4508783fcf72936446197f39e3ac42943adfb5fa5350da6",
        ),
    ],
)
def test_weights_are_the_same_everywhere(tmp_path: Path, shape: dict[str, Any], sha256: str) -> None:
    # A change here changes every synthetic model: then raise _GENERATOR_VERSION too.
    write_synthetic(SyntheticSpec(**shape, seed=7), tmp_path / "m.gguf")
    assert data_sha256(tmp_path / "m.gguf") == sha256


DIGESTS = {
    "F32": "ca19ab9840d3ac88",
    "BF16": "24600400d00a6f0a",
    "Q4_1": "4b06853ab699220c",
    "Q5_0": "b87f4a42e3335a2a",
    "Q5_1": "612d560dfd7017dd",
    "MXFP4": "001644f6a36bc3d5",
    "Q2_K": "e016e4bda77a3a5b",
    "Q3_K": "0a6eee76111d0110",
    "Q5_K": "3718193a315af7ad",
    "Q6_K": "93b8787807f95df1",
    "IQ1_S": "7a5ed63614cef694",
    "IQ1_M": "d3721266a4ff9ed1",
    "IQ2_XXS": "42919b0e1e760933",
    "IQ2_XS": "177e58f10f56d052",
    "IQ2_S": "e823e04afa43d34a",
    "IQ3_XXS": "c0d3aa137d69aa24",
    "IQ3_S": "5a8b8860e12278db",
    "IQ4_NL": "def68be268200e6f",
    "IQ4_XS": "f4d2de5c888a67da",
    "TQ1_0": "2da557ede10258a3",
    "TQ2_0": "d5878cff83c62d5a",
}


@pytest.mark.parametrize(("kind", "begin"), DIGESTS.items())
def test_weights_of_every_type_are_the_same_everywhere(tmp_path: Path, kind: str, begin: str) -> None:
    write_synthetic(SyntheticSpec(**MOE, type=kind, seed=7), tmp_path / "m.gguf")
    assert data_sha256(tmp_path / "m.gguf").startswith(begin)


@pytest.mark.parametrize("kind", get_args(WeightType))
def test_weights_keep_the_size_of_what_they_multiply(tmp_path: Path, kind: str) -> None:
    write_synthetic(SyntheticSpec(**{**MOE, "feed_forward": 1024}, type=kind), tmp_path / "m.gguf")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    for name, fan_in in (("attn_q", 256), ("ffn_up_exps", 256), ("ffn_gate_inp", 256), ("ffn_down_exps", 1024)):
        tensor = tensors[f"blk.0.{name}.weight"]
        values = dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        gain = values.std() * fan_in**0.5 * (2**0.5 if "down" in name else 1)
        # These have a power of two for a scale, so they may be off by a factor of up to 2.
        exact = tensor.tensor_type.name not in ("F16", "F32", "BF16", "MXFP4")
        assert gain == pytest.approx(1, rel=0.03) if exact else 0.45 < gain < 1.05
        assert abs(values.mean()) < 0.05 * values.std()


@pytest.mark.parametrize("kind", get_args(WeightType))
def test_weights_hardly_compress(kind: str) -> None:
    """What a type cannot but have in common, an exponent or a scale of all blocks, is left."""
    spec = ENCODINGS[kind]
    block_bytes = WEIGHT_BLOCKS[kind][1]
    blocks = np.random.PCG64(1).random_raw(25 * block_bytes * 64).view(np.uint8).reshape(-1, block_bytes)
    spec.shape(blocks, 0.01)
    kept = len(zlib.compress(blocks.tobytes())) / blocks.size
    assert kept > (0.6 if kind in ("F16", "BF16", "TQ2_0") else 0.75)


def test_unprinted_tokens_have_no_output(tmp_path: Path) -> None:
    write_synthetic(SyntheticSpec(**SHAPE), tmp_path / "m.gguf")
    reader = GGUFReader(tmp_path / "m.gguf")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    output = next(tensor for tensor in reader.tensors if tensor.name == "output.weight")
    rows = dequantize(output.data, output.tensor_type)
    assert not rows[:259].any()
    assert rows[259:].any(axis=1).all()
    assert tokens[:3] == ["<unk>", "<s>", "</s>"]
    assert tokens[3] == "<0x00>"
    assert all(token.replace("\u2581", " ").isascii() and token.isprintable() for token in tokens[259:])


@pytest.mark.parametrize("size", [512, 2048, 20_000])
def test_tokens_differ(tmp_path: Path, size: int) -> None:
    write_synthetic(SyntheticSpec(**{**SHAPE, "vocabulary": size}), tmp_path / "m.gguf")
    tokens = GGUFReader(tmp_path / "m.gguf").fields["tokenizer.ggml.tokens"].contents()
    assert len(set(tokens)) == len(tokens) == size


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.integers(1, 3),
    width=st.integers(1, 5).map(lambda n: 64 * n),
    feed_forward=st.integers(1, 9).map(lambda n: 32 * n),
    experts=st.integers(0, 5),
    skew=st.none() | st.floats(0, 10),
    vocabulary=st.integers(512, 900),
    kind=st.sampled_from(["Q4_0", "Q8_0", "F16"]),
)
def test_any_shape_is_whole_and_of_the_estimated_size(
    tmp_path: Path,
    layers: int,
    width: int,
    feed_forward: int,
    experts: int,
    skew: float | None,
    vocabulary: int,
    kind: str,
) -> None:
    shape = {"layers": layers, "width": width, "feed_forward": feed_forward, "vocabulary": vocabulary, "type": kind}
    moe = {"architecture": "moe", "experts": experts, "experts_used": 1, "router_skew": skew}
    spec = SyntheticSpec.model_validate({**shape, **(moe if experts else {"architecture": "llama"})})
    path = tmp_path / "m.gguf"
    write_synthetic(spec, path)
    model = read_gguf_map(path)
    assert (model.layers, model.experts, model.quantisation) == (layers, experts, kind)
    end = max(tensor.offset + tensor.bytes for tensor in model.tensors)
    assert end <= model.file_bytes < end + 32
    assert abs(estimate_bytes(spec) - model.file_bytes) < 8192
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 100}, "width 100 is not a multiple of 32"),
        ({"feed_forward": 100}, "feed_forward 100 is not a multiple of 32"),
        ({"type": "Q4_K", "feed_forward": 128}, "not a multiple of 256, the block of Q4_K"),
        ({"heads": 3}, "does not divide into 3 heads"),
        ({"heads": 256}, "heads of an even width"),
        ({"heads": 4, "kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
        ({"experts": 8}, "a llama model is dense"),
        ({"architecture": "moe", "experts_used": 9}, "experts_used 9 is not between 1 and experts"),
        ({"architecture": "moe", "experts": 1000}, "less than or equal to 512"),
        ({"vocabulary": 10}, "greater than or equal to 512"),
        ({"layers": 0}, "greater than or equal to 1"),
        ({"type": "Q3_X"}, "Q4_0"),
        ({"architecture": "mamba"}, "llama"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SyntheticSpec.model_validate({**SHAPE, **change})
    first, *rest = caught.value.errors()
    assert message in first["msg"]
    # Defaults that follow from what is wrong cannot be found either.
    assert {error["type"] for error in rest} <= {"default_factory_not_called"}


def test_defaults_follow_the_width() -> None:
    spec = SyntheticSpec(architecture="moe", layers=1, width=1024, feed_forward=1024)
    assert (spec.heads, spec.kv_heads, spec.experts, spec.experts_used) == (16, 4, 8, 2)


def test_digest_depends_on_every_part_of_the_shape() -> None:
    spec = SyntheticSpec(**SHAPE)
    changes: list[dict[str, Any]] = [{}, {"layers": 2}, {"seed": 1}, {"type": "Q8_0"}, {"context": 8192}, {"heads": 2}]
    assert len({digest(spec.model_copy(update=change)) for change in changes}) == len(changes)
    skews = (None, 0.0, 0.5)
    assert len({digest(SyntheticSpec(**MOE, router_skew=skew)) for skew in skews}) == len(skews)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (SHAPE, "2927fab166e97acd1066249e77bac8b4964204c20278c705ace1e17596a5c3e9"),
        ({**MOE, "type": "Q4_K"}, "a1189d53c2775b446557d49b3c3dee87daa3026e69128ad0e39f9d66d99f95c1"),
    ],
)
def test_digests_stay_what_they_were(shape: dict[str, Any], expected: str) -> None:
    """Files are known by them: a new field of the spec must not make every lab generate its models again."""
    assert digest(SyntheticSpec(**shape, seed=7)) == expected


def run_limited(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_memory_is_bounded(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from pagelab.config.synthetic_spec import SyntheticSpec
from pagelab.models.synthetic import write_synthetic
spec = SyntheticSpec(architecture="moe", layers=1, width=2048, feed_forward=2048, experts=64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_synthetic(spec, Path({str(tmp_path / "m.gguf")!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(run_limited(code)) < 64 * 1024  # KiB; one tensor of experts alone is 151 MB
    assert (tmp_path / "m.gguf").stat().st_size > 450e6


def test_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from pagelab.errors import ModelError
from pagelab.config.synthetic_spec import SyntheticSpec
from pagelab.models.synthetic import write_synthetic
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
spec = SyntheticSpec(architecture="llama", layers=4, width=256, feed_forward=1024)
try:
    write_synthetic(spec, Path({str(tmp_path / "m.gguf")!r}))
except ModelError as error:
    print(error)
"""
    assert "m.gguf cannot be written (File too large)" in run_limited(code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vocabulary", [512, 2048, 20_000])
def test_the_estimate_grows_with_the_vocabulary_as_the_file_does(vocabulary: int, tmp_path: Path) -> None:
    spec = SyntheticSpec(architecture="llama", layers=1, width=32, feed_forward=32, vocabulary=vocabulary)
    write_synthetic(spec, tmp_path / "m.gguf")
    assert abs(estimate_bytes(spec) - (tmp_path / "m.gguf").stat().st_size) < 2048


def test_model_larger_than_the_disk_is_refused_at_once(tmp_path: Path) -> None:
    spec = SyntheticSpec(architecture="llama", layers=512, width=65536, feed_forward=131072)
    with pytest.raises(ModelError, match="make room"):
        write_synthetic(spec, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []
