"""A model's files in chunks of 2 MiB, numbered through: the unit in which the keeper holds, lets go and reads."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

CHUNK_BYTES = 2 << 20
"""One huge page (of 4 KiB pages), the most that one page fault of a mapping with MADV_HUGEPAGE reads at once."""


class ChunkPlace(NamedTuple):
    """Where a chunk lies: the index of its file, and offset and length in bytes; a file's last one may be shorter."""

    file: int
    offset: int
    length: int


class Chunks:
    """The chunks of files of the sizes given, in bytes; those of a file follow each other."""

    def __init__(self, file_sizes: Sequence[int]) -> None:
        self._sizes = file_sizes
        self._firsts = list(accumulate((-(-size // CHUNK_BYTES) for size in file_sizes), initial=0))

    def __len__(self) -> int:
        """How many there are, of all files."""
        return self._firsts[-1]

    def place(self, chunk: int) -> ChunkPlace:
        """Where a chunk lies."""
        file = bisect_right(self._firsts, chunk) - 1
        offset = (chunk - self._firsts[file]) * CHUNK_BYTES
        return ChunkPlace(file, offset, min(CHUNK_BYTES, self._sizes[file] - offset))

    def within(self, file: int, offset: int, length: int) -> range:
        """The chunks that a stretch of a file lies in, those that it covers in part among them."""
        first = self._firsts[file]
        return range(first + offset // CHUNK_BYTES, first - (-(offset + length) // CHUNK_BYTES))
