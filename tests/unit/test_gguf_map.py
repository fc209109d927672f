import struct
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagelab.errors import ModelError
from pagelab.models.gguf_map import GgufMap, bytes_per_token, classify, read_gguf_map
from pagelab.models.synthetic import SyntheticSpec, write_synthetic

DENSE = SyntheticSpec(architecture="llama", layers=2, width=64, feed_forward=128, vocabulary=512)
MOE = SyntheticSpec(
    architecture="moe", layers=2, width=64, feed_forward=96, experts=4, experts_used=1, vocabulary=512, type="Q8_0"
)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "dense.gguf"
    write_synthetic(DENSE, path)
    return path


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moe") / "moe.gguf"
    write_synthetic(MOE, path)
    return path


def assert_same_as_gguf_reader(model: GgufMap) -> None:
    reader = GGUFReader(model.path)
    assert model.data_offset == reader.data_offset
    assert [(t.name, t.type, t.shape, t.offset, t.bytes) for t in model.tensors] == [
        (t.name, t.tensor_type.name, tuple(t.shape.tolist()), t.data_offset, t.n_bytes) for t in reader.tensors
    ]
    assert model.weights_bytes == sum(int(t.n_bytes) for t in reader.tensors)
    for key, value in model.metadata.items():
        expected = reader.fields[key].contents()
        assert value == (tuple(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_equals_gguf_reader(kind: str, request: pytest.FixtureRequest) -> None:
    assert_same_as_gguf_reader(read_gguf_map(request.getfixturevalue(kind)))


def test_facts_of_a_dense_model(dense: Path) -> None:
    model = read_gguf_map(dense)
    assert (model.architecture, model.layers, model.experts, model.experts_used) == ("llama", 2, 0, 0)
    assert (model.quantisation, model.vocabulary, model.has_chat_template) == ("Q4_0", 512, False)
    assert not model.tied_embeddings
    assert model.file_bytes == dense.stat().st_size
    assert set(model.bytes_by_class()) == {"embedding", "attention", "feed_forward", "norm", "output"}
    assert sum(model.bytes_by_class().values()) == model.weights_bytes
    assert {tensor.layer for tensor in model.tensors} == {None, 0, 1}
    # Everything but the embedding, of which one row of 64 weights in Q4_0 is looked up.
    assert bytes_per_token(model) == model.weights_bytes - 512 * 36 + 36


def test_facts_of_a_mixture_of_experts(moe: Path) -> None:
    model = read_gguf_map(moe)
    assert (model.experts, model.experts_used, model.quantisation) == (4, 1, "Q8_0")
    sizes = model.bytes_by_class()
    assert sizes["experts"] == 2 * 3 * 4 * 64 * 96 // 32 * 34
    assert sizes["router"] == 2 * 4 * 64 * 4
    assert "feed_forward" not in sizes
    assert bytes_per_token(model) == model.weights_bytes - sizes["embedding"] + 68 - sizes["experts"] * 3 // 4
    experts = next(tensor for tensor in model.tensors if tensor.name == "blk.1.ffn_down_exps.weight")
    assert (experts.shape, experts.layer, experts.tensor_class) == ((96, 64, 4), 1, "experts")


def test_tied_embedding_is_read_whole(tmp_path: Path) -> None:
    path = write_model(tmp_path, {"token_embd.weight": (100, 32), "output_norm.weight": (32,)})
    model = read_gguf_map(path)
    assert model.tied_embeddings
    assert bytes_per_token(model) == model.weights_bytes == 4 * (100 * 32 + 32)


def test_chat_template_and_undeclared_quantisation(tmp_path: Path) -> None:
    path = write_model(tmp_path, {"output.weight": (8, 32)}, {"tokenizer.chat_template": "{{ messages }}"})
    model = read_gguf_map(path)
    assert model.has_chat_template
    assert model.quantisation == "F32"
    assert model.name == "model"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=6),
    strings=st.lists(st.text(max_size=5), min_size=1, max_size=40),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40),
    alignment=st.sampled_from([8, 32, 64, 4096]),
)
def test_equals_gguf_reader_for_any_file(
    tmp_path: Path, shapes: list[list[int]], strings: list[str], numbers: list[int], alignment: int
) -> None:
    tensors = {f"blk.{index}.ffn_up.weight": tuple(shape) for index, shape in enumerate(shapes)}
    path = write_model(tmp_path, tensors, {"a.text": "ü", "a.strings": strings, "a.numbers": numbers}, alignment)
    model = read_gguf_map(path)
    assert_same_as_gguf_reader(model)
    assert model.metadata["a.numbers"] == tuple(numbers)


def test_every_truncation_is_refused(dense: Path, tmp_path: Path) -> None:
    model = read_gguf_map(dense)
    content = dense.read_bytes()
    cut = tmp_path / "cut.gguf"
    ends = {0, 1, 3, 4, 7, 8, 20, 24, 30, model.data_offset - 40, model.data_offset, len(content) - 64}
    for end in sorted(ends | set(range(24, model.data_offset, 997))):
        cut.write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"truncated|empty|not a GGUF"):
            read_gguf_map(cut)


def test_truncation_names_the_tensor_that_is_cut(dense: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(dense.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"cut\.gguf: tensor 'output\.weight' should end at byte"):
        read_gguf_map(cut)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 12_000), value=st.binary(min_size=1, max_size=8))
def test_damage_gives_a_model_error_or_a_map(dense: Path, tmp_path: Path, position: int, value: bytes) -> None:
    content = bytearray(dense.read_bytes())
    content[position : position + len(value)] = value
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content)
    try:
        model = read_gguf_map(damaged)
    except ModelError:
        return
    assert all(tensor.offset + tensor.bytes <= len(content) for tensor in model.tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(60), "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1 is not supported"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4 is not supported"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "no tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "truncated"),
        (b"GGUF" + struct.pack("<IQQQsI", 3, 0, 1, 1, b"k", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQsIIQQ", 3, 0, 1, 1, b"k", 9, 8, 2**60, 2**64 - 1), "truncated"),
        (b"GGUF" + struct.pack("<IQQQsIQIQ", 3, 1, 0, 1, b"t", 1, 32, 255, 0), "type 255"),
        (b"GGUF" + struct.pack("<IQQQsIQIQ", 3, 1, 0, 1, b"t", 1, 31, 2, 0), "whole blocks of Q4_0"),
        (b"GGUF" + struct.pack("<IQQQsIQIQ", 3, 1, 0, 1, b"t", 1, 32, 2, 2**40), "tensor 't' should end"),
        (b"GGUF" + struct.pack("<IQQQsIQIQ", 3, 1, 0, 1, b"t", 9, 32, 2, 0), "9 dimensions"),
    ],
)
def test_message_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_gguf_map(path)
    assert "bad.gguf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path, {"output.weight": (8, 32)}, {"split.count": 3})
    with pytest.raises(ModelError, match="one of 3 parts"):
        read_gguf_map(path)


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_missing_file_and_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_gguf_map(tmp_path / name)


def test_large_vocabulary_takes_little_time(tmp_path: Path) -> None:
    path = tmp_path / "wide.gguf"
    write_synthetic(SyntheticSpec(architecture="llama", layers=1, width=64, feed_forward=64, vocabulary=150_000), path)
    start = time.perf_counter()
    model = read_gguf_map(path)
    assert time.perf_counter() - start < 0.2
    assert model.vocabulary == 150_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_embd.weight", "embedding"),
        ("per_layer_token_embd.weight", "embedding"),
        ("token_embd_norm.weight", "norm"),
        ("output.weight", "output"),
        ("output_norm.weight", "norm"),
        ("blk.0.attn_output.weight", "attention"),
        ("blk.10.attn_q_norm.weight", "norm"),
        ("blk.3.ffn_up.weight", "feed_forward"),
        ("blk.3.ffn_gate_inp.weight", "router"),
        ("blk.3.exp_probs_b.bias", "router"),
        ("blk.3.ffn_gate_up_exps.weight", "experts"),
        ("blk.3.ffn_down_exps.bias", "experts"),
        ("blk.3.ffn_gate.7.weight", "experts"),
        ("blk.3.ffn_up_shexp.weight", "feed_forward"),
        ("blk.3.ssm_in.weight", "other"),
        ("rope_freqs.weight", "other"),
    ],
)
def test_tensor_classes(name: str, expected: str) -> None:
    assert classify(name) == expected


def write_model(
    directory: Path,
    tensors: dict[str, tuple[int, ...]],
    metadata: dict[str, str | int | list[str] | list[int]] | None = None,
    alignment: int | None = None,
) -> Path:
    path = directory / "model.gguf"
    writer = GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in (metadata or {}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, int):
            writer.add_uint16(key, value)
        else:
            writer.add_array(key, value)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
