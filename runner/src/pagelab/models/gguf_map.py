"""Where each weight of a GGUF model lies, from the headers alone, and what the model is.

A map takes milliseconds where `gguf.GGUFReader` takes seconds, and leaves the weights out of the page cache.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeVar

from pagelab.config.split_files import part_names
from pagelab.errors import ModelError, shown
from pagelab.models.attention import Attention, attention_of
from pagelab.models.gguf_format import FILE_TYPES
from pagelab.models.gguf_header import Header, MetadataValue, integer, read_header
from pagelab.models.tensors import (
    LARGEST_NUMBER,
    TENSOR_CLASSES,
    ExpertRange,
    Tensor,
    TensorClass,
    classify,
    expert_count,
    expert_ranges,
)

__all__ = [
    "TENSOR_CLASSES",
    "ExpertRange",
    "GgufMap",
    "Tensor",
    "TensorClass",
    "bytes_per_token",
    "bytes_per_token_by_class",
    "classify",
    "expert_ranges",
    "read_gguf_map",
    "tensors_of_every_token",
]

_Key = TypeVar("_Key")

# An encoder works on the prompt, experts of vision on images, and predictors of later tokens are not used.
_IDLE = re.compile(r"^enc\.|\.vis_|\.nextn\.")


@dataclass(frozen=True)
class GgufMap:
    """What a GGUF model says about itself, and where its tensors lie.

    `path` is the file, of a split model the first one; `parts` has all of them, and `Tensor.part` is an index into it.
    `file_bytes` is the sum over the files, `data_offset` that of the first one. `weights_bytes` is the sum of the
    tensors' bytes, without header and padding. `experts`, `experts_used` and `shared_experts` are 0 for a dense model.
    `quantisation` is the file type that the file declares (such as Q4_K_M), or the tensor type that holds most bytes
    where it declares none; `bytes_by_type` says what is really there. `metadata` has every scalar of the header and the
    short numeric arrays.
    """

    path: Path
    file_bytes: int
    data_offset: int
    weights_bytes: int
    architecture: str
    name: str
    layers: int
    experts: int
    experts_used: int
    quantisation: str
    vocabulary: int
    has_chat_template: bool
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, MetadataValue] = field(repr=False)
    parts: tuple[Path, ...]
    attention: Attention

    @property
    def largest_part(self) -> Path:
        """The largest of its files."""
        return max(self.parts, key=lambda part: part.stat().st_size)

    @property
    def tied_embeddings(self) -> bool:
        """True where the model has no output tensor of its own: its token embedding then serves as one."""
        return not any(tensor.name == "output.weight" and tensor.bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def shared_experts(self) -> int:
        """Shared experts, which work on every token whatever the router chooses; 1 where the file does not count."""
        if not any(tensor.tensor_class == "shared_experts" and tensor.bytes for tensor in self.tensors):
            return 0
        return integer(self.metadata, f"{self.architecture}.expert_shared_count") or 1

    @property
    def expert_layers(self) -> int:
        """Layers that have experts; the others have a dense feed-forward network, or none."""
        return len({tensor.layer for tensor in self.tensors if tensor.tensor_class == "experts" and tensor.bytes})

    def weights_ranges(self) -> tuple[tuple[Path, int, int], ...]:
        """Where the weights lie: file, offset and length in bytes, for each file that has some."""
        ranges = []
        for part, path in enumerate(self.parts):
            tensors = [tensor for tensor in self.tensors if tensor.part == part and tensor.bytes]
            if tensors:
                first = min(tensor.offset for tensor in tensors)
                ranges.append((path, first, max(tensor.offset + tensor.bytes for tensor in tensors) - first))
        return tuple(ranges)

    def bytes_by_class(self) -> dict[TensorClass, int]:
        """Bytes of the tensors of each class, for the classes that occur."""
        return _in_order(_sums((tensor.tensor_class, tensor.bytes) for tensor in self.tensors))

    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of the tensors of each type (F32, Q4_K), the most first."""
        sums = _sums((tensor.type, tensor.bytes) for tensor in self.tensors)
        return dict(sorted(sums.items(), key=lambda pair: pair[1], reverse=True))


def read_gguf_map(path: Path) -> GgufMap:
    """Read the headers of a model: of a GGUF file, or of all parts of a split one, any of which may be given.

    Raises:
        ModelError: a file is missing, is no regular one, is not GGUF, is of a version that is not supported, is
            truncated or damaged; or a part belongs to another model.
    """
    header = read_header(path)
    count = _split_count(header)
    return _map(_read_parts(path, count) if count > 1 else [header])


def bytes_per_token(model: GgufMap) -> int:
    """Bytes of weights that generating one token must touch.

    With E the token embedding, X the tensors of experts and R all other tensors:

        R + X * experts_used / experts + (E if the embedding is tied, else one row of E)

    A tied embedding is the output matrix too, and is read whole. A dense model has no X. Shared experts are in R. Other
    embeddings (positions, per-layer embeddings) are looked up by row. What generating a token does not use at all is
    left out: an encoder, experts of vision, and the layers that predict later tokens.
    """
    return sum(bytes_per_token_by_class(model).values())


def bytes_per_token_by_class(model: GgufMap) -> dict[TensorClass, int]:
    """What `bytes_per_token` sums up, for each class of tensor that occurs."""
    used = _used_layers(model)
    return _in_order(_sums((tensor.tensor_class, _touched(tensor, model, used)) for tensor in model.tensors))


def tensors_of_every_token(model: GgufMap) -> list[Tensor]:
    """The tensors that generating any token touches as a whole: neither experts nor what is looked up by row."""
    used = _used_layers(model)
    return [one for one in model.tensors if one.bytes and _touched(one, model, used) == one.bytes]


def _used_layers(model: GgufMap) -> int:
    """Without those that predict later tokens: llama.cpp leaves them alone (src/llama-model.cpp, TENSOR_SKIP)."""
    return model.layers - integer(model.metadata, f"{model.architecture}.nextn_predict_layers")


def _touched(tensor: Tensor, model: GgufMap, used_layers: int) -> int:
    """Bytes of a tensor that one token touches; on average, where each expert is a tensor of its own."""
    if (
        not tensor.bytes
        or _IDLE.search(tensor.name)
        or (model.layers and tensor.layer is not None and tensor.layer >= used_layers)
    ):
        return 0
    if tensor.tensor_class == "embedding":
        whole = tensor.name == "token_embd.weight" and model.tied_embeddings
        return tensor.bytes if whole else tensor.bytes // prod(tensor.shape[1:])
    if tensor.tensor_class == "experts" and model.experts_used:
        held = expert_count(tensor)
        experts = held if held > 1 else max(model.experts, 1)  # the file may not say how many there are
        return tensor.bytes * min(model.experts_used, experts) // experts
    return tensor.bytes


def _sums(pairs: Iterable[tuple[_Key, int]]) -> dict[_Key, int]:
    """The sum of the numbers of each key."""
    totals: dict[_Key, int] = defaultdict(int)
    for key, count in pairs:
        totals[key] += count
    return totals


def _in_order(sums: Mapping[TensorClass, int]) -> dict[TensorClass, int]:
    return {kind: sums[kind] for kind in TENSOR_CLASSES if kind in sums}


def _map(headers: Sequence[Header]) -> GgufMap:
    """Put the parts of a model together; the first one has the metadata."""
    first = headers[0]
    metadata = first.metadata
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    _check_tensors(first.path, tensors)
    architecture = str(metadata.get("general.architecture", "unknown"))
    return GgufMap(
        path=first.path,
        file_bytes=sum(header.file_bytes for header in headers),
        data_offset=first.data_offset,
        weights_bytes=sum(tensor.bytes for tensor in tensors),
        architecture=shown(architecture),
        name=shown(metadata.get("general.name", first.path.stem)),
        layers=integer(metadata, f"{architecture}.block_count"),
        experts=integer(metadata, f"{architecture}.expert_count"),
        experts_used=integer(metadata, f"{architecture}.expert_used_count"),
        quantisation=_quantisation(metadata, tensors),
        vocabulary=first.array_lengths.get("tokenizer.ggml.tokens", 0),
        has_chat_template="tokenizer.chat_template" in {*metadata, *first.long_texts},
        tensors=tensors,
        metadata=metadata,
        parts=tuple(header.path for header in headers),
        attention=attention_of(metadata, architecture, [tensor for tensor in tensors if tensor.bytes]),
    )


def _check_tensors(path: Path, tensors: tuple[Tensor, ...]) -> None:
    if not any(tensor.bytes for tensor in tensors):
        raise ModelError(f"{shown(path)}: the file has no tensors (a vocabulary only): give a whole model")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise ModelError(
            f"{shown(path)}: two tensors have the same name; the file is damaged: fetch or generate it again"
        )


def _split_count(header: Header) -> int:
    return integer(header.metadata, "split.count")


def _read_parts(path: Path, count: int) -> list[Header]:
    """The headers of all parts of a split model."""
    names = part_names(path.name, count)
    if names is None or count > LARGEST_NUMBER:
        raise ModelError(
            f"{shown(path)} is one of {count} parts of a model, which are found by name: call them "
            f"NAME-00001-of-{count:05d}.gguf and so on, or join them with llama-gguf-split --merge"
        )
    headers = [read_header(path.with_name(name), part) for part, name in enumerate(names)]
    for part, header in enumerate(headers):
        if (_split_count(header), integer(header.metadata, "split.no")) != (count, part):
            raise ModelError(
                f"{shown(header.path)} is not part {part + 1} of {count}, as its name says: fetch it again"
            )
    expected = integer(headers[0].metadata, "split.tensors.count")
    found = sum(len(header.tensors) for header in headers)
    if found != expected:
        raise ModelError(
            f"the {count} parts of {shown(path)} have {found} tensors instead of {expected}; they are not of one "
            "model: fetch them again"
        )
    return headers


def _quantisation(metadata: Mapping[str, MetadataValue], tensors: tuple[Tensor, ...]) -> str:
    declared = metadata.get("general.file_type")
    if isinstance(declared, int) and declared in FILE_TYPES:
        return FILE_TYPES[declared]
    totals = _sums((tensor.type, tensor.bytes) for tensor in tensors)
    return max(totals, key=lambda kind: totals[kind])
