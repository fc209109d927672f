import os
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagelab.config.model_specs import SyntheticSpec
from pagelab.errors import ModelError
from pagelab.host.page_cache import resident_pages
from pagelab.host.procfs import PAGE_BYTES
from pagelab.models.gguf_header import READ_BYTES
from pagelab.models.gguf_map import GgufMap, bytes_per_token, bytes_per_token_by_class, read_gguf_map
from pagelab.models.synthetic import write_synthetic
from pagelab.observe.tensors import TensorResidency
from pagelab.observe.traced_files import traced_tensors

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


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150,000 tokens with their merges, and weights that are larger than them."""
    tokens = [f"token{number:06d}" for number in range(150_000)]
    numbers: dict[str, list[str] | list[int]] = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * len(tokens),
        "tokenizer.ggml.merges": [f"{token[:5]} {token[5:]}" for token in tokens],
    }
    return write_model(tmp_path_factory.mktemp("wide"), {"output.weight": (10_000, 1024)}, {**numbers})


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


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_missing_file_and_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_gguf_map(tmp_path / name)


def read_so_far() -> int:
    """Bytes that this process has read by system calls (proc_pid_io(5), rchar)."""
    text = Path("/proc/self/io").read_text()
    return int(text.splitlines()[0].removeprefix("rchar: "))


def test_of_a_large_vocabulary_only_the_header_is_read(wide: Path) -> None:
    before = read_so_far()
    model = read_gguf_map(wide)
    read_bytes = read_so_far() - before
    assert model.vocabulary == 150_000
    assert model.data_offset > 5_000_000
    # Each byte of the header once, and what is left of the last piece.
    assert read_bytes < model.data_offset + 2 * READ_BYTES
    assert model.file_bytes > 5 * model.data_offset


def test_reading_brings_no_weights_into_memory(wide: Path) -> None:
    with wide.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size = wide.stat().st_size

        def cached() -> int:
            return int(resident_pages(file.fileno(), [0, size]).sum()) * PAGE_BYTES

        before = cached()
        model = read_gguf_map(wide)
        assert cached() - before <= model.data_offset + 2 * READ_BYTES


def test_numbers_of_the_array_at_its_limit_are_kept_and_longer_ones_are_not(tmp_path: Path) -> None:
    arrays = {"a.kept": list(range(1024)), "a.left": list(range(1025)), "a.long": list(range(200_000))}
    model = read_gguf_map(write_model(tmp_path, {"output.weight": (8, 32)}, arrays))
    assert model.metadata["a.kept"] == tuple(range(1024))
    assert not {"a.left", "a.long"} & set(model.metadata)


def test_texts_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    text = "\N{GREEK SMALL LETTER ALPHA}" * READ_BYTES
    words = ["w" * length for length in (0, 1, READ_BYTES - 9, READ_BYTES, 3 * READ_BYTES, 5)]
    path = write_model(tmp_path, {"output.weight": (8, 32)}, {"a.words": words, "a.text": text, "a.last": 7})
    model = read_gguf_map(path)
    assert (model.metadata["a.text"], model.metadata["a.last"]) == (text, 7)
    assert_same_as_gguf_reader(model)


def test_a_text_of_gigabytes_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**31))
    os.truncate(path, 2**32)  # sparse: takes no room
    with pytest.raises(ModelError, match="2147483648 bytes long; the file is damaged"):
        read_gguf_map(path)


def split(directory: Path, tensors: dict[str, tuple[int, ...]], parts: int) -> list[Path]:
    """A model in several files, as the gguf package writes it: no tensors in the first one."""
    writer = GGUFWriter(
        directory / "m.gguf", "llama", split_max_tensors=-(-len(tensors) // (parts - 1)), small_first_shard=True
    )
    writer.add_block_count(len(tensors))
    for name, shape in tensors.items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(directory.glob("*.gguf"))
    assert len(paths) == parts
    return paths


TENSORS = {f"blk.{layer}.ffn_up.weight": (8, 32 * (layer + 1)) for layer in range(5)}


@pytest.mark.parametrize("given", [0, 1, 3])
def test_all_parts_of_a_split_model_are_read(tmp_path: Path, given: int) -> None:
    paths = split(tmp_path, TENSORS, 4)
    model = read_gguf_map(paths[given])
    assert (model.path, model.parts) == (paths[0], tuple(paths))
    assert model.file_bytes == sum(path.stat().st_size for path in paths)
    assert (model.layers, len(model.tensors), model.weights_bytes) == (5, 5, 4 * 8 * 32 * 15)
    assert [path for path, _, _ in model.weights_ranges()] == paths[1:], "the first one has no tensors"
    assert sum(length for _, _, length in model.weights_ranges()) == model.weights_bytes
    for part, path in enumerate(paths):
        found = [(t.name, t.offset, t.bytes) for t in model.tensors if t.part == part]
        assert found == [(t.name, t.data_offset, t.n_bytes) for t in GGUFReader(path).tensors]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path, TENSORS, 4)
    paths[2].unlink()
    with pytest.raises(ModelError, match=r"m-00003-of-00004\.gguf cannot be read \(No such file"):
        read_gguf_map(paths[0])


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    paths = split(tmp_path, TENSORS, 4)
    with pytest.raises(ModelError, match=r"call them NAME-00001-of-00004\.gguf"):
        read_gguf_map(paths[1].rename(tmp_path / "model.gguf"))
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ModelError, match=r"m-00002-of-00004\.gguf is not part 2 of 4"):
        read_gguf_map(paths[0])


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    paths = split(tmp_path, TENSORS, 4)
    other = split(tmp_path / "other", dict(list(TENSORS.items())[:4]), 3)
    assert len(other) == 3
    # One tensor less than the first part counts.
    content = paths[3].read_bytes()
    paths[3].write_bytes(content.replace(struct.pack("<IQ", 3, 1), struct.pack("<IQ", 3, 0), 1))
    with pytest.raises(ModelError, match="have 4 tensors instead of 5"):
        read_gguf_map(paths[0])


def per_token(tmp_path: Path, tensors: dict[str, tuple[int, ...]], **numbers: int) -> dict[str, int]:
    metadata: dict[str, str | int | list[str] | list[int]] = {f"llama.{key}": value for key, value in numbers.items()}
    return dict(bytes_per_token_by_class(read_gguf_map(write_model(tmp_path, tensors, metadata))))


def test_bytes_of_a_token_by_class(tmp_path: Path) -> None:
    tensors = {
        "token_embd.weight": (100, 32),
        "position_embd.weight": (50, 32),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_gate_inp.weight": (8, 32),
        "blk.0.ffn_up_exps.weight": (8, 4, 32),
        "blk.0.ffn_up_chexps.weight": (2, 4, 32),
        "blk.0.ffn_up_exps.bias": (8, 4),
        "blk.0.ffn_up_shexp.weight": (4, 32),
        "output.weight": (100, 32),
    }
    numbers = {"block_count": 1, "expert_count": 8, "expert_used_count": 3}
    assert per_token(tmp_path, tensors, **numbers) == {
        "embedding": 2 * 128,
        "attention": 32 * 128,
        # 3 of 8 slices of 4 rows; of two chunks, never more than there are; 3 of 8 rows of 4 numbers.
        "experts": 3 * 4 * 128 + 2 * 4 * 128 + 3 * 16,
        "shared_experts": 4 * 128,
        "router": 8 * 128,
        "norm": 128,
        "output": 100 * 128,
    }


def test_a_token_touches_some_of_the_experts_that_are_tensors_of_their_own(tmp_path: Path) -> None:
    tensors = {f"blk.0.ffn_up.{expert}.weight": (4, 32) for expert in range(8)}
    found = per_token(tmp_path, tensors, block_count=1, expert_count=8, expert_used_count=2)
    assert found == {"experts": 2 * 4 * 128}


def test_a_token_touches_no_layer_that_predicts_later_ones(tmp_path: Path) -> None:
    tensors = {f"blk.{layer}.attn_q.weight": (4, 32) for layer in range(3)}
    tensors |= {"blk.2.nextn.eh_proj.weight": (4, 32), "blk.2.nextn.embed_tokens.weight": (9, 32)}
    found = per_token(tmp_path, tensors, block_count=3, nextn_predict_layers=1)
    assert found == {"embedding": 0, "attention": 2 * 4 * 128, "other": 0}


def test_shared_experts_are_counted(tmp_path: Path) -> None:
    tensors = {
        "blk.1.ffn_up_exps.weight": (4, 2, 32),
        "blk.1.ffn_up_shexp.weight": (2, 32),
        "blk.0.ffn_up.weight": (2, 32),
    }
    model = read_gguf_map(write_model(tmp_path, tensors, {"llama.expert_count": 4}))
    assert (model.shared_experts, model.expert_layers) == (1, 1)
    model = read_gguf_map(write_model(tmp_path, tensors, {"llama.expert_shared_count": 2}))
    assert model.shared_experts == 2


def test_types_are_what_is_really_there(moe: Path) -> None:
    model = read_gguf_map(moe)
    assert list(model.bytes_by_type()) == ["Q8_0", "F32"]
    assert sum(model.bytes_by_type().values()) == model.weights_bytes
    assert model.parameters == sum(int(tensor.n_elements) for tensor in GGUFReader(moe).tensors)


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


# What converters write that is no damage


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor_entry(name: bytes, shape: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def write_header(path: Path, pairs: list[bytes], tensors: list[bytes], data_bytes: int = 256) -> Path:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors)
    path.write_bytes(head + bytes(-len(head) % 32 + data_bytes))
    return path


ARCHITECTURE = pair(b"general.architecture", 8, text(b"llama"))


@pytest.mark.parametrize("place", [0, 128, 256])
@pytest.mark.parametrize("shape", [(0,), (0, 5), (8, 0), (2, 2, 0)])
def test_a_tensor_of_no_bytes_is_a_marker(tmp_path: Path, shape: tuple[int, ...], place: int) -> None:
    tensors = [tensor_entry(b"output.weight", (32, 2), 0), tensor_entry(b"blk.0.ffn_up_exps.marker", shape, place)]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors))
    assert [(tensor.shape, tensor.bytes) for tensor in model.tensors] == [((32, 2), 256), (shape, 0)]
    assert (model.weights_bytes, bytes_per_token(model), model.expert_layers) == (256, 256, 0)
    assert model.weights_ranges() == ((model.path, model.data_offset, 256),)
    with TensorResidency(model) as residency:
        assert residency.table()["tensor"].to_pylist() == ["output.weight"]
        assert residency.before_bytes == PAGE_BYTES  # just written
    assert {(one.name, one.bytes, one.experts) for one in traced_tensors(model)} == {
        ("output.weight", 256, 0),
        ("blk.0.ffn_up_exps.marker", 0, 0),
    }


def test_a_marker_may_stand_behind_a_padding_that_was_left_out(tmp_path: Path) -> None:
    tensors = [tensor_entry(b"output.weight", (9,), 0), tensor_entry(b"marker", (0,), 64)]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors, data_bytes=36))
    assert model.weights_bytes == 36
    tensors[1] = tensor_entry(b"marker", (0,), 2**63)
    with pytest.raises(ModelError, match="tensor 'marker' should end at byte"):
        read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors))


def test_a_single_number_is_a_tensor_and_markers_alone_are_no_model(tmp_path: Path) -> None:
    tensors = [tensor_entry(b"output.scale", (), 0), tensor_entry(b"token_embd.weight", (0,), 32)]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors))
    assert [(tensor.shape, tensor.bytes) for tensor in model.tensors] == [((), 4), ((0,), 0)]
    assert bytes_per_token(model) == 4
    with pytest.raises(ModelError, match="no tensors"):
        read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors[1:]))


@pytest.mark.parametrize("key", [b"tokenizer.huggingface.json", b"tokenizer.chat_template", b"general.name"])
def test_a_long_text_is_stepped_over(tmp_path: Path, key: bytes) -> None:
    length = 17 * 2**20
    behind = [pair(b"llama.block_count", 4, struct.pack("<I", 7)), ARCHITECTURE]
    tensors = [tensor_entry(b"output.weight", (8,), 0)]
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:  # sparse
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + text(key) + struct.pack("<IQ", 8, length))
        file.seek(length, os.SEEK_CUR)
        file.write(b"".join(behind + tensors))
        file.write(bytes(-file.tell() % 32 + 256))
    before = read_so_far()
    model = read_gguf_map(path)
    assert read_so_far() - before < 2**20
    assert (model.layers, model.architecture, model.name) == (7, "llama", "m")
    assert model.has_chat_template == (key == b"tokenizer.chat_template")
    assert key.decode() not in model.metadata


def test_many_long_texts_do_not_fill_memory(tmp_path: Path) -> None:
    pairs = [pair(b"key%d" % number, 8, text(bytes(2**20))) for number in range(40)]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE, *pairs], [tensor_entry(b"a", (8,), 0)]))
    assert 20 < len(model.metadata) < 40


@pytest.mark.parametrize(
    ("pairs", "tensors", "message"),
    [
        ([ARCHITECTURE, ARCHITECTURE], [], "metadata 'general.architecture' stands twice"),
        ([], [tensor_entry(b"a", (8,), 0)] * 2, "two tensors have the same name"),
        ([], [tensor_entry(b"n" * 1025, (8,), 0)], "a name in the header is 1025 bytes long"),
        ([], [tensor_entry(b"a", (9,), 0), tensor_entry(b"b", (8,), 32)], "tensors 'a' and 'b' overlap"),
        ([pair(b"k" * 60_000, 99, b"")], [], "has the unknown type 99"),
        ([], [tensor_entry(b"blk.0.ffn_up_exps.weight", (1, 65_536), 0, 24)], "says it has 65536 experts"),
    ],
)
def test_a_message_is_short_whatever_the_header_says(
    tmp_path: Path, pairs: list[bytes], tensors: list[bytes], message: str
) -> None:
    path = write_header(tmp_path / "m.gguf", pairs, tensors, 70_000)
    with pytest.raises(ModelError, match=message) as caught:
        read_gguf_map(path)
    assert len(str(caught.value)) < 600


def test_a_header_that_is_full_of_nothing_ends_soon(tmp_path: Path) -> None:
    """Sparse files of a terabyte, in which any number of empty texts, keys or tensors would fit."""
    path = tmp_path / "m.gguf"
    array = pair(b"tokens", 9, struct.pack("<IQ", 8, 2**36))
    for start, message in [
        (struct.pack("<IQQ", 3, 0, 2**30), "keys, and no model has"),
        (struct.pack("<IQQ", 3, 2**30, 0), "tensors, and no model has"),
        (struct.pack("<IQQ", 3, 0, 2**14), "'' stands twice"),
        (struct.pack("<IQQ", 3, 2**16, 0), "two tensors have the same name"),
        (struct.pack("<IQQ", 3, 0, 1) + array, "texts, and no vocabulary has"),
    ]:
        path.write_bytes(b"GGUF" + start)
        os.truncate(path, 2**40)
        with pytest.raises(ModelError, match=message):
            read_gguf_map(path)


def test_names_of_layers_and_experts_that_no_model_has(tmp_path: Path) -> None:
    names = [b"blk.1048577.attn_q.weight", b"blk." + b"9" * 1000 + b".attn_q.weight", b"blk.65535.attn_q.weight"]
    tensors = [tensor_entry(name, (8,), 32 * place) for place, name in enumerate(names)]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", [ARCHITECTURE], tensors))
    assert [tensor.layer for tensor in model.tensors] == [None, None, 65_535]


@pytest.mark.parametrize("name", ["n" * 1_000_000, "\x1b]52;c;bWU=\x07", "a\nb"])
def test_the_name_of_a_model_is_short_and_printable(tmp_path: Path, name: str) -> None:
    pairs = [ARCHITECTURE, pair(b"general.name", 8, text(name.encode()))]
    model = read_gguf_map(write_header(tmp_path / "m.gguf", pairs, [tensor_entry(b"a", (8,), 0)]))
    assert len(model.name) < 210
    assert model.name.isprintable()
