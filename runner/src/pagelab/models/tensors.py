"""One tensor of a model: where it lies, what it is for, and where each of its experts lies.

Names are llama.cpp's, as in `gguf.constants.TENSOR_NAMES`.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

TensorClass = Literal[
    "embedding",
    "attention",
    "recurrent",
    "feed_forward",
    "experts",
    "shared_experts",
    "router",
    "norm",
    "output",
    "other",
]
TENSOR_CLASSES: tuple[TensorClass, ...] = get_args(TensorClass)

# The first pattern that matches decides.
_CLASS_PATTERNS: tuple[tuple[TensorClass, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|\btime_mix_ln\b")),
    ("router", re.compile(r"\bffn_gate_inp|\bexp_probs_b\b")),
    ("shared_experts", re.compile(r"_shexp\b")),
    ("experts", re.compile(r"_(ch)?exps\b|\bffn_(gate|up|down)\.\d+\.")),
    ("feed_forward", re.compile(r"\bffn(_|\b)|\bchannel_mix_|\bvis_(gate|up|down)\b")),
    ("attention", re.compile(r"(\b|_)attn_|\bindexer\.")),
    ("recurrent", re.compile(r"\bssm_|\btime_mix_|\bshortconv\.")),
    ("embedding", re.compile(r"(^|_)(token_embd|position_embd|token_types)\b|\.embed_tokens\b")),
    ("output", re.compile(r"^(output|cls)\.|\.shared_head_head\b")),
)
LARGEST_NUMBER = 0xFFFF
"""Layers, experts and parts of a model are counted from 0 to this; the GGUF format counts parts in 16 bits."""

_LAYER = re.compile(r"^(?:enc\.|dec\.)?blk\.([0-9]{1,9})\.")
# Experts are one tensor with their number as the last dimension or, in older files, a tensor each.
_STACKED_EXPERTS = re.compile(r"_(ch)?exps\b")
_SINGLE_EXPERT = re.compile(r"\bffn_(?:gate|up|down)\.([0-9]{1,9})\.")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file.

    `shape` is in the file's order, fastest dimension first: `shape[0]` is the length of a row, and a tensor of experts
    has their number last (see `expert_ranges`). `offset` counts bytes from the start of the file; `bytes` is the size
    without the padding that follows, and 0 for a mere marker of shape [0]. `layer` is None outside the repeated blocks.
    `part` says which file of a split model holds the tensor, from 0.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    layer: int | None
    tensor_class: TensorClass
    part: int = 0


@dataclass(frozen=True, slots=True)
class ExpertRange:
    """Where the weights of one expert lie: `bytes` bytes from `offset`, counted from the start of the file."""

    expert: int
    offset: int
    bytes: int


def classify(name: str) -> TensorClass:
    """The class of a tensor, by its name; `other` for what none of the classes describes."""
    return next((kind for kind, pattern in _CLASS_PATTERNS if pattern.search(name)), "other")


def layer_of(name: str) -> int | None:
    """The number of the repeated block that a tensor belongs to, by its name."""
    match = _LAYER.match(name)
    return int(match[1]) if match and int(match[1]) <= LARGEST_NUMBER else None


def expert_count(tensor: Tensor) -> int:
    """How many experts a tensor holds; 0 for one that is not of class `experts`, or has no bytes."""
    if tensor.tensor_class != "experts" or not tensor.bytes:
        return 0
    return tensor.shape[-1] if tensor.shape and _STACKED_EXPERTS.search(tensor.name) else 1


def expert_ranges(tensor: Tensor) -> tuple[ExpertRange, ...]:
    """Where each expert of a tensor lies, in ascending order; empty for a tensor that is not of class `experts`.

    The experts of a stacked tensor (`ffn_up_exps`) are equal, contiguous slices without gaps; the name of a tensor that
    holds a single expert (`ffn_up.3`) has its number.
    """
    count = expert_count(tensor)
    if count == 0:
        return ()
    single = _SINGLE_EXPERT.search(tensor.name)
    first = min(int(single[1]), LARGEST_NUMBER) if single else 0
    size = tensor.bytes // count
    return tuple(ExpertRange(first + index, tensor.offset + index * size, size) for index in range(count))
