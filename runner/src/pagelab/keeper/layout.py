"""Which chunks of a model every token touches, and in which order they are held."""

from collections import defaultdict
from collections.abc import Sequence

from pagelab.keeper.chunks import Chunks
from pagelab.models.gguf_map import GgufMap, tensors_of_every_token

_GOLDEN = (5**0.5 - 1) / 2


def chunks_of_every_token(model: GgufMap) -> list[int]:
    """The chunks of which at least half is touched by every token, in the order of the files.

    Experts are not among them, nor an embedding that is only looked up.
    """
    chunks = Chunks([part.stat().st_size for part in model.parts])
    touched: dict[int, int] = defaultdict(int)
    for tensor in tensors_of_every_token(model):
        end = tensor.offset + tensor.bytes
        for chunk in chunks.within(tensor.part, tensor.offset, tensor.bytes):
            place = chunks.place(chunk)
            touched[chunk] += min(end, place.offset + place.length) - max(tensor.offset, place.offset)
    return sorted(chunk for chunk, size in touched.items() if 2 * size >= chunks.place(chunk).length)


def in_holding_order(chunks: Sequence[int]) -> list[int]:
    """The chunks so that the first n of them lie evenly among all, whatever n is.

    Between two that are read there is then one that is held, on which llama.cpp computes meanwhile. Multiples of the
    golden ratio, modulo 1, cut a circle into parts of at most three lengths (three-gap theorem).
    """
    return [chunk for _, chunk in sorted((number * _GOLDEN % 1, chunk) for number, chunk in enumerate(chunks))]
