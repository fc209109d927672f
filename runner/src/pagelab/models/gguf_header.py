"""The header of one GGUF file: magic, version, metadata and the table of tensors.

Only the header is read, in pieces of READ_BYTES, and never by mapping the file: no page of the weights enters the
page cache for it, and what is read grows with the header alone. Long arrays such as the vocabulary are stepped over,
and long texts too. What a header may make its reader do is bounded, whatever it says.
The format is that of ggml's docs/gguf.md.
"""

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path

from pagelab.errors import ModelError, shown
from pagelab.models.gguf_format import DEFAULT_ALIGNMENT, MAGIC, SUPPORTED_VERSIONS, TENSOR_TYPES, ValueType
from pagelab.models.model_file import another_thing, opened, size_of
from pagelab.models.tensors import LARGEST_NUMBER, Tensor, classify, expert_count, layer_of
from pagelab.units import KIB, MIB

Scalar = int | float | bool | str
MetadataValue = Scalar | tuple[Scalar, ...]

READ_BYTES = 128 * KIB

_MAX_DIMENSIONS = 4
# Arrays with one number a layer are kept; vocabularies, scores and merges are longer and are stepped over.
_KEPT_ARRAY_LENGTH = 1024
# The longest texts of interest are chat templates, of some ten KiB. Others are whole files (a tokenizer's JSON).
_KEPT_TEXT_BYTES = MIB
_MAX_KEY_BYTES = 0xFFFF  # docs/gguf.md
_MAX_NAME_BYTES = 1024  # llama.cpp takes 63
# Models have up to some ten thousand tensors, some hundred keys, vocabularies of less than a million; these are read
# within a second.
_MAX_TENSORS, _MAX_KEYS, _MAX_TEXTS = 1 << 16, 1 << 14, 1 << 23
_MAX_KEPT_BYTES = 32 * MIB
_LEAST_TENSOR_BYTES, _LEAST_KEY_BYTES, _LEAST_TEXT_BYTES = 24, 13, 8

# A letter of struct for each type of value; texts and arrays have none.
_SCALARS = {
    kind: struct.Struct(f"<{letter}") for kind, letter in zip(ValueType, "BbHhIif?--Qqd", strict=True) if letter != "-"
}
_UINT32 = _SCALARS[ValueType.UINT32]
_UINT64 = _SCALARS[ValueType.UINT64]


@dataclass(frozen=True)
class Header:
    """What the header of one file says.

    `metadata` has every scalar, all but very long texts, and the short numeric arrays, `array_lengths` the length of
    every array, and `long_texts` the bytes of each text that was stepped over, by key.
    """

    path: Path
    file_bytes: int
    data_offset: int
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, MetadataValue]
    array_lengths: Mapping[str, int]
    long_texts: Mapping[str, int]


def read_header(path: Path, part: int = 0) -> Header:
    """Read the header of a GGUF file; its tensors are said to be of `part` of a model.

    Raises:
        ModelError: the file is missing, is no regular one, is not GGUF, is of a version that is not supported, or is
            truncated or damaged.
    """
    try:
        with opened(path) as descriptor:
            size = size_of(descriptor)
            if size == 0:
                raise ModelError(f"{shown(path)} is empty: fetch or generate the model again")
            # Without readahead: what follows the header are weights, which nobody asked for.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            return _read(path, _Cursor(descriptor, size), part)
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read ({error.strerror}): give the path of a GGUF file") from error
    except _HeaderError as error:
        raise ModelError(f"{shown(path)}: {another_thing(path) or error}") from error


def integer(metadata: Mapping[str, MetadataValue], key: str) -> int:
    """A whole number of the metadata, 0 where there is none or a negative one; of one for each layer, the largest."""
    return max((0, *integers(metadata, key)))


def integers(metadata: Mapping[str, MetadataValue], key: str) -> tuple[int, ...]:
    """The whole numbers of the metadata under a key, one where it is no array; empty where there are none."""
    value = metadata.get(key, ())
    return tuple(entry for entry in (value if isinstance(value, tuple) else (value,)) if isinstance(entry, int))


class _HeaderError(Exception):
    """What is wrong with the header, to be reported with the file's name."""


class _Cursor:
    """Reads the header's values one after the other, and never past the end of the file."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self.offset = 0
        self.window = b""
        self.window_offset = 0
        self.kept = 0
        self.texts = 0

    def _fill(self, count: int) -> int:
        """Make sure that the next `count` bytes are in the window; returns where in it they start."""
        if count > self.size - self.offset:
            raise self.truncated()
        start = self.offset - self.window_offset
        if start >= 0 and start + count <= len(self.window):
            return start
        self.window_offset, self.window = self.offset, b""
        while len(self.window) < count:
            piece = os.pread(self.descriptor, max(count, READ_BYTES), self.offset + len(self.window))
            if not piece:  # the file was cut meanwhile
                raise self.truncated()
            self.window += piece
        return 0

    def skip(self, count: int) -> None:
        """Step over `count` bytes without reading them."""
        if count > self.size - self.offset:
            raise self.truncated()
        self.offset += count

    def truncated(self) -> _HeaderError:
        return _HeaderError(
            f"the file ends at byte {self.size}, within its own header; it is truncated or damaged: "
            "fetch or generate the model again, or join its pieces where it was cut into some"
        )

    def number(self, layout: struct.Struct) -> Scalar:
        start = self._fill(layout.size)
        value: Scalar = layout.unpack_from(self.window, start)[0]
        self.offset += layout.size
        return value

    def count(self, layout: struct.Struct = _UINT64) -> int:
        return int(self.number(layout))

    def count_of(self, what: str, least_bytes: int, most: int) -> int:
        """How many of something follow, each of which takes some bytes at least."""
        count = self.count()
        if count * least_bytes > self.size - self.offset:
            raise self.truncated()
        if count > most:
            raise _HeaderError(f"the header says it has {count} {what}, and no model has; the file is damaged")
        return count

    def short_text(self, longest: int) -> str:
        """A key or a name."""
        length = self.count()
        if longest < length <= self.size - self.offset:
            raise _HeaderError(f"a name in the header is {length} bytes long; the file is damaged: fetch it again")
        return self._text(length)

    def text(self) -> str | int:
        """A text, or how many bytes one has that is not kept."""
        length = self.count()
        if length <= _KEPT_TEXT_BYTES and self.kept + length <= _MAX_KEPT_BYTES:
            return self._text(length)
        self.skip(length)
        return length

    def _text(self, length: int) -> str:
        start = self._fill(length)
        self.offset += length
        self.keep(length)
        return self.window[start : start + length].decode("utf-8", errors="replace")

    def keep(self, length: int) -> None:
        self.kept += length
        if self.kept > _MAX_KEPT_BYTES:
            raise _HeaderError(f"the header holds more than {_MAX_KEPT_BYTES // MIB} MiB of names; the file is damaged")

    def skip_texts(self, count: int) -> None:
        self.texts += count
        if self.texts > _MAX_TEXTS:
            raise _HeaderError(f"the header holds {self.texts} texts, and no vocabulary has; the file is damaged")
        # The hot loop of the whole module: a vocabulary with its merges is half a million texts.
        done = 0
        unpack_from = _UINT64.unpack_from
        while done < count:
            start = self._fill(8)
            window, at, end = self.window, start, len(self.window) - 8
            while at <= end and done < count:
                at += 8 + unpack_from(window, at)[0]
                done += 1
            self.skip(at - start)


def _read(path: Path, cursor: _Cursor, part: int) -> Header:
    tensor_count, metadata_count = _read_start(cursor)
    metadata, array_lengths, long_texts = _read_metadata(cursor, metadata_count)
    entries = [_read_tensor(cursor, part) for _ in range(tensor_count)]
    alignment = _alignment(metadata)
    data_offset = -(-cursor.offset // alignment) * alignment
    tensors = tuple(entry(data_offset) for entry in entries)
    _check_names(tensors)
    _check_ends(tensors, cursor.size, alignment)
    return Header(path, cursor.size, data_offset, tensors, metadata, array_lengths, long_texts)


def _read_start(cursor: _Cursor) -> tuple[int, int]:
    if cursor.size < 4 or cursor.count(_UINT32) != MAGIC:
        raise _HeaderError("this is not a GGUF file (it does not begin with GGUF): give a model in GGUF format")
    version = cursor.count(_UINT32)
    if version & 0xFFFF == 0:
        raise _HeaderError("the file is big-endian, which llama.cpp cannot map here: convert the model again")
    if version not in SUPPORTED_VERSIONS:
        supported = " and ".join(str(known) for known in SUPPORTED_VERSIONS)
        raise _HeaderError(f"GGUF version {version} is not supported (only {supported}): convert the model again")
    tensors = cursor.count_of("tensors", _LEAST_TENSOR_BYTES, _MAX_TENSORS)
    return tensors, cursor.count_of("keys", _LEAST_KEY_BYTES, _MAX_KEYS)


def _read_metadata(cursor: _Cursor, count: int) -> tuple[dict[str, MetadataValue], dict[str, int], dict[str, int]]:
    """The scalars and short numeric arrays, the length of every array, and the bytes of long texts, by key."""
    metadata: dict[str, MetadataValue] = {}
    array_lengths: dict[str, int] = {}
    long_texts: dict[str, int] = {}
    for _ in range(count):
        key = cursor.short_text(_MAX_KEY_BYTES)
        if key in metadata or key in array_lengths or key in long_texts:  # llama.cpp refuses it too
            raise _HeaderError(f"metadata '{shown(key)}' stands twice; the file is damaged: fetch or generate it again")
        kind = _value_type(cursor, key)
        if kind is ValueType.STRING:
            text = cursor.text()
            if isinstance(text, str):
                metadata[key] = text
            else:
                long_texts[key] = text
        elif kind is ValueType.ARRAY:
            array_lengths[key], values = _read_array(cursor, key)
            if values is not None:
                metadata[key] = values
        else:
            metadata[key] = cursor.number(_SCALARS[kind])
    return metadata, array_lengths, long_texts


def _value_type(cursor: _Cursor, key: str) -> ValueType:
    code = cursor.count(_UINT32)
    try:
        return ValueType(code)
    except ValueError:
        raise _HeaderError(
            f"metadata '{shown(key)}' has the unknown type {code}; the file is damaged: fetch or generate it again"
        ) from None


def _read_array(cursor: _Cursor, key: str) -> tuple[int, tuple[Scalar, ...] | None]:
    kind = _value_type(cursor, key)
    length = cursor.count()
    if kind is ValueType.STRING:
        if length * _LEAST_TEXT_BYTES > cursor.size - cursor.offset:
            raise cursor.truncated()
        cursor.skip_texts(length)
        return length, None
    if kind is ValueType.ARRAY:
        raise _HeaderError(
            f"metadata '{shown(key)}' is an array of arrays, which GGUF files of models never hold: convert again"
        )
    layout = _SCALARS[kind]
    if length <= _KEPT_ARRAY_LENGTH:
        cursor.keep(length * layout.size)
        return length, tuple(cursor.number(layout) for _ in range(length))
    cursor.skip(length * layout.size)
    return length, None


def _read_tensor(cursor: _Cursor, part: int) -> Callable[[int], Tensor]:
    """Read one entry of the tensor table; its place in the file is known once the whole table has been read."""
    name = cursor.short_text(_MAX_NAME_BYTES)
    dimensions = cursor.count(_UINT32)
    if dimensions > _MAX_DIMENSIONS:
        raise _HeaderError(
            f"tensor '{shown(name)}' has {dimensions} dimensions; the file is damaged: fetch or generate it again"
        )
    shape = tuple(cursor.count() for _ in range(dimensions))
    code = cursor.count(_UINT32)
    relative_offset = cursor.count()
    kind = TENSOR_TYPES.get(code)
    if kind is None:
        raise _HeaderError(
            f"tensor '{shown(name)}' has type {code}, which this version of pagelab does not know: "
            "update it or convert again"
        )
    # A shape of [0] is a marker of some converters, which has no bytes; one of [] is a single number.
    if (shape[0] if shape else 1) % kind.block:
        raise _HeaderError(
            f"tensor '{shown(name)}' of shape {shape} is not whole blocks of {kind.name}; the file is damaged: "
            "fetch it again"
        )

    def place(data_offset: int) -> Tensor:
        return Tensor(
            name=name,
            type=kind.name,
            shape=shape,
            offset=data_offset + relative_offset,
            bytes=prod(shape) // kind.block * kind.block_bytes,
            layer=layer_of(name),
            tensor_class=classify(name),
            part=part,
        )

    return place


def _check_names(tensors: tuple[Tensor, ...]) -> None:
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise _HeaderError("two tensors have the same name; the file is damaged: fetch or generate it again")
    crowded = next((tensor for tensor in tensors if expert_count(tensor) > LARGEST_NUMBER), None)
    if crowded is not None:
        raise _HeaderError(
            f"tensor '{shown(crowded.name)}' says it has {expert_count(crowded)} experts; the file is damaged: "
            "fetch or generate it again"
        )


def _check_ends(tensors: tuple[Tensor, ...], file_bytes: int, alignment: int) -> None:
    """Refuse tensors that overlap, and a file that ends before one does; a marker may be behind a padding left out."""
    held = sorted((tensor for tensor in tensors if tensor.bytes), key=lambda tensor: tensor.offset)
    for one, following in pairwise(held):
        if one.offset + one.bytes > following.offset:
            raise _HeaderError(
                f"tensors '{shown(one.name)}' and '{shown(following.name)}' overlap; the file is damaged: "
                "fetch or generate the model again"
            )
    for tensor in tensors:
        end = tensor.offset + tensor.bytes
        if end > file_bytes + (0 if tensor.bytes else alignment):
            raise _HeaderError(
                f"tensor '{shown(tensor.name)}' should end at byte {end} but the file ends at byte {file_bytes}; it is "
                "truncated: fetch or generate the model again, or join its pieces where it was cut into some"
            )


def _alignment(metadata: Mapping[str, MetadataValue]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        said = shown(alignment)
        raise _HeaderError(f"the alignment {said} is not a power of two; the file is damaged: fetch it again")
    return alignment
