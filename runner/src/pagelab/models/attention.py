"""What kind of attention a model has, as far as its metadata and the names of its tensors tell.

The rules are llama.cpp's (load_hparams in src/llama-model.cpp): a model without `head_count_kv` has as many key and
value heads as heads; where there is one number for each layer, 0 marks a layer without attention.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pagelab.models.gguf_header import MetadataValue, integer, integers
from pagelab.models.tensors import Tensor

# `latent` is multi-head latent attention (MLA); `none` is a model all of whose layers are recurrent.
AttentionKind = Literal["multi-head", "grouped-query", "multi-query", "latent", "none", "unknown"]

_LATENT = re.compile(r"\battn_kv_a_mqa\.")
_ATTENTION = re.compile(r"\battn_(q|k|q_b|kv_a_mqa)\.")
_JOINT_ATTENTION = re.compile(r"\battn_qkv\.")  # the linear attention of recurrent layers has one too


@dataclass(frozen=True)
class Attention:
    """Kind of attention, and in how many layers.

    A model with both `layers` and `recurrent_layers` is a hybrid. `heads`, `kv_heads`, `latent_rank` and
    `sliding_window_tokens` are 0 where the model has none; of a number that differs between layers, the largest.
    `sliding_layers` is None where the file does not say which layers look through the window.
    """

    kind: AttentionKind
    heads: int
    kv_heads: int
    layers: int
    recurrent_layers: int
    latent_rank: int
    sliding_window_tokens: int
    sliding_layers: int | None

    @property
    def hybrid(self) -> bool:
        """True where some layers, or parts of layers, are recurrent and others have attention."""
        return self.layers > 0 and self.recurrent_layers > 0


def attention_of(metadata: Mapping[str, MetadataValue], architecture: str, tensors: Iterable[Tensor]) -> Attention:
    """The attention of a model with this metadata and these tensors."""
    kv_heads = integers(metadata, f"{architecture}.attention.head_count_kv")
    attending, recurrent, latent = _layers(tensors, kv_heads if len(kv_heads) > 1 else ())
    heads = integers(metadata, f"{architecture}.attention.head_count")
    pairs = [(_of_layer(heads, layer), _of_layer(kv_heads or heads, layer)) for layer in attending]
    rank = integer(metadata, f"{architecture}.attention.kv_lora_rank")
    window = integer(metadata, f"{architecture}.attention.sliding_window")
    return Attention(
        kind=_kind(pairs, recurrent, latent=latent or rank > 0),
        heads=max((pair[0] for pair in pairs), default=0),
        kv_heads=max((pair[1] for pair in pairs), default=0),
        layers=len(attending),
        recurrent_layers=len(recurrent),
        latent_rank=rank,
        sliding_window_tokens=window,
        sliding_layers=_sliding_layers(metadata, architecture, attending) if window else 0,
    )


def in_words(attention: Attention) -> str:
    """The attention in one line."""
    words = _kind_in_words(attention)
    if attention.sliding_window_tokens:
        where = "" if attention.sliding_layers is None else f" in {attention.sliding_layers} layers"
        words += f", sliding window of {attention.sliding_window_tokens} tokens{where}"
    if attention.hybrid:
        words += f"; hybrid: attention in {attention.layers} layers, recurrent in {attention.recurrent_layers}"
    return words


def _kind_in_words(attention: Attention) -> str:
    heads, kv_heads = attention.heads, attention.kv_heads
    match attention.kind:
        case "multi-head":
            return f"multi-head, {heads} heads"
        case "grouped-query":
            return f"grouped-query, {heads} heads share {kv_heads} of keys and values"
        case "multi-query":
            return f"multi-query, {heads} heads share one of keys and values"
        case "latent":
            return f"latent (MLA), {heads} heads, keys and values of rank {attention.latent_rank}"
        case "none":
            return f"none, recurrent in {attention.recurrent_layers} layers"
        case "unknown":
            return "unknown, the file does not tell"


def _layers(tensors: Iterable[Tensor], kv_heads: tuple[int, ...]) -> tuple[list[int], list[int], bool]:
    """The layers with attention, the recurrent ones, and whether some attention is latent."""
    names: dict[int, list[str]] = defaultdict(list)
    recurrent: set[int] = set()
    for tensor in tensors:
        # The encoder of a model that has one too numbers its layers from 0 again, and generates no token.
        if tensor.layer is not None and not tensor.name.startswith("enc."):
            names[tensor.layer].append(tensor.name)
            if tensor.tensor_class == "recurrent":
                recurrent.add(tensor.layer)
    attending = [layer for layer in sorted(names) if _attends(names[layer], layer, kv_heads, layer in recurrent)]
    latent = any(_LATENT.search(name) for layer in attending for name in names[layer])
    return attending, sorted(recurrent), latent


def _attends(names: list[str], layer: int, kv_heads: tuple[int, ...], recurrent: bool) -> bool:
    """Whether a layer has attention, by its number of key and value heads if there is one, else by its tensors."""
    if layer < len(kv_heads):
        return kv_heads[layer] > 0
    joint = not recurrent and any(_JOINT_ATTENTION.search(name) for name in names)
    return joint or any(_ATTENTION.search(name) for name in names)


def _of_layer(values: tuple[int, ...], layer: int) -> int:
    """The value of a layer, where there may be one for all, or none."""
    if not values:
        return 0
    return values[layer] if layer < len(values) else values[-1]


def _kind(pairs: list[tuple[int, int]], recurrent: list[int], *, latent: bool) -> AttentionKind:
    """The kind that most layers have, by their heads and their key and value heads."""
    if not pairs:
        return "none" if recurrent else "unknown"
    if latent:
        return "latent"
    kinds = Counter(_kind_of_layer(heads, kv_heads) for heads, kv_heads in pairs)
    return kinds.most_common(1)[0][0]


def _kind_of_layer(heads: int, kv_heads: int) -> AttentionKind:
    if not heads or not kv_heads:
        return "unknown"
    if heads == kv_heads:
        return "multi-head"
    return "multi-query" if kv_heads == 1 else "grouped-query"


def _sliding_layers(metadata: Mapping[str, MetadataValue], architecture: str, attending: list[int]) -> int | None:
    """How many layers look through the window, where the file has a mark for each (1: the layer does)."""
    marks = integers(metadata, f"{architecture}.attention.sliding_window_pattern")
    if len(marks) < 2:
        return None
    return sum(bool(marks[layer]) for layer in attending if layer < len(marks))
