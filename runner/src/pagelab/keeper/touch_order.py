"""In which order a model's chunks are touched: learned, since each token touches them in the same one."""

from collections.abc import Callable, Iterator, Sequence


class TouchOrder:
    """What follows what. Until it is learned, a chunk is followed by the next one of the file."""

    def __init__(self, chunks: Sequence[int]) -> None:
        self._next = dict(zip(chunks, [*chunks[1:], *chunks[:1]], strict=True))
        self._last: int | None = None

    def touched(self, chunk: int) -> None:
        """A chunk was touched just now."""
        if self._last is not None and self._last != chunk:
            self._next[self._last] = chunk
        self._last = chunk

    def ahead(self, count: int, passed_over: Callable[[int], bool]) -> Iterator[int]:
        """The next `count` chunks, in order, without those that are passed over."""
        at, steps = self._last, len(self._next)
        while at is not None and count and steps:
            at, steps = self._next.get(at), steps - 1
            if at is None or at == self._last:
                return
            if not passed_over(at):
                count -= 1
                yield at
