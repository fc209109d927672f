"""The shape of a model that is generated: written out, or chosen for a size of the file."""

import itertools
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from pagelab.config.synthetic_size import SizedKind, chosen_shape
from pagelab.config.values import ByteCount, Number, Whole
from pagelab.units import format_bytes

WeightType = Literal[
    "F32", "F16", "BF16",
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
    "TQ1_0", "TQ2_0",
]  # fmt: skip
# Weights in a block, and bytes of a block (ggml-common.h).
WEIGHT_BLOCKS: dict[WeightType, tuple[int, int]] = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2),
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "MXFP4": (32, 17),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
    "IQ1_S": (256, 50), "IQ1_M": (256, 56), "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74), "IQ2_S": (256, 82),
    "IQ3_XXS": (256, 98), "IQ3_S": (256, 110), "IQ4_NL": (32, 18), "IQ4_XS": (256, 136),
    "TQ1_0": (256, 54), "TQ2_0": (256, 66),
}  # fmt: skip

RouterPreset = Literal["olmoe", "deepseek-v4-flash"]
ROUTER_PRESETS: dict[RouterPreset, tuple[tuple[Fraction, Fraction], ...]] = {
    "olmoe": ((Fraction(1, 2), Fraction(765, 1000)),),
    "deepseek-v4-flash": (
        (Fraction(1, 16), Fraction(46, 100)),
        (Fraction(1, 8), Fraction(59, 100)),
        (Fraction(1, 4), Fraction(71, 100)),
    ),
}
"""What was published of routers: such a share of the experts of a layer takes such a share of its routes.

OLMoE's top half takes 75 to 78 %; 6, 12 and 25 % of the experts of DeepSeek-V4-Flash take 46, 59 and 71 %.
"""

Count = Annotated[Whole, Field(ge=1, le=2**24)]
_Skew = Annotated[Number, Field(ge=0, le=10)]
_MAX_EXPERTS = 512  # llama.cpp's LLAMA_MAX_EXPERTS
_MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
_MAX_VOCABULARY = 1_000_000
# The sampler keeps the best 40 tokens: with this many printable ones, a token of logit 0 is never among them.
_MIN_VOCABULARY = 512
# What a size chooses, so that it is not given beside one.
_CHOSEN_BY_SIZE = ("layers", "width", "feed_forward", "heads", "kv_heads")


def preset_shares(preset: RouterPreset, experts: int) -> tuple[Fraction, ...]:
    """The share of a layer's routes that each expert takes, the busiest one first; together they are 1.

    Between two points that were published all experts are alike: it is the most even distribution that has them.
    """
    points = [(Fraction(0), Fraction(0)), *ROUTER_PRESETS[preset], (Fraction(1), Fraction(1))]

    def taken(part: Fraction) -> Fraction:
        (x0, y0), (x1, y1) = next(pair for pair in itertools.pairwise(points) if part <= pair[1][0])
        return y0 + (part - x0) / (x1 - x0) * (y1 - y0)

    sums = [taken(Fraction(rank, experts)) for rank in range(experts + 1)]
    return tuple(after - before for before, after in itertools.pairwise(sums))


class _Synthetic(BaseModel):
    """What a shape that is written out and one that is chosen have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["llama", "moe"]
    experts: Whole = Field(
        default_factory=lambda shape: 8 * (shape.get("architecture") == "moe"), ge=0, le=_MAX_EXPERTS
    )
    experts_used: Whole = Field(default_factory=lambda shape: 2 * (shape.get("architecture") == "moe"), ge=0)
    vocabulary: Whole = Field(default=2048, ge=_MIN_VOCABULARY, le=_MAX_VOCABULARY)
    context: Count = 4096
    type: WeightType = Field(default="Q4_0", description="type of the weights, those of llama.cpp's CPU backend")
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    router_skew: _Skew | RouterPreset | None = Field(
        default=None,
        description="moe: 0 or even uses all experts alike, a higher number more the same few; olmoe and "
        "deepseek-v4-flash give each expert the share of the routes that was published; unset: random weights",
    )

    @field_validator("router_skew", mode="before", json_schema_input_type=_Skew | Literal["even"] | RouterPreset | None)
    @classmethod
    def _even_is_no_skew(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in ("even", *ROUTER_PRESETS):
            raise ValueError(f"is a number from 0 to 10, or one of even, {', '.join(ROUTER_PRESETS)}")
        return 0.0 if given == "even" else given

    @model_serializer(mode="wrap")
    def _leave_out_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Specs that were written before there was a skew keep their digests.
        return {key: value for key, value in dump(self).items() if value is not None}

    @model_validator(mode="after")
    def _check_experts(self) -> Self:
        if self.architecture == "llama" and (self.experts or self.experts_used):
            raise ValueError("a llama model is dense; for experts write architecture: moe")
        if self.architecture == "moe" and not 1 <= self.experts_used <= self.experts:
            raise ValueError(f"experts_used {self.experts_used} is not between 1 and experts ({self.experts})")
        return self

    @model_validator(mode="after")
    def _check_skew(self) -> Self:
        if self.router_skew is not None and self.architecture == "llama":
            raise ValueError("a llama model is dense and has no router; for router_skew write architecture: moe")
        # A token uses an expert once, so that none takes more routes than there are tokens.
        if isinstance(self.router_skew, str):
            busiest = preset_shares(self.router_skew, self.experts)[0]
            if busiest * self.experts_used >= 1:
                raise ValueError(
                    f"with {self.experts_used} of {self.experts} experts for a token, none can take the "
                    f"{float(busiest):.0%} of the routes that {self.router_skew} gives to one; raise experts"
                )
        return self

    @property
    def least_width(self) -> int:
        """The width that the router needs: an expert has a dimension of noise in the first half (models.routing)."""
        return 1 if self.router_skew is None else 2 * (self.experts + 1)


class SyntheticSpec(_Synthetic):
    """The shape of a synthetic model.

    `llama` is dense; `moe` is the same with a router and experts in place of each feed-forward network (as Mixtral).
    `width` is the length of the hidden state and `feed_forward` that of the inner layer, of one expert for `moe`.
    Heads are 64 wide and four share one key and value head, unless set. `context` is only what the file declares.

    `router_skew` says how a token's experts are drawn: without replacement, the expert of rank r of a layer with a
    weight of r ** -router_skew (see pagelab.models.routing). 0 draws all alike; at 1 the first of 32 is among the 4 of
    71 % of the tokens, at 2 of 99 %. By the name of a model (see ROUTER_PRESETS) experts get the shares of the routes
    that were published of that one. The embedding is then F16, whatever the `type`. Without it the router's weights are
    random: that is nearly even too, but of no known distribution.
    """

    layers: Whole = Field(ge=1, le=_MAX_LAYERS)
    width: Count
    feed_forward: Count
    heads: Count = Field(default_factory=lambda shape: max(1, shape.get("width", 64) // 64))
    kv_heads: Count = Field(default_factory=lambda shape: _quarter(shape.get("heads", 1)))

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        block, _ = WEIGHT_BLOCKS[self.type]
        for name, size in (("width", self.width), ("feed_forward", self.feed_forward)):
            if size % block:
                raise ValueError(f"{name} {size} is not a multiple of {block}, the block of {self.type}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads of an even width; set heads")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.width < self.least_width:
            raise ValueError(
                f"width {self.width} has no room to route to {self.experts} experts; with router_skew it is at least "
                f"{self.least_width}"
            )
        return self


class SizedSpec(_Synthetic):
    """The size of a synthetic model's file, for which layers, width and feed_forward are chosen.

    The file is within 2 % of `size`; the resolved configuration has the shape that was chosen, and is the same
    experiment as one that says this shape. How it is chosen: pagelab.config.synthetic_size.
    """

    size: ByteCount = Field(description="of the file, such as 8GiB; in place of layers, width and feed_forward")


def _quarter(count: int) -> int:
    return count // 4 if count % 4 == 0 else count


def shaped(given: Any) -> Any:
    """What a configuration says of a shape, with the shape that was chosen in place of a size.

    Raises:
        ValueError: the size stands beside a shape, or no shape has it.
    """
    if not isinstance(given, dict) or "size" not in given:
        return given
    doubled = [key for key in _CHOSEN_BY_SIZE if key in given]
    if doubled:
        raise ValueError(f"size chooses {doubled[0]}; leave out one of the two")
    spec = SizedSpec.model_validate(given)
    kind = SizedKind(
        weights=WEIGHT_BLOCKS[spec.type],
        embedding=WEIGHT_BLOCKS[spec.type if spec.router_skew is None else "F16"],
        experts=spec.experts,
        experts_used=spec.experts_used,
        vocabulary=spec.vocabulary,
        least_width=spec.least_width,
        most_layers=_MAX_LAYERS,
    )
    shape = chosen_shape(kind, spec.size)
    if shape is None:
        raise ValueError(
            f"no {spec.architecture} model of {spec.type} comes within 2 % of {format_bytes(spec.size)}; choose a "
            "larger size, or give layers, width and feed_forward"
        )
    return {**spec.model_dump(exclude={"size"}), **shape._asdict()}
