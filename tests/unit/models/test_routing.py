"""The router of a synthetic mixture of experts draws experts with the probabilities that it says."""

import itertools
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from pydantic import ValidationError

from pagelab.config.synthetic_spec import RouterPreset, SyntheticSpec, preset_shares
from pagelab.models.routing import log_weights
from pagelab.models.synthetic import write_synthetic

EXPERTS, USED, LAYERS, VOCABULARY = 32, 2, 4, 2048
SHAPE: dict[str, Any] = {
    "architecture": "moe",
    "layers": LAYERS,
    "width": 320,
    "feed_forward": 32,
    "experts": EXPERTS,
    "experts_used": USED,
    "vocabulary": VOCABULARY,
    "seed": 1,
}


def tensors_of(path: Path) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}


def choices(directory: Path, skew: float, **changes: Any) -> NDArray[np.int64]:
    """The experts of every token in every layer, best first, of shape (layers, tokens, experts used).

    What llama.cpp computes, but for the scale of the norm, which all logits of a token share: nothing that a layer adds
    reaches the dimensions that the router reads (`test_nothing_is_added_to_what_the_router_reads`).
    """
    spec = SyntheticSpec.model_validate({**SHAPE, "router_skew": skew, **changes})
    path = directory / "m.gguf"
    write_synthetic(spec, path)
    tensors = tensors_of(path)
    embedding = tensors["token_embd.weight"]
    logits = [embedding @ tensors[f"blk.{layer}.ffn_gate_inp.weight"].T for layer in range(spec.layers)]
    return np.argsort(-np.stack(logits), axis=2, kind="stable")[:, :, : spec.experts_used]


def uses(chosen: NDArray[np.int64], experts: int = EXPERTS) -> NDArray[np.float64]:
    """Share of the tokens that use each expert of a layer, the most used one first, of shape (layers, experts)."""
    counts = np.stack([np.bincount(layer.ravel(), minlength=experts) for layer in chosen])
    return -np.sort(-counts / chosen.shape[1], axis=1)


def expected_uses(skew: float, experts: int = EXPERTS) -> NDArray[np.float64]:
    """The same for a draw of two without replacement: chosen first, or second after each of the others."""
    weight = np.arange(1, experts + 1) ** -skew
    first = weight / weight.sum()
    odds = first / (1 - first)
    shares: NDArray[np.float64] = first + first * (odds.sum() - odds)
    return shares


def test_no_skew_uses_all_experts_alike(tmp_path: Path) -> None:
    share = USED / EXPERTS
    counts = uses(choices(tmp_path, 0.0)) * VOCABULARY
    variance = VOCABULARY * share * (1 - share) * EXPERTS / (EXPERTS - 1)  # of a draw without replacement
    spread = ((counts - VOCABULARY * share) ** 2).sum(axis=1) / variance
    # Chi-square with 31 degrees of freedom: below 12.2 once in 1000, and above 61.1 as often.
    assert (spread > 12.2).all()
    assert (spread < 61.1).all()


@pytest.mark.parametrize("skew", [0.5, 1.0, 2.0, 3.0])
def test_the_shares_are_those_of_the_distribution(tmp_path: Path, skew: float) -> None:
    expected = expected_uses(skew)
    assert expected.sum() == pytest.approx(USED)
    found = uses(choices(tmp_path, skew)).mean(axis=0)
    # Ranks are those of the counts here, so neighbours of nearly one share may change places.
    deviation = np.sqrt(expected * (1 - expected) / (VOCABULARY * LAYERS))
    assert (np.abs(found - expected) < 4 * deviation + 0.004).all()


def test_more_skew_uses_fewer_experts(tmp_path: Path) -> None:
    """Among the tokens of a text of a hundred words."""
    skews = (0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
    texts = [choices(tmp_path, skew)[:, -100:] for skew in skews]
    most_used = [float(uses(text)[:, 0].mean()) for text in texts]
    used_at_all = [float(np.count_nonzero(uses(text), axis=1).mean()) for text in texts]
    assert all(less < more for less, more in itertools.pairwise(most_used))
    assert all(more >= less for more, less in itertools.pairwise(used_at_all))
    assert used_at_all[0] == pytest.approx(EXPERTS, abs=1)
    assert used_at_all[-1] < USED + 2


@pytest.mark.parametrize(
    ("preset", "experts", "used", "published"),
    [
        ("olmoe", 64, 8, [(32, 0.75, 0.78)]),
        ("deepseek-v4-flash", 256, 6, [(16, 0.45, 0.47), (32, 0.58, 0.60), (64, 0.70, 0.72)]),
        ("deepseek-v4-flash", 128, 8, [(8, 0.45, 0.47), (16, 0.58, 0.60), (32, 0.70, 0.72)]),
    ],
)
def test_presets_route_as_was_published(
    tmp_path: Path, preset: str, experts: int, used: int, published: list[tuple[int, float, float]]
) -> None:
    """The first experts of a layer by their weight, which is known, take the published shares of the routes."""
    shape = {"layers": 1, "width": 576, "experts": experts, "experts_used": used, "vocabulary": 6000}
    write_synthetic(SyntheticSpec.model_validate({**SHAPE, **shape, "router_skew": preset}), tmp_path / "m.gguf")
    data = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    router = data["blk.0.ffn_gate_inp.weight"]
    logits = data["token_embd.weight"].astype(np.float32) @ router.T
    chosen = np.argpartition(-logits, used, axis=1)[:, :used]
    routes = np.bincount(chosen.ravel(), minlength=experts)[np.argsort(-router[:, 0], kind="stable")] / chosen.size
    for first, least, most in published:
        assert least <= routes[:first].sum() <= most


@pytest.mark.parametrize(("preset", "experts", "used"), [("olmoe", 64, 8), ("deepseek-v4-flash", 256, 6)])
def test_weights_of_a_preset_give_its_shares(preset: RouterPreset, experts: int, used: int) -> None:
    """By a draw of many tokens with a generator of its own."""
    noise = np.random.default_rng(1).gumbel(size=(20_000, experts))
    drawn = np.argpartition(-(log_weights(preset, experts, used) + noise), used, axis=1)[:, :used]
    routes = np.bincount(drawn.ravel(), minlength=experts) / drawn.size
    expected = np.array([float(share) for share in preset_shares(preset, experts)])
    assert np.cumsum(routes) == pytest.approx(np.cumsum(expected), abs=0.005)


def test_layers_differ(tmp_path: Path) -> None:
    chosen = choices(tmp_path, 2.0)
    favourites = [int(np.bincount(layer.ravel(), minlength=EXPERTS).argmax()) for layer in chosen]
    assert len(set(favourites)) == LAYERS


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_layers_draw_independently(tmp_path: Path, skew: float) -> None:
    """Whether a token gets the favourite of one layer says nothing about the next layer's."""
    chosen = choices(tmp_path, skew)
    favourite = [np.bincount(layer.ravel(), minlength=EXPERTS).argmax() for layer in chosen]
    gets = np.stack([(layer == expert).any(axis=1) for layer, expert in zip(chosen, favourite, strict=True)])
    correlation = np.corrcoef(gets)[np.triu_indices(LAYERS, 1)]
    assert (np.abs(correlation) < 4 / math.sqrt(VOCABULARY)).all()


def test_tokens_draw_independently(tmp_path: Path) -> None:
    """A token shares as many experts with the next one as two draws do by chance."""
    chosen = choices(tmp_path, 0.0)
    shared = (chosen[:, 1:, :, None] == chosen[:, :-1, None, :]).sum(axis=(2, 3))
    by_chance = USED * USED / EXPERTS
    assert shared.mean() == pytest.approx(by_chance, abs=4 * math.sqrt(by_chance / shared.size))


def test_few_dimensions_keep_the_distribution(tmp_path: Path) -> None:
    """Where layers have to share noise, each still draws as it should."""
    shape = {"width": 96, "layers": 6, "heads": 3, "kv_heads": 3}
    for layer in uses(choices(tmp_path, 1.0, **shape)):
        assert layer == pytest.approx(expected_uses(1.0), abs=0.04)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q8_0", "F16", "BF16", "Q4_1", "Q2_K", "IQ1_M", "TQ2_0", "MXFP4"])
def test_nothing_is_added_to_what_the_router_reads(tmp_path: Path, kind: str) -> None:
    shape = {**SHAPE, "type": kind, "width": 256, "feed_forward": 256, "layers": 2, "experts": 8, "router_skew": 1.0}
    write_synthetic(SyntheticSpec.model_validate(shape), tmp_path / "m.gguf")
    tensors = tensors_of(tmp_path / "m.gguf")
    for layer in range(2):
        read = np.flatnonzero(tensors[f"blk.{layer}.ffn_gate_inp.weight"].any(axis=0))
        for name in ("attn_output", "ffn_down_exps"):
            rows = tensors[f"blk.{layer}.{name}.weight"].reshape(-1, 256, 256)
            # Where there is no 0 for a scale, what is added is lost in the rounding of what is there.
            rows = np.where(np.abs(rows) < 1e-25, 0, rows)
            assert not rows[:, read].any()
            written = rows.any(axis=2)
            assert (written.sum(axis=1) == 256 - 1 - 2 * 8).all()
    assert (tensors["token_embd.weight"][:, 0] == 1).all()


def test_silent_weights_compress_no_better_than_others(tmp_path: Path) -> None:
    """Else a file system that compresses would read less of one model than of another."""
    sizes = []
    for skew in (None, 1.0):
        write_synthetic(SyntheticSpec.model_validate({**SHAPE, "router_skew": skew}), tmp_path / "m.gguf")
        data = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
        sizes.append(len(zlib.compress(data["blk.0.ffn_down_exps.weight"].tobytes())))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_noise_is_gumbels(tmp_path: Path) -> None:
    write_synthetic(SyntheticSpec.model_validate({**SHAPE, "router_skew": 0.0}), tmp_path / "m.gguf")
    noise = tensors_of(tmp_path / "m.gguf")["token_embd.weight"][:, 1 : 1 + LAYERS * EXPERTS].astype(float)
    euler = 0.5772156649015329
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        exact = -math.log(-math.log(share)) - euler
        density = share * -math.log(share)
        deviation = math.sqrt(share * (1 - share) / noise.size) / density
        assert np.quantile(noise, share) == pytest.approx(exact, abs=5 * deviation)


def test_log_weights_are_exact(tmp_path: Path) -> None:
    shape = {**SHAPE, "experts": 512, "width": 1056, "heads": 1, "kv_heads": 1, "layers": 1, "router_skew": 1.25}
    write_synthetic(SyntheticSpec.model_validate(shape), tmp_path / "m.gguf")
    weights = tensors_of(tmp_path / "m.gguf")["blk.0.ffn_gate_inp.weight"][:, 0]
    expected = [np.float32(-1.25 * math.log(rank)) for rank in range(1, 513)]
    assert np.sort(weights)[::-1] == pytest.approx(np.array(expected), rel=1e-7, abs=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "llama", "experts": 0, "experts_used": 0}, "a llama model is dense and has no router"),
        ({"experts": 200}, "width 320 has no room to route to 200 experts; with router_skew it is at least 402"),
        ({"router_skew": -1}, "greater than or equal to 0"),
        ({"router_skew": float("nan")}, "finite number"),
        ({"router_skew": 11}, "less than or equal to 10"),
    ],
)
def test_what_has_no_such_router_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SyntheticSpec.model_validate({**SHAPE, "router_skew": 1.0, **change})
    assert message in caught.value.errors()[0]["msg"]
