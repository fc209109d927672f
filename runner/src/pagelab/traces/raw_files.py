"""A raw file as a stream of bytes, compressed with zstd (`.zst`) or not."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pagelab.traces.arrays import Bytes
from pagelab.traces.events import Devices
from pagelab.traces.problems import Problems

# A read that meets damage gives nothing of what lies before it, so small ones lose little.
_STEP_BYTES, _COMPRESSED_STEP_BYTES = 1 << 20, 64 << 10


@dataclass
class Decoding:
    """What the readers of a trace's raw files share.

    `counts` gathers how many events of each kind there were, by their name in the kernel; `chunk_bytes` is how much of
    a file is read at a time.
    """

    devices: Devices
    problems: Problems
    chunk_bytes: int
    counts: Counter[str] = field(default_factory=Counter)


class RawStream:
    """The bytes of a raw file in order. It ends, with a note or by a refusal, where it cannot be read any further."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path = path
        self.offset = 0
        """Bytes that were read so far, after decompression."""
        self.ended = False
        """Whether there is no more."""
        self._problems = problems
        compression, self._step = ("zstd", _COMPRESSED_STEP_BYTES) if path.suffix == ".zst" else (None, _STEP_BYTES)
        try:
            if not path.is_file():  # to open a pipe would wait for its writer
                self._end("cannot be read" if path.exists() else "is missing")
                return
            self._file = pa.input_stream(str(path), compression=compression)
        except (OSError, ValueError):
            self._end("cannot be read")

    def read(self, count: int, before: Bytes | None = None) -> Bytes:
        """The next `count` bytes, or fewer at the end, behind those of `before` in one array."""
        room = 0 if before is None else len(before)
        buffer = np.empty(room + count, dtype=np.uint8)
        if before is not None:
            buffer[:room] = before
        view, filled = buffer.data[room:], 0
        while filled < count and not self.ended:
            try:
                got = int(self._file.readinto(view[filled : min(filled + self._step, count)]))
            except OSError:
                self._end("cannot be read any further")
                break
            filled += got
            self.offset += got
            self.ended = got == 0
        return buffer[: room + filled]

    def _end(self, why: str) -> None:
        self.ended = True
        self._problems.damage(self.path, why, self.offset)
