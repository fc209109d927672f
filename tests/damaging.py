"""Ways to damage bytes, for tests by hypothesis: bits flipped, numbers put in, pieces cut out, doubled or swapped."""

import struct
from collections.abc import Callable

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]

_NUMBERS = [0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**47]
_NUMBERS += [2**63 - 1, 2**63, 2**64 - 1]
_places = st.integers(0, 2**20)


def _flip(place: int, bit: int) -> Damage:
    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        if changed:
            changed[place % len(changed)] ^= 1 << bit
        return bytes(changed)

    return damage


def _put(place: int, what: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        at = place % (len(content) + 1)
        return content[:at] + what + content[at + len(what) :]

    return damage


def _move(start: int, length: int, to: int | None) -> Damage:
    """Cut a piece out, and put it somewhere else unless `to` is None."""

    def damage(content: bytes) -> bytes:
        begin = start % (len(content) + 1)
        piece, rest = content[begin : begin + length], content[:begin] + content[begin + length :]
        if to is None:
            return rest
        at = to % (len(rest) + 1)
        return rest[:at] + piece + rest[at:]

    return damage


def _double(start: int, length: int) -> Damage:
    def damage(content: bytes) -> bytes:
        begin = start % (len(content) + 1)
        return content[: begin + length] + content[begin:]

    return damage


def _cut(place: int) -> Damage:
    return lambda content: content[: place % (len(content) + 1)]


_numbers = st.builds(
    lambda number, layout: struct.pack(layout, number % 2 ** (8 * struct.calcsize(layout))),
    st.sampled_from(_NUMBERS),
    st.sampled_from(["<B", "<H", "<I", "<Q", ">I"]),
)
_one = st.one_of(
    st.builds(_flip, _places, st.integers(0, 7)),
    st.builds(_put, _places, _numbers),
    st.builds(_put, _places, st.binary(min_size=1, max_size=16)),
    st.builds(_cut, _places),
    st.builds(_move, _places, st.integers(1, 300), st.none() | _places),
    st.builds(_double, _places, st.integers(1, 300)),
)


def _all(damages: list[Damage]) -> Damage:
    def damage(content: bytes) -> bytes:
        for one in damages:
            content = one(content)
        return content

    return damage


damages: st.SearchStrategy[Damage] = st.lists(_one, min_size=1, max_size=4).map(_all)
