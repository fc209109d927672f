"""Shapes that are chosen for a size, and what the presets of routers say."""

from fractions import Fraction
from typing import Any, get_args

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from pydantic import TypeAdapter, ValidationError

from pagelab.config.model_specs import SyntheticSource
from pagelab.config.synthetic_spec import WEIGHT_BLOCKS, SyntheticSpec, WeightType, preset_shares
from pagelab.models.synthetic import estimate_bytes
from pagelab.units import GIB, MIB, parse_bytes


def sized(size: str | int, **others: Any) -> SyntheticSpec:
    shape = {"architecture": "llama", "size": size, **others}
    return SyntheticSource.model_validate({"synthetic": shape}).synthetic


def test_blocks_are_those_of_gguf() -> None:
    assert set(WEIGHT_BLOCKS) == set(get_args(WeightType))
    for name, block in WEIGHT_BLOCKS.items():
        assert block == GGML_QUANT_SIZES[GGMLQuantizationType[name]], name


@pytest.mark.parametrize("kind", get_args(WeightType))
@pytest.mark.parametrize("others", [{}, {"vocabulary": 20_000, "architecture": "moe"}], ids=["dense", "experts"])
def test_the_file_has_the_size(kind: str, others: dict[str, Any]) -> None:
    for size in (100_000_000, 1_234_567_890, 8 * GIB, 300_000_000_000):
        assert estimate_bytes(sized(size, type=kind, **others)) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("size", ["1.5 GB", "8 GiB", "100 GB"])
def test_a_mixture_of_many_experts_has_the_size(size: str) -> None:
    for experts, used in ((64, 8), (128, 8), (256, 6)):
        spec = sized(size, architecture="moe", experts=experts, experts_used=used, router_skew="olmoe")
        assert estimate_bytes(spec) == pytest.approx(parse_bytes(size), rel=0.02)


def test_shapes_look_like_published_ones() -> None:
    dense = sized("8GiB", type="Q4_0")
    assert (dense.layers, dense.width, dense.feed_forward, dense.heads, dense.kv_heads) == (45, 5120, 17920, 80, 20)
    mixture = sized("4 GB", architecture="moe", experts=64, experts_used=8, type="Q4_0", router_skew="olmoe")
    assert (mixture.layers, mixture.width, mixture.feed_forward) == (17, 2048, 1024)


def test_a_sized_model_is_the_one_of_its_shape() -> None:
    chosen = sized("300MiB", seed=4, context=512)
    written = SyntheticSource(synthetic=chosen).model_dump(mode="json")
    assert "size" not in written["synthetic"]
    assert SyntheticSource.model_validate(written).synthetic == chosen
    assert (chosen.seed, chosen.context) == (4, 512)


def test_the_size_is_in_the_schema() -> None:
    schema = TypeAdapter(SyntheticSource).json_schema()
    assert "size" in schema["$defs"]["SizedSpec"]["properties"]
    assert "layers" in schema["$defs"]["SyntheticSpec"]["properties"]
    assert "even" in str(schema["$defs"]["SizedSpec"]["properties"]["router_skew"])


@pytest.mark.parametrize(
    ("shape", "place", "message"),
    [
        ({"layers": 3}, (), "size chooses layers; leave out one of the two"),
        ({"kv_heads": 3}, (), "size chooses kv_heads"),
        ({"size": "1 MB"}, (), r"no llama model of Q4_0 comes within 2 % of 1 MB; choose a larger size"),
        ({"size": "much"}, ("size",), "'much' is not a size"),
        ({"type": "Q9"}, ("type",), "Input should be 'F32'"),
        ({"experts": 4}, (), "a llama model is dense"),
        ({"sise": 4}, ("sise",), "Extra inputs"),
    ],
)
def test_what_has_no_shape_is_refused(shape: dict[str, Any], place: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        sized(**{"size": "1GiB", **shape})
    assert caught.value.errors()[0]["loc"] == ("synthetic", *place)


def test_a_router_has_room_in_a_chosen_width() -> None:
    spec = sized(GIB, architecture="moe", experts=256, experts_used=6, router_skew="deepseek-v4-flash", type="IQ2_XXS")
    assert spec.width >= 2 * 257


@pytest.mark.parametrize("experts", [16, 64, 128, 256, 512])
def test_presets_are_what_was_published(experts: int) -> None:
    olmoe = preset_shares("olmoe", experts)
    assert 0.75 <= sum(olmoe[: experts // 2]) <= 0.78
    flash = preset_shares("deepseek-v4-flash", experts)
    for part, share in ((16, 0.46), (8, 0.59), (4, 0.71)):
        assert float(sum(flash[: experts // part])) == pytest.approx(share, abs=1e-9)
    for shares in (olmoe, flash):
        assert sum(shares) == Fraction(1)
        assert list(shares) == sorted(shares, reverse=True)


def test_a_preset_lies_between_its_points_for_any_number_of_experts() -> None:
    assert [float(share) for share in preset_shares("olmoe", 3)] == pytest.approx(
        [0.51, 0.765 - 0.51 + 0.0783333, 0.1566667]
    )


def test_even_is_no_skew() -> None:
    assert sized(100 * MIB, architecture="moe", router_skew="even") == sized(
        100 * MIB, architecture="moe", router_skew=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router_skew": "olmo"}, "is a number from 0 to 10, or one of even, olmoe, deepseek-v4-flash"),
        ({"router_skew": "olmoe", "architecture": "llama"}, "a llama model is dense and has no router"),
        (
            {"router_skew": "deepseek-v4-flash", "experts": 16, "experts_used": 4},
            "with 4 of 16 experts for a token, none can take the 46% of the routes that deepseek-v4-flash gives to one",
        ),
    ],
)
def test_a_preset_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sized(100 * MIB, **{"architecture": "moe", **change})
