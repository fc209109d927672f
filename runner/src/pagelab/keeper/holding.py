"""The chunks that are held in RAM, locked."""

import errno
import os
from collections.abc import Sequence

from pagelab.keeper.chunks import CHUNK_BYTES, Chunks
from pagelab.keeper.memory import FileWindow


class Holding:
    """Chunks locked in RAM: of those in `order` as many as there is room for, the first ones first."""

    def __init__(self, chunks: Chunks, windows: Sequence[FileWindow], order: Sequence[int]) -> None:
        self._chunks, self._windows = chunks, windows
        self._order = order
        self._rank = {chunk: rank for rank, chunk in enumerate(order)}
        self._wanted = 0
        self._held: set[int] = set()
        self.most_bytes = 0
        self.refused: str | None = None

    @property
    def bytes(self) -> int:
        """What is held, in whole chunks."""
        return len(self._held) * CHUNK_BYTES

    def __contains__(self, chunk: int) -> bool:
        """Whether a chunk is held."""
        return chunk in self._held

    def want(self, size: int) -> None:
        """Be allowed so many bytes: what is too much is let go at once, what is missing waits for `take`."""
        self._wanted = min(size // CHUNK_BYTES, len(self._order))
        if len(self._held) > self._wanted:
            for chunk in [chunk for chunk in self._held if self._rank[chunk] >= self._wanted]:
                self._held.discard(chunk)
                file, offset, length = self._chunks.place(chunk)
                self._windows[file].unlock(offset, length)

    def take(self, chunk: int) -> bool:
        """Hold a chunk if it is wanted; returns whether it is held now."""
        if chunk in self._held:
            return True
        if self._rank.get(chunk, self._wanted) >= self._wanted or self.refused:
            return False
        file, offset, length = self._chunks.place(chunk)
        problem = self._windows[file].lock(offset, length)
        if problem:
            self._windows[file].unlock(offset, length)
            if problem not in (errno.ENOMEM, errno.EAGAIN):  # then there is no room at the moment
                self.refused = os.strerror(problem)
            return False
        self._held.add(chunk)
        self.most_bytes = max(self.most_bytes, self.bytes)
        return True

    def take_all(self) -> None:
        """Hold everything that is wanted, in the order of the file."""
        for chunk in sorted(self._order[: self._wanted]):
            self.take(chunk)

    def leave_unmapped(self, chunks: Sequence[int]) -> None:
        """Have none of the chunks mapped that are not held: what was read around the held ones."""
        for chunk in chunks:
            if chunk not in self._held:
                file, offset, length = self._chunks.place(chunk)
                self._windows[file].unmap(offset, length)
