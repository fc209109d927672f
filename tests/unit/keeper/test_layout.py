"""What every token touches, and that what is held lies evenly among it."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.config.model_specs import SyntheticSpec
from pagelab.keeper.chunks import CHUNK_BYTES
from pagelab.keeper.layout import chunks_of_every_token, in_holding_order
from pagelab.models.gguf_map import GgufMap, read_gguf_map, tensors_of_every_token
from pagelab.models.synthetic import write_synthetic

DENSE = SyntheticSpec(architecture="llama", layers=3, width=512, feed_forward=2048, vocabulary=8192)
EXPERTS = SyntheticSpec(
    architecture="moe", layers=2, width=2048, feed_forward=1024, experts=8, experts_used=2, vocabulary=512
)


def written(spec: SyntheticSpec, path: Path) -> GgufMap:
    write_synthetic(spec, path)
    return read_gguf_map(path)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> GgufMap:
    return written(DENSE, tmp_path_factory.mktemp("dense") / "m.gguf")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> GgufMap:
    return written(EXPERTS, tmp_path_factory.mktemp("experts") / "m.gguf")


def overlap(model: GgufMap, chunk: int, names: set[str]) -> int:
    """Bytes of a chunk that lie in tensors, for a model of one file."""
    first, end = chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES
    spans = [(t.offset, t.offset + t.bytes) for t in model.tensors if t.name in names]
    return sum(max(0, min(end, high) - max(first, low)) for low, high in spans)


def test_an_embedding_that_is_only_looked_up_is_not_held(dense: GgufMap) -> None:
    used = {tensor.name for tensor in tensors_of_every_token(dense)}
    assert "token_embd.weight" not in used
    assert {"output.weight", "blk.0.ffn_down.weight", "output_norm.weight"} <= used


def test_experts_are_not_held_and_the_router_is(experts: GgufMap) -> None:
    used = {tensor.name for tensor in tensors_of_every_token(experts)}
    assert not [name for name in used if "_exps" in name]
    assert {"blk.1.ffn_gate_inp.weight", "blk.1.attn_q.weight"} <= used


@pytest.mark.parametrize("name", ["dense", "experts"])
def test_half_of_each_chunk_is_touched_by_every_token(name: str, request: pytest.FixtureRequest) -> None:
    model: GgufMap = request.getfixturevalue(name)
    used = {tensor.name for tensor in tensors_of_every_token(model)}
    size = model.path.stat().st_size
    every = range(-(-size // CHUNK_BYTES))
    expected = [
        chunk for chunk in every if 2 * overlap(model, chunk, used) >= min(CHUNK_BYTES, size - chunk * CHUNK_BYTES)
    ]
    assert chunks_of_every_token(model) == expected
    assert 0 < len(expected) < len(every)


@given(count=st.integers(3, 2000), share=st.floats(0.01, 1))
def test_any_first_ones_lie_evenly_among_all(count: int, share: float) -> None:
    order = in_holding_order(range(count))
    assert sorted(order) == list(range(count))
    first = sorted(order[: max(2, round(share * count))])
    widest = max(after - before for before, after in pairwise(first))
    assert widest <= 3 * count / len(first) + 1
