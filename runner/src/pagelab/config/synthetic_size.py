"""Which layers, width and feed_forward give a model file of a wanted size: the same ones on every machine.

The rule follows published models. The width is a multiple of 256 and about 128 times the layers (Llama 2 and 3: 4096
and 32, 8192 and 80). What one token passes of the feed-forward networks of a layer is about 3.5 widths (Llama 3: 14336
for 4096; OLMoE: 8 experts of 1024 for 2048). Of the shapes around it the nearest one whose file is within 1 % of the
size is taken, or else the one that comes nearest to the size, if that is within 2 %. All is done in whole numbers.
"""

from collections.abc import Iterator
from typing import NamedTuple

_STEP = 256  # a multiple of every type's block, and of four heads of 64
_WIDTH_OF_LAYER = 128
_WIDTHS_BESIDE = 2
_TOKEN_BYTES = 24  # of a token's text, length, score and type in the header


class SizedKind(NamedTuple):
    """What is known of a model beside its size; `weights` and `embedding` are weights in a block and bytes of it."""

    weights: tuple[int, int]
    embedding: tuple[int, int]
    experts: int
    experts_used: int
    vocabulary: int
    least_width: int
    most_layers: int


class SizedShape(NamedTuple):
    """What makes the size of a model."""

    layers: int
    width: int
    feed_forward: int


def chosen_shape(kind: SizedKind, size: int) -> SizedShape | None:
    """The shape whose file has `size` bytes, within 2 %; None where there is none."""
    width = _wanted_width(kind, size)
    feed_forward = _wanted_feed_forward(kind, width)

    def rank(shape: SizedShape) -> tuple[int, ...]:
        error = abs(_file_bytes(kind, shape) - size)
        near = 100 * error <= size
        away = (abs(shape.width - width), abs(shape.feed_forward - feed_forward)) if near else (0, 0)
        return (not near, *away, error, *shape)

    best = min(_candidates(kind, size, width), key=rank)
    return best if 50 * abs(_file_bytes(kind, best) - size) <= size else None


def _wanted_width(kind: SizedKind, size: int) -> int:
    """The largest width that has its share of layers."""
    width = -(-max(kind.least_width, _STEP) // _STEP) * _STEP
    while True:
        wider = width + _STEP
        if _layers(kind, size, wider, _wanted_feed_forward(kind, wider)) * _WIDTH_OF_LAYER < wider:
            return width
        width = wider


def _wanted_feed_forward(kind: SizedKind, width: int) -> int:
    unit = 2 * max(1, kind.experts_used) * _STEP
    return max(1, (7 * width + unit // 2) // unit) * _STEP


def _candidates(kind: SizedKind, size: int, width: int) -> Iterator[SizedShape]:
    for steps in range(-_WIDTHS_BESIDE, _WIDTHS_BESIDE + 1):
        other = width + steps * _STEP
        if other < max(kind.least_width, _STEP):
            continue
        wanted = _wanted_feed_forward(kind, other) // _STEP
        for feed_forward in range(-(-wanted // 2), 2 * wanted + 1):
            layers = _layers(kind, size, other, feed_forward * _STEP)
            yield SizedShape(min(max(1, layers), kind.most_layers), other, feed_forward * _STEP)


def _layers(kind: SizedKind, size: int, width: int, feed_forward: int) -> int:
    """The whole number of layers that comes nearest."""
    none = _file_bytes(kind, SizedShape(0, width, feed_forward))
    layer = _file_bytes(kind, SizedShape(1, width, feed_forward)) - none
    return max(0, (2 * (size - none) + layer) // (2 * layer))


def _file_bytes(kind: SizedKind, shape: SizedShape) -> int:
    """Bytes of the file, but for paddings and a few KiB of the header (pagelab.models.synthetic writes it)."""
    width, matrices = shape.width, max(1, kind.experts)
    attention = 2 * width * width + 2 * width * (width // 4)  # four heads share a key and a value head
    weights = attention + 3 * matrices * shape.feed_forward * width
    floats = (2 + kind.experts) * width
    layer = _encoded(weights, kind.weights) + 4 * floats
    tokens = kind.vocabulary * width
    ends = _encoded(tokens, kind.embedding) + _encoded(tokens, kind.weights) + 4 * width
    return shape.layers * layer + ends + kind.vocabulary * _TOKEN_BYTES


def _encoded(weights: int, block: tuple[int, int]) -> int:
    return weights // block[0] * block[1]
