"""Model files of any shape, made from a seed: llama.cpp loads and runs them, and their text is nonsense.

The weights are random and incompressible, as real ones nearly are, and are scaled so that activations keep their size
from layer to layer. One seed gives one file, byte for byte, on any machine: the bytes come from the raw stream of a bit
generator, which numpy keeps stable, and never from its distributions, which it does not. Every token that such a
model can generate prints at least one character.
"""

import hashlib
import json
import math
import os
import shutil
import string
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    GGUF_DEFAULT_ALIGNMENT,
    GGMLQuantizationType,
    LlamaFileType,
    TokenType,
)

from pagelab.config.synthetic_spec import SyntheticSpec, WeightType
from pagelab.errors import ModelError
from pagelab.models.encodings import ENCODINGS, ByteArray
from pagelab.models.routing import Routing, log_weights
from pagelab.units import MIB, format_bytes

# Changes whenever the same spec gives other bytes than before, so that files made earlier are not taken for new ones.
_GENERATOR_VERSION = 1
_CHUNK_BYTES = 2 * MIB
_SYNC_BYTES = 64 * MIB

# What a file says to be quantised as: that which has no tensors of other types mixed in, where there are several.
_FILE_TYPES: dict[WeightType, str] = {
    "F32": "ALL_F32",
    "Q3_K": "MOSTLY_Q3_K_S",
    "Q4_K": "MOSTLY_Q4_K_S",
    "Q5_K": "MOSTLY_Q5_K_S",
    "MXFP4": "MOSTLY_MXFP4_MOE",
}

# Tokens that are in every vocabulary: unknown, start, end, and one for each byte. They are read, and never generated.
_SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
_UNPRINTED_TOKENS = len(_SPECIAL_TOKENS) + 256
_WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # how this kind of vocabulary writes a space
_SYLLABLES = tuple(consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou")
# How far apart the logits are: enough to make a choice, little enough that the text does not repeat itself.
_LOGIT_SPREAD = 2.0


def digest(spec: SyntheticSpec) -> str:
    """Hexadecimal hash of what decides the file's bytes: the shape, and the version of the generator."""
    document = {"generator": _GENERATOR_VERSION, **spec.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _routing(spec: SyntheticSpec) -> Routing | None:
    if spec.router_skew is None:
        return None
    return Routing(spec.layers, spec.width, log_weights(spec.router_skew, spec.experts, spec.experts_used))


def estimate_bytes(spec: SyntheticSpec) -> int:
    """Size of the file that `write_synthetic` would make, within a few KiB (the header is not counted to the byte)."""
    tensors = _tensors(spec)
    return (
        sum(_padded(tensor.bytes) for tensor in tensors) + _vocabulary_bytes(spec.vocabulary) + len(tensors) * 72 + 1024
    )


def _vocabulary_bytes(size: int) -> int:
    """What the tokens of a vocabulary, with their lengths, scores and types, take in the header."""
    others = _vocabulary(0)[0]
    text, words, syllables = sum(len(token.encode()) for token in others), size - len(others), 1
    while words > 0:
        alike = min(words, len(_SYLLABLES) ** syllables)
        text += alike * len((_WORD_START + syllables * _SYLLABLES[0]).encode())
        words, syllables = words - alike, syllables + 1
    return text + size * (8 + 4 + 4)


def write_synthetic(spec: SyntheticSpec, path: Path) -> str:
    """Write the model of `spec` to `path`, in chunks of a few MiB; returns the file's sha256.

    The file appears under its name only when it is whole and on disk. It does not stay in the page cache.

    Raises:
        ModelError: the file cannot be written, for one because the disk has too little room.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_room(path, estimate_bytes(spec))
        tensors = _tensors(spec)
        _write_header(spec, tensors, part)
        with part.open("r+b", buffering=0) as file, ThreadPoolExecutor(max_workers=2) as others:
            output = _Output(file, others)
            _write_tensors(spec.seed, tensors, output)
            sha256 = output.finish()
        part.replace(path)
        _sync_directory(path.parent)
        return sha256
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written ({error.strerror}): choose a directory that can be written and has room for "
            f"{format_bytes(estimate_bytes(spec))}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Tensor:
    """A tensor to write: `shape` slowest dimension first, as numpy and GGUFWriter have it.

    `gain` is the factor by which the matrix changes the size of what it is multiplied with; None writes ones. The first
    `zero_rows` rows are 0. So are the first `quiet_rows` rows of each matrix, but their bytes are as incompressible as
    those of the others where the type has a scale. `data` makes the bytes of a tensor that is none of this.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    gain: float | None
    zero_rows: int = 0
    quiet_rows: int = 0
    data: Callable[[np.random.PCG64], Iterator[ByteArray]] | None = None

    @property
    def row_bytes(self) -> int:
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return self.shape[-1] // block * block_bytes

    @property
    def bytes(self) -> int:
        return math.prod(self.shape[:-1]) * self.row_bytes


def _tensors(spec: SyntheticSpec) -> tuple[_Tensor, ...]:
    weights = GGMLQuantizationType[spec.type]
    tensors = [_embedding(spec, weights)]
    for layer in range(spec.layers):
        tensors += _layer_tensors(spec, layer, weights)
    tensors.append(_norm("output_norm.weight", spec.width))
    output = (spec.vocabulary, spec.width)
    tensors.append(_Tensor("output.weight", output, weights, _LOGIT_SPREAD, zero_rows=_UNPRINTED_TOKENS))
    return tuple(tensors)


def _embedding(spec: SyntheticSpec, weights: GGMLQuantizationType) -> _Tensor:
    name, shape, routing = "token_embd.weight", (spec.vocabulary, spec.width), _routing(spec)
    if routing is not None:
        data = partial(_routed_embedding, routing, spec.vocabulary)
        return _Tensor(name, shape, GGMLQuantizationType.F16, None, data=data)
    # Rows of the embedding are not multiplied with anything: the square root undoes the scaling for a sum over a row.
    return _Tensor(name, shape, weights, math.sqrt(spec.width))


def _layer_tensors(spec: SyntheticSpec, layer: int, weights: GGMLQuantizationType) -> Iterator[_Tensor]:
    prefix, routing = f"blk.{layer}.", _routing(spec)
    quiet = routing.dimensions if routing else 0
    width, kv_width = spec.width, spec.width // spec.heads * spec.kv_heads
    # What each layer adds to the hidden state shrinks with their number, so that the sum stays of one size.
    residual = 1 / math.sqrt(2 * spec.layers)
    yield _norm(f"{prefix}attn_norm.weight", width)
    yield _Tensor(f"{prefix}attn_q.weight", (width, width), weights, 1.0)
    yield _Tensor(f"{prefix}attn_k.weight", (kv_width, width), weights, 1.0)
    yield _Tensor(f"{prefix}attn_v.weight", (kv_width, width), weights, 1.0)
    yield _Tensor(f"{prefix}attn_output.weight", (width, width), weights, residual, quiet_rows=quiet)
    yield _norm(f"{prefix}ffn_norm.weight", width)
    suffix = "_exps" if spec.architecture == "moe" else ""
    experts = (spec.experts,) if spec.architecture == "moe" else ()
    if spec.architecture == "moe":
        data = partial(_routed, routing, layer) if routing else None
        yield _Tensor(f"{prefix}ffn_gate_inp.weight", (spec.experts, width), GGMLQuantizationType.F32, 1.0, data=data)
    yield _Tensor(f"{prefix}ffn_gate{suffix}.weight", (*experts, spec.feed_forward, width), weights, 1.0)
    yield _Tensor(f"{prefix}ffn_up{suffix}.weight", (*experts, spec.feed_forward, width), weights, 1.0)
    down = (*experts, width, spec.feed_forward)
    yield _Tensor(f"{prefix}ffn_down{suffix}.weight", down, weights, residual, quiet_rows=quiet)


def _norm(name: str, width: int) -> _Tensor:
    return _Tensor(name, (width,), GGMLQuantizationType.F32, None)


def _vocabulary(size: int) -> tuple[list[str], list[int]]:
    """Tokens and their types, of the kind that llama.cpp calls SPM: special tokens, bytes, then printable pieces."""
    tokens = [*_SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), _WORD_START]
    tokens += string.ascii_letters + string.digits + string.punctuation
    tokens += [_word(index) for index in range(size - len(tokens))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    types += [TokenType.NORMAL] * (size - len(types))
    return tokens, [int(kind) for kind in types]


def _word(index: int) -> str:
    """The words of one syllable, then those of two, and so on."""
    word = ""
    index += 1
    while index:
        index, syllable = divmod(index - 1, len(_SYLLABLES))
        word += _SYLLABLES[syllable]
    return _WORD_START + word


def _write_header(spec: SyntheticSpec, tensors: tuple[_Tensor, ...], path: Path) -> None:
    writer = GGUFWriter(path, "llama")
    skew = f"{spec.router_skew:g}" if isinstance(spec.router_skew, float) else spec.router_skew
    router = "" if skew is None else f" skew {skew}"
    writer.add_name(f"pagelab synthetic {spec.architecture} {spec.layers}x{spec.width} seed {spec.seed}{router}")
    writer.add_file_type(LlamaFileType[_FILE_TYPES.get(spec.type, f"MOSTLY_{spec.type}")])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_block_count(spec.layers)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.width)
    writer.add_feed_forward_length(spec.feed_forward)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(spec.width // spec.heads)
    writer.add_vocab_size(spec.vocabulary)
    if spec.architecture == "moe":
        writer.add_expert_count(spec.experts)
        writer.add_expert_used_count(spec.experts_used)
    tokens, token_types = _vocabulary(spec.vocabulary)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(spec.vocabulary)])
    writer.add_token_types(token_types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


class _Output:
    """Goes on where a file ends, and hashes the whole of it.

    What has been written goes to disk and out of the page cache as it grows: a model larger than the free memory then
    pushes nothing else out, and the next pages are written into memory that the process already has. Two other threads
    hash and wait for the disk meanwhile: one chunk and one stretch of the file at a time.
    """

    def __init__(self, file: FileIO, others: Executor) -> None:
        self.file = file
        self.others = others
        self.digest = hashlib.sha256()
        self.hashing = others.submit(self.digest.update, file.readall())
        self.syncing = others.submit(self._sync)
        self.start = file.tell()
        self.unsynced_bytes = 0

    def write(self, data: memoryview | bytes) -> None:
        """Append `data`, which must not change any more: it is hashed while the next is made."""
        self.hashing.result()
        self.hashing = self.others.submit(self.digest.update, data)
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]
        self.unsynced_bytes += len(data)
        if self.unsynced_bytes >= _SYNC_BYTES:
            self.syncing.result()
            self.syncing = self.others.submit(self._sync)
            self.unsynced_bytes = 0

    def finish(self) -> str:
        """Put the rest on disk; returns the sha256 of the file."""
        self.syncing.result()
        self._sync()
        self.hashing.result()
        return self.digest.hexdigest()

    def _sync(self) -> None:
        os.fsync(self.file.fileno())
        os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _write_tensors(seed: int, tensors: tuple[_Tensor, ...], output: _Output) -> None:
    # Takes the room at once: a full disk is seen before the work, and the file lies in few pieces.
    data_offset = _padded(output.start)
    os.posix_fallocate(output.file.fileno(), 0, data_offset + sum(_padded(tensor.bytes) for tensor in tensors))
    output.write(bytes(data_offset - output.start))
    for index, tensor in enumerate(tensors):
        for chunk in _tensor_data(tensor, seed, index):
            output.write(chunk.data)
        output.write(bytes(_padded(tensor.bytes) - tensor.bytes))


def _tensor_data(tensor: _Tensor, seed: int, index: int) -> Iterator[ByteArray]:
    # A stream of its own for each tensor.
    generator = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,)))
    if tensor.data is not None:
        yield from tensor.data(generator)
        return
    if tensor.gain is None:
        yield np.ones(tensor.shape, dtype="<f4").view(np.uint8)
        return
    zero_bytes = tensor.zero_rows * tensor.row_bytes
    yield np.zeros(zero_bytes, dtype=np.uint8)
    scale = tensor.gain / (ENCODINGS[tensor.type.name].spread * math.sqrt(tensor.shape[-1]))
    if not tensor.quiet_rows:
        yield from _weights(tensor, tensor.bytes - zero_bytes, scale, generator)
        return
    quiet_bytes = tensor.quiet_rows * tensor.row_bytes
    for _ in range(math.prod(tensor.shape[:-2])):
        yield from _weights(tensor, quiet_bytes, 0.0, generator)
        yield from _weights(tensor, tensor.shape[-2] * tensor.row_bytes - quiet_bytes, scale, generator)


def _weights(tensor: _Tensor, count: int, scale: float, generator: np.random.PCG64) -> Iterator[ByteArray]:
    block_bytes = GGML_QUANT_SIZES[tensor.type][1]
    for chunk in _random_bytes(generator, count, block_bytes):
        ENCODINGS[tensor.type.name].shape(chunk.reshape(-1, block_bytes), scale)
        yield chunk


def _routed_embedding(routing: Routing, vocabulary: int, generator: np.random.PCG64) -> Iterator[ByteArray]:
    """An F16 embedding that begins with what the router reads."""
    own_bytes, encoding = routing.dimensions * 2, ENCODINGS["F16"]
    for chunk in _random_bytes(generator, vocabulary * routing.width * 2, routing.width * 2):
        rows = chunk.reshape(-1, routing.width * 2)
        encoding.shape(rows[:, own_bytes:], 1 / encoding.spread)
        routing.write_features(rows[:, :own_bytes].view("<u2"))
        yield chunk


def _routed(routing: Routing, layer: int, generator: np.random.PCG64) -> Iterator[ByteArray]:
    yield routing.router(layer, generator).reshape(-1).view(np.uint8)


def _random_bytes(generator: np.random.PCG64, count: int, unit_bytes: int) -> Iterator[ByteArray]:
    """The next `count` bytes, in chunks of whole units and whole 64-bit words."""
    chunk_bytes = max(1, _CHUNK_BYTES // (8 * unit_bytes)) * 8 * unit_bytes
    while count:
        size = min(count, chunk_bytes)
        words = np.asarray(generator.random_raw(-(-size // 8))).astype("<u8", copy=False)
        yield words.view(np.uint8)[:size]
        count -= size


def _padded(count: int) -> int:
    return -(-count // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT


def require_room(path: Path, needed: int) -> None:
    """Refuse to make a file for which its disk has too little room.

    Raises:
        ModelError: there is less than is needed.
    """
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ModelError(
            f"{path} needs {format_bytes(needed)} but its disk has {format_bytes(free)} free: make room or choose "
            "a smaller model"
        )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
