"""Where each weight lies in a GGUF file, from the file's header alone.

A GGUF file is a header (magic, version, metadata, tensor table) followed by the tensors' data. Everything here comes
from the header, and long arrays such as the vocabulary are stepped over, so a map takes milliseconds where
`gguf.GGUFReader` takes seconds. Names, types and sizes are those of the `gguf` package.
"""

import mmap
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal, get_args

from gguf.constants import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGUF_MAGIC,
    GGUF_VERSION,
    GGMLQuantizationType,
    GGUFValueType,
    LlamaFileType,
)

from pagelab.errors import ModelError

TensorClass = Literal["embedding", "attention", "feed_forward", "experts", "router", "norm", "output", "other"]
TENSOR_CLASSES: tuple[TensorClass, ...] = get_args(TensorClass)

Scalar = int | float | bool | str
MetadataValue = Scalar | tuple[Scalar, ...]

# Version 2 widened the lengths to 64 bits; version 1 is no longer read by llama.cpp either.
_SUPPORTED_VERSIONS = range(2, GGUF_VERSION + 1)
_MAX_DIMENSIONS = 4
# Arrays with one number a layer are kept; vocabularies, scores and merges are longer and are stepped over.
_KEPT_ARRAY_LENGTH = 1024

_SCALARS: dict[GGUFValueType, struct.Struct] = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<?"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}
_UINT32 = _SCALARS[GGUFValueType.UINT32]
_UINT64 = _SCALARS[GGUFValueType.UINT64]

# The first pattern that matches decides. Shared experts (`_shexp`) work on every token, so they are feed_forward.
_CLASS_PATTERNS: tuple[tuple[TensorClass, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm")),
    ("router", re.compile(r"ffn_gate_inp|exp_probs_b")),
    ("experts", re.compile(r"_exps\b|ffn_(gate|up|down)\.\d+\.")),
    ("feed_forward", re.compile(r"\bffn_")),
    ("attention", re.compile(r"\battn_")),
    ("embedding", re.compile(r"(^|_)(token_embd|position_embd|token_types)\b")),
    ("output", re.compile(r"^output\.")),
)
_LAYER = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file.

    `shape` is in the file's order, fastest dimension first: `shape[0]` is the length of a row, and a tensor of experts
    has their number last (expert i is then the i-th of equal, contiguous slices). `offset` counts bytes from the start
    of the file; `bytes` is the size without the padding that follows. `layer` is None outside the repeated blocks.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    layer: int | None
    tensor_class: TensorClass


@dataclass(frozen=True)
class GgufMap:
    """What a GGUF file says about its model, and where its tensors lie.

    `weights_bytes` is the sum of the tensors' bytes, without header and padding. `experts` and `experts_used` are 0 for
    a dense model. `quantisation` is the file type that the file declares (such as Q4_K_M), or the tensor type that
    holds most bytes where it declares none. `metadata` has every scalar of the header and the short numeric arrays.
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

    @property
    def tied_embeddings(self) -> bool:
        """True where the model has no output tensor of its own: its token embedding then serves as one."""
        return not any(tensor.name == "output.weight" for tensor in self.tensors)

    def bytes_by_class(self) -> dict[TensorClass, int]:
        """Bytes of the tensors of each class, for the classes that occur."""
        totals: dict[TensorClass, int] = defaultdict(int)
        for tensor in self.tensors:
            totals[tensor.tensor_class] += tensor.bytes
        return {name: totals[name] for name in TENSOR_CLASSES if name in totals}


def read_gguf_map(path: Path) -> GgufMap:
    """Read the header of a GGUF file.

    Raises:
        ModelError: the file is missing, is not GGUF, is of a version that is not supported, or is truncated or damaged.
    """
    try:
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            if path.stat().st_size == 0:
                raise ModelError(f"{path} is empty: fetch or generate the model again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _read_map(path, view)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): give the path of a GGUF file") from error
    except _HeaderError as error:
        raise ModelError(f"{path}: {error}") from error


def bytes_per_token(model: GgufMap) -> int:
    """Bytes of weights that generating one token must touch.

    With E the token embedding, X the tensors of experts and R all other tensors:

        R + X * experts_used / experts + (E if the embedding is tied, else one row of E)

    A tied embedding is the output matrix too, and is read whole. A dense model has no X. Other embeddings (positions,
    per-layer embeddings) are looked up by row.
    """
    total = 0.0
    for tensor in model.tensors:
        if tensor.tensor_class == "embedding":
            whole = tensor.name == "token_embd.weight" and model.tied_embeddings
            total += tensor.bytes if whole else tensor.bytes / prod(tensor.shape[1:])
        elif tensor.tensor_class == "experts" and model.experts:
            total += tensor.bytes * model.experts_used / model.experts
        else:
            total += tensor.bytes
    return round(total)


class _HeaderError(Exception):
    """What is wrong with the header, to be reported with the file's name."""


class _Cursor:
    """Reads the header's values one after the other, and never past the end of the file."""

    def __init__(self, view: mmap.mmap) -> None:
        self.view = view
        self.size = len(view)
        self.offset = 0

    def skip(self, count: int) -> int:
        """Step over `count` bytes; returns where they start."""
        start = self.offset
        if count > self.size - start:
            raise self.truncated()
        self.offset = start + count
        return start

    def truncated(self) -> _HeaderError:
        return _HeaderError(
            f"the file ends at byte {self.size}, within its own header; it is truncated or damaged: "
            "fetch or generate the model again"
        )

    def number(self, layout: struct.Struct) -> Scalar:
        value: Scalar = layout.unpack_from(self.view, self.skip(layout.size))[0]
        return value

    def count(self, layout: struct.Struct = _UINT64) -> int:
        return int(self.number(layout))

    def text(self) -> str:
        length = self.count()
        start = self.skip(length)
        return self.view[start : start + length].decode("utf-8", errors="replace")

    def skip_texts(self, count: int) -> None:
        # The hot loop of the whole module: a vocabulary with its merges is half a million strings.
        view, offset, unpack_from = self.view, self.offset, _UINT64.unpack_from
        try:
            for _ in range(count):
                offset += 8 + unpack_from(view, offset)[0]
        except (struct.error, OverflowError):
            raise self.truncated() from None
        self.skip(offset - self.offset)


def _read_map(path: Path, view: mmap.mmap) -> GgufMap:
    cursor = _Cursor(view)
    tensor_count, metadata_count = _read_start(cursor)
    metadata, array_lengths = _read_metadata(cursor, metadata_count)
    _refuse_split(metadata)
    entries = [_read_tensor(cursor) for _ in range(tensor_count)]
    alignment = _alignment(metadata)
    data_offset = -(-cursor.offset // alignment) * alignment
    tensors = tuple(entry(data_offset) for entry in entries)
    _check_tensors(tensors, len(view))
    architecture = str(metadata.get("general.architecture", "unknown"))
    return GgufMap(
        path=path,
        file_bytes=len(view),
        data_offset=data_offset,
        weights_bytes=sum(tensor.bytes for tensor in tensors),
        architecture=architecture,
        name=str(metadata.get("general.name", path.stem)),
        layers=_integer(metadata, f"{architecture}.block_count"),
        experts=_integer(metadata, f"{architecture}.expert_count"),
        experts_used=_integer(metadata, f"{architecture}.expert_used_count"),
        quantisation=_quantisation(metadata, tensors),
        vocabulary=array_lengths.get("tokenizer.ggml.tokens", 0),
        has_chat_template="tokenizer.chat_template" in metadata,
        tensors=tensors,
        metadata=metadata,
    )


def _read_start(cursor: _Cursor) -> tuple[int, int]:
    if cursor.size < 4 or cursor.count(_UINT32) != GGUF_MAGIC:
        raise _HeaderError("this is not a GGUF file (it does not begin with GGUF): give a model in GGUF format")
    version = cursor.count(_UINT32)
    if version & 0xFFFF == 0:
        raise _HeaderError("the file is big-endian, which llama.cpp cannot map here: convert the model again")
    if version not in _SUPPORTED_VERSIONS:
        supported = " and ".join(str(known) for known in _SUPPORTED_VERSIONS)
        raise _HeaderError(f"GGUF version {version} is not supported (only {supported}): convert the model again")
    return cursor.count(), cursor.count()


def _read_metadata(cursor: _Cursor, count: int) -> tuple[dict[str, MetadataValue], dict[str, int]]:
    """The scalars and short numeric arrays by key, and the length of every array by key."""
    metadata: dict[str, MetadataValue] = {}
    array_lengths: dict[str, int] = {}
    for _ in range(count):
        key = cursor.text()
        kind = _value_type(cursor, key)
        if kind is GGUFValueType.STRING:
            metadata[key] = cursor.text()
        elif kind is GGUFValueType.ARRAY:
            array_lengths[key], values = _read_array(cursor, key)
            if values is not None:
                metadata[key] = values
        else:
            metadata[key] = cursor.number(_SCALARS[kind])
    return metadata, array_lengths


def _value_type(cursor: _Cursor, key: str) -> GGUFValueType:
    code = cursor.count(_UINT32)
    try:
        return GGUFValueType(code)
    except ValueError:
        raise _HeaderError(
            f"metadata {key!r} has the unknown type {code}; the file is damaged: fetch or generate it again"
        ) from None


def _read_array(cursor: _Cursor, key: str) -> tuple[int, tuple[Scalar, ...] | None]:
    kind = _value_type(cursor, key)
    length = cursor.count()
    if kind is GGUFValueType.STRING:
        cursor.skip_texts(length)
        return length, None
    if kind is GGUFValueType.ARRAY:
        raise _HeaderError(
            f"metadata {key!r} is an array of arrays, which GGUF files of models never hold: convert again"
        )
    layout = _SCALARS[kind]
    if length <= _KEPT_ARRAY_LENGTH:
        return length, tuple(cursor.number(layout) for _ in range(length))
    cursor.skip(length * layout.size)
    return length, None


def _read_tensor(cursor: _Cursor) -> Callable[[int], Tensor]:
    """Read one entry of the tensor table; its place in the file is known once the whole table has been read."""
    name = cursor.text()
    dimensions = cursor.count(_UINT32)
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise _HeaderError(
            f"tensor {name!r} has {dimensions} dimensions; the file is damaged: fetch or generate it again"
        )
    shape = tuple(cursor.count() for _ in range(dimensions))
    code = cursor.count(_UINT32)
    relative_offset = cursor.count()
    try:
        kind = GGMLQuantizationType(code)
        block, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise _HeaderError(
            f"tensor {name!r} has type {code}, which this version of gguf does not know: update gguf or convert again"
        ) from None
    if shape[0] % block or not prod(shape):
        raise _HeaderError(
            f"tensor {name!r} of shape {shape} is not whole blocks of {kind.name}; the file is damaged: fetch it again"
        )
    layer = _LAYER.match(name)

    def place(data_offset: int) -> Tensor:
        return Tensor(
            name=name,
            type=kind.name,
            shape=shape,
            offset=data_offset + relative_offset,
            bytes=prod(shape) // block * block_bytes,
            layer=int(layer[1]) if layer else None,
            tensor_class=classify(name),
        )

    return place


def classify(name: str) -> TensorClass:
    """The class of a tensor, by llama.cpp's name for it."""
    return next((kind for kind, pattern in _CLASS_PATTERNS if pattern.search(name)), "other")


def _check_tensors(tensors: tuple[Tensor, ...], file_bytes: int) -> None:
    if not tensors:
        raise _HeaderError("the file has no tensors (a vocabulary only): give a whole model")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise _HeaderError("two tensors have the same name; the file is damaged: fetch or generate it again")
    last = max(tensors, key=lambda tensor: tensor.offset + tensor.bytes)
    end = last.offset + last.bytes
    if end > file_bytes:
        raise _HeaderError(
            f"tensor {last.name!r} should end at byte {end} but the file ends at byte {file_bytes}; it is truncated: "
            "fetch or generate the model again"
        )


def _refuse_split(metadata: Mapping[str, MetadataValue]) -> None:
    parts = _integer(metadata, "split.count")
    if parts > 1:
        raise _HeaderError(f"this is one of {parts} parts of a model: join them with llama-gguf-split --merge")


def _alignment(metadata: Mapping[str, MetadataValue]) -> int:
    alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _HeaderError(f"the alignment {alignment!r} is not a power of two; the file is damaged: fetch it again")
    return alignment


def _integer(metadata: Mapping[str, MetadataValue], key: str) -> int:
    """A whole number of the metadata, 0 where there is none; some architectures give one for each layer."""
    value = metadata.get(key, 0)
    if isinstance(value, tuple):
        value = max((entry for entry in value if isinstance(entry, int)), default=0)
    return value if isinstance(value, int) else 0


def _quantisation(metadata: Mapping[str, MetadataValue], tensors: tuple[Tensor, ...]) -> str:
    declared = metadata.get("general.file_type")
    if isinstance(declared, int) and declared in set(LlamaFileType) - {LlamaFileType.GUESSED}:
        return LlamaFileType(declared).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    totals: dict[str, int] = defaultdict(int)
    for tensor in tensors:
        totals[tensor.type] += tensor.bytes
    return max(totals, key=lambda kind: totals[kind])
