"""One raw file of a trace while it is being recorded: kept off the disk under test, and off the processor."""

import shutil
import tempfile
from collections import deque
from pathlib import Path

from pagelab.observe.zstd import Compressor
from pagelab.store.files import explained, open_file

CHUNK_BYTES = 1 << 20


class RawFileWriter:
    """Collects what a recorder gives; `finish` makes a file of it.

    Each chunk is a zstd frame of its own, with a checksum of its content. The newest `raw_hold_bytes` are compressed no
    sooner than in `finish`: where a trial is not longer, compression takes nothing from the inference. Up to
    `hold_bytes` of compressed bytes stay in memory until then: nothing is written to the disk while it is measured.
    """

    def __init__(self, path: Path, hold_bytes: int, raw_hold_bytes: int = 0) -> None:
        self.path = path
        self._raw: deque[bytes | memoryview] = deque()
        self._raw_room = raw_hold_bytes
        self.raw_bytes = 0
        self.compressed_bytes = 0
        self._compressor = Compressor(level=1)
        self._held = tempfile.SpooledTemporaryFile(max_size=hold_bytes, mode="w+b", dir=str(path.parent))  # noqa: SIM115

    def write(self, chunk: bytes | memoryview) -> None:
        """Take some more bytes, which the caller does not change any more.

        Raises:
            StoreError: they no longer fit into memory, and the disk refused.
        """
        self._raw.append(chunk)
        self._raw_room -= len(chunk)
        self.raw_bytes += len(chunk)
        while self._raw_room < 0:
            self._compress_oldest()

    def _compress_oldest(self) -> None:
        chunk = self._raw.popleft()
        self._raw_room += len(chunk)
        compressed = self._compressor.compress(chunk)
        with explained(self.path):
            self._held.write(compressed)
        self.compressed_bytes += compressed.size

    def finish(self) -> None:
        """Write the file, durably.

        Raises:
            StoreError: the disk refused.
        """
        with open_file(self.path) as file, self._held:
            while self._raw:
                self._compress_oldest()
            self._held.seek(0)
            shutil.copyfileobj(self._held, file, CHUNK_BYTES)
