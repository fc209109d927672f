"""Random bytes as blocks of GGML's types: finite values of a chosen size around 0, as incompressible as they can be."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]


class Encoding(NamedTuple):
    """How random bytes become blocks of one type.

    `spread` is the standard deviation of the values that `shape(blocks, scale)` makes for scale 1. `blocks` are
    random bytes of shape (number of blocks, bytes of a block), changed in place. Scale 0 makes values that are all 0.
    """

    spread: float
    shape: Callable[[ByteArray, float], None]


def _random_signs(blocks: ByteArray) -> ByteArray:
    """A sign bit for each block: values that lie to one side of 0 in one block then average to 0 over many."""
    signs: ByteArray = np.bitwise_and(blocks[:, 1], np.uint8(0x80))
    return signs


def _set_scale(blocks: ByteArray, at: int, scale: float, signs: ByteArray) -> None:
    """Write a half-precision scale into each block at byte `at`."""
    low, high = np.array(scale, dtype="<f2").tobytes()
    blocks[:, at] = low
    blocks[:, at + 1] = signs | np.uint8(high)


def _shape_scaled(blocks: ByteArray, scale: float) -> None:
    _set_scale(blocks, 0, scale, _random_signs(blocks))


def _shape_q4_k(blocks: ByteArray, scale: float) -> None:
    # A value is scale * s * q - minimum * m, with 6-bit s and m, and q from 0 to 15: minimum = 7.5 * scale centres it.
    signs = _random_signs(blocks)
    _set_scale(blocks, 0, scale, signs)
    _set_scale(blocks, 2, 7.5 * scale, signs)


def _shape_float(layout: str, mantissa_bits: int, bias: int) -> Callable[[ByteArray, float], None]:
    """Random sign and mantissa under one fixed exponent: values between scale and 2 * scale on either side of 0."""

    def shape(blocks: ByteArray, scale: float) -> None:
        if scale == 0:
            blocks[:] = 0
            return
        words = blocks.view(layout)
        exponent = max(1, math.frexp(scale)[1] - 1 + bias)
        words &= words.dtype.type(1 << words.itemsize * 8 - 1 | (1 << mantissa_bits) - 1)
        words |= words.dtype.type(exponent << mantissa_bits)

    return shape


ENCODINGS: dict[str, Encoding] = {
    # q - 8 with q from 0 to 15; q from -128 to 127; see _shape_q4_k; plus or minus 1 to 2.
    "Q4_0": Encoding(math.sqrt(21.5), _shape_scaled),
    "Q8_0": Encoding(math.sqrt(5461.5), _shape_scaled),
    "Q4_K": Encoding(math.sqrt(66728.0), _shape_q4_k),
    "F16": Encoding(math.sqrt(7 / 3), _shape_float("<u2", 10, 15)),
    "F32": Encoding(math.sqrt(7 / 3), _shape_float("<u4", 23, 127)),
}
