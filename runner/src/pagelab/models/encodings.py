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
    random bytes of shape (number of blocks, bytes of a block), changed in place. Scale 0 makes values that are all 0;
    where the type has an exponent for a scale, and can hold ones so small, values below 1e-26, which add nothing.
    """

    spread: float
    shape: Callable[[ByteArray, float], None]


Shape = Callable[[ByteArray, float], None]
# In place of the exponent of scale 0. Products of such values are far from the slow numbers below the least exponent.
_QUIET_EXPONENT = -90


def _random_signs(blocks: ByteArray, at: int) -> ByteArray:
    """A sign bit for each block: values that lie to one side of 0 in one block then average to 0 over many."""
    signs: ByteArray = np.bitwise_and(blocks[:, at + 1], np.uint8(0x80))
    return signs


def _half(value: float) -> int:
    """The bits of a number in half precision, which rounds none to 0."""
    bits = int(np.array(value, dtype="<f2").view("<u2"))
    return bits | int(value != 0 and bits & 0x7FFF == 0)


def _set_half(blocks: ByteArray, at: int, value: float, signs: ByteArray) -> None:
    """Write a number in half precision into each block at byte `at`, its sign changed where the block's is set."""
    bits = _half(value)
    blocks[:, at] = bits & 0xFF
    blocks[:, at + 1] = signs ^ np.uint8(bits >> 8)


def _scaled(at: int) -> Shape:
    """Values are scale * integer, and the scale is a half at byte `at`."""

    def shape(blocks: ByteArray, scale: float) -> None:
        _set_half(blocks, at, scale, _random_signs(blocks, at))

    return shape


def _centred(at: int, offset: float) -> Shape:
    """The same with a second half behind the scale, `offset` times as large, that moves the values around 0."""

    def shape(blocks: ByteArray, scale: float) -> None:
        signs = _random_signs(blocks, at)
        _set_half(blocks, at, scale, signs)
        _set_half(blocks, at + 2, offset * scale, signs)

    return shape


def _shape_iq1_m(blocks: ByteArray, scale: float) -> None:
    # The scale's four digits, the lowest first, lie in the upper halves of every other byte from 49 on.
    for digit in range(4):
        at, kept = 49 + 2 * digit, 0x8F if digit == 3 else 0x0F
        blocks[:, at] = (blocks[:, at] & np.uint8(kept)) | np.uint8((_half(scale) >> 4 * digit & 0xF) << 4)


def _shape_tq2_0(blocks: ByteArray, scale: float) -> None:
    # Two bits are -1, 0 or 1, plus one: a 3 becomes a 1. The scale is among them, as whole rows are faster than parts.
    high = blocks >> 1
    high &= blocks
    high &= 0x55
    high <<= 1
    blocks ^= high
    _set_half(blocks, 64, scale, _random_signs(blocks, 64))


def _exponent(scale: float) -> int:
    """The largest power of two that is not above the scale."""
    return math.frexp(scale)[1] - 1 if scale else _QUIET_EXPONENT


def _shape_mxfp4(blocks: ByteArray, scale: float) -> None:
    # The values of its table are doubled, so 2 ** (byte - 128) is their scale.
    blocks[:, 0] = _exponent(scale) + 128


def _shape_bf16(blocks: ByteArray, scale: float) -> None:
    """Half of the values between scale and 2 * scale, a quarter below these, an eighth, and an eighth; either sign.

    An exponent of random bits that go down by one, each if those before it did: real weights compress no better.
    """
    words = blocks.view("<u2")
    below = words & 0x80
    second = below & words >> 1
    below += second
    below += second & words >> 2
    words &= 0x807F
    words |= (_exponent(scale) + 127 << 7) - below


def _shape_float(layout: str, mantissa_bits: int, bias: int) -> Shape:
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


# The layouts are those of ggml-common.h. Of random bits every integer of a block is as likely as any other, so the
# spread is the root of the products of their mean squares, and of those of the tables that they point into.
_TABLE_OF_IQ4 = 4548.0
_SIX_BITS = 341.5  # -32 to 31
_EIGHT_BITS = 5461.5  # -128 to 127
_FOUR_BITS_AND_HALF = 85.25  # 0.5 to 15.5
_ODD = 85.0  # 1, 3, 5 to 15
_GRID_OF_IQ1 = 0.59417724609375 + 1 / 64  # each value is an eighth more or less

ENCODINGS: dict[str, Encoding] = {
    # Plus or minus 1 to 2; see _shape_bf16.
    "F32": Encoding(math.sqrt(7 / 3), _shape_float("<u4", 23, 127)),
    "F16": Encoding(math.sqrt(7 / 3), _shape_float("<u2", 10, 15)),
    "BF16": Encoding(math.sqrt(7 / 3 * 293 / 512), _shape_bf16),
    # q - 8 with q from 0 to 15; q - 7.5; q - 16 with q from 0 to 31; q - 15.5; q from -128 to 127.
    "Q4_0": Encoding(math.sqrt(21.5), _scaled(0)),
    "Q4_1": Encoding(math.sqrt(21.25), _centred(0, -7.5)),
    "Q5_0": Encoding(math.sqrt(85.5), _scaled(0)),
    "Q5_1": Encoding(math.sqrt(85.25), _centred(0, -15.5)),
    "Q8_0": Encoding(math.sqrt(5461.5), _scaled(0)),
    # Plus or minus 0, 1, 2, 3, 4, 6, 8, 12.
    "MXFP4": Encoding(math.sqrt(34.25), _shape_mxfp4),
    # scale * s * q - minimum * m, with s and m of 4 or 6 bits, and q of 2, 4 or 5 bits around 1.5, 7.5 or 15.5.
    "Q2_K": Encoding(math.sqrt(192.5), _centred(80, 1.5)),
    "Q4_K": Encoding(math.sqrt(66728.0), _centred(0, 7.5)),
    "Q5_K": Encoding(math.sqrt(277651.5), _centred(0, 15.5)),
    # s * q with s of 6 bits and q from -4 to 3; s of 8 bits and q from -32 to 31.
    "Q3_K": Encoding(math.sqrt(_SIX_BITS * 5.5), _scaled(108)),
    "Q6_K": Encoding(math.sqrt(_EIGHT_BITS * _SIX_BITS), _scaled(208)),
    # s * g with a row of 8 or 4 values g from a grid. s is odd; (0.5 + 0 to 15) / 4; the same / 2; odd, up to 31.
    "IQ1_S": Encoding(math.sqrt(_ODD * _GRID_OF_IQ1), _scaled(0)),
    "IQ1_M": Encoding(math.sqrt(_ODD * _GRID_OF_IQ1), _shape_iq1_m),
    "IQ2_XXS": Encoding(math.sqrt(_FOUR_BITS_AND_HALF / 16 * 534.43017578125), _scaled(0)),
    "IQ2_XS": Encoding(math.sqrt(_FOUR_BITS_AND_HALF / 16 * 586.47607421875), _scaled(0)),
    "IQ2_S": Encoding(math.sqrt(_FOUR_BITS_AND_HALF / 16 * 596.8416748046875), _scaled(0)),
    "IQ3_XXS": Encoding(math.sqrt(_FOUR_BITS_AND_HALF / 4 * 951.640625), _scaled(0)),
    "IQ3_S": Encoding(math.sqrt(_FOUR_BITS_AND_HALF * 4 * 57.671875), _scaled(0)),
    # A table of 16 values; the same with s of 6 bits.
    "IQ4_NL": Encoding(math.sqrt(_TABLE_OF_IQ4), _scaled(0)),
    "IQ4_XS": Encoding(math.sqrt(_SIX_BITS * _TABLE_OF_IQ4), _scaled(0)),
    # -1, 0 and 1: a third each; twice as many of 0.
    "TQ1_0": Encoding(math.sqrt(2 / 3), _scaled(52)),
    "TQ2_0": Encoding(math.sqrt(1 / 2), _shape_tq2_0),
}
