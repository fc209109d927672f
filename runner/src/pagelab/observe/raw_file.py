"""One raw file of a trace while it is being recorded: compressed at once, and kept off the disk under test."""

import os
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa

CHUNK_BYTES = 1 << 20


class RawFileWriter:
    """Collects what a recorder gives; `finish` makes a file of it.

    Each chunk is a zstd frame of its own, so that damage to one costs only that one. Up to `hold_bytes` of compressed
    bytes stay in memory until `finish`: nothing is written to the disk while it is measured.
    """

    def __init__(self, path: Path, hold_bytes: int) -> None:
        self.path = path
        self.raw_bytes = 0
        self.compressed_bytes = 0
        self._codec = pa.Codec("zstd", compression_level=1)
        self._held = tempfile.SpooledTemporaryFile(max_size=hold_bytes, mode="w+b", dir=str(path.parent))  # noqa: SIM115

    def write(self, chunk: bytes | memoryview) -> None:
        """Take some more bytes."""
        compressed = self._codec.compress(chunk)
        self._held.write(compressed)
        self.raw_bytes += len(chunk)
        self.compressed_bytes += compressed.size

    def finish(self) -> None:
        """Write the file, durably."""
        with self._held, self.path.open("wb") as file:
            self._held.seek(0)
            shutil.copyfileobj(self._held, file, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
