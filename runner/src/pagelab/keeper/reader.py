"""Threads that read chunks into the page cache, each in one folio of 2 MiB where the file system has such."""

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from pagelab.keeper.chunks import Chunks
from pagelab.keeper.memory import FileWindow

READERS = 4


class AheadReader:
    """Reads what is asked for, `READERS` at a time; `reads` counts them. Its threads end with the process."""

    def __init__(self, chunks: Chunks, windows: Sequence[FileWindow]) -> None:
        self._chunks, self._windows = chunks, windows
        self._asked: SimpleQueue[int] = SimpleQueue()
        self.reads = 0
        for number in range(READERS):
            threading.Thread(target=self._read, name=f"ahead {number}", daemon=True).start()

    def ask(self, chunk: int) -> None:
        """Have a chunk read."""
        self._asked.put(chunk)

    def _read(self) -> None:
        while True:
            chunk = self._asked.get()
            file, offset, length = self._chunks.place(chunk)
            self._windows[file].read(offset)
            self._windows[file].unmap(offset, length)
            self.reads += 1
