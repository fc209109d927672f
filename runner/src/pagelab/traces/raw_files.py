"""A raw file as a stream of bytes, compressed (`.zst`) or not, that survives damage.

Compressed data are one or more zstd frames one after the other (RFC 8878). Where one of them cannot be decompressed,
what came out of it before is kept, and reading goes on at the next frame.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pagelab.traces.damage import Damage, Problem

Bytes = NDArray[np.uint8]

_STEP_BYTES = 1 << 20
_CAREFUL_STEP_BYTES = 64
_FRAME_MAGIC = (0xFD2FB528).to_bytes(4, "little")


class RawStream:
    """The bytes of a raw file in order; `name` is what damage is reported under.

    `read` answers fewer bytes than asked only where the data are interrupted, by damage or by the end: what the next
    read gives does not continue them. `ended` says that there is no more.
    """

    def __init__(self, path: Path, damage: Damage) -> None:
        self.name = path.name
        self.offset = 0
        """Bytes that were read so far, after decompression."""
        self.ended = False
        self._damage = damage
        self._interrupted = False
        self._source: _Plain | _Zstd | None = None
        try:
            self._source = _Zstd(path) if path.suffix == ".zst" else _Plain(path)
        except FileNotFoundError:
            self._fail(Problem.MISSING)
        except OSError:
            self._fail(Problem.UNREADABLE)

    def read(self, count: int, before: Bytes | None = None) -> Bytes:
        """The next `count` bytes, or fewer before an interruption, behind those of `before` in one array."""
        room = 0 if before is None else len(before)
        buffer = np.empty(room + count, dtype=np.uint8)
        if before is not None:
            buffer[:room] = before
        filled = 0
        view = buffer.data[room:]
        if self._interrupted:
            count, self._interrupted = 0, False
        while filled < count and not self.ended and self._source is not None:
            wanted = min(count - filled, _STEP_BYTES)
            try:
                got = self._source.readinto(view[filled : filled + wanted])
            except OSError:
                filled += self._after_damage(view[filled : filled + wanted])
                self._interrupted = filled == count  # an answer that is not short would hide it
                break
            if got == 0:
                self._close()
            filled += got
        self.offset += filled
        return buffer[: room + filled]

    def _after_damage(self, view: memoryview) -> int:
        """Keep what can still be had before the damage, and go to behind it."""
        if not isinstance(self._source, _Zstd):
            self._fail(Problem.UNREADABLE)
            return 0
        rescued, cut = self._source.rescue(view)
        self._damage.add(self.name, Problem.CUT_STREAM if cut else Problem.BAD_STREAM, at_byte=self.offset + rescued)
        if not self._source.resume():
            self._close()
        return rescued

    def _fail(self, problem: Problem) -> None:
        self._damage.add(self.name, problem)
        self._close()

    def _close(self) -> None:
        self.ended = True
        if self._source is not None:
            self._source.close()


class _Plain:
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def readinto(self, view: memoryview) -> int:
        return self._file.readinto(view) or 0

    def close(self) -> None:
        self._file.close()


class _Zstd:
    """Frames of zstd. `_begin` is where, in the compressed file, the decompressor was started."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin = 0
        self._given = 0
        self._damage_ends = 0
        self._stream = self._open()

    def _open(self) -> Any:  # pyarrow has no types
        file = pa.OSFile(str(self._path))
        file.seek(self._begin)
        return pa.CompressedInputStream(file, "zstd")

    def readinto(self, view: memoryview) -> int:
        got = int(self._stream.readinto(view))
        self._given += got
        return got

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()

    def rescue(self, view: memoryview) -> tuple[int, bool]:
        """Fill `view` as far as the decompressor gets, feeding it little by little; says too whether the file is cut.

        A read that fails gives nothing, not even what lies before the damage; and only what was fed tells where in the
        compressed file the damage is.
        """
        self.close()
        with self._path.open("rb") as file:
            file.seek(self._begin)
            feeder = _Feeder(file)
            rescued = 0
            with suppress(OSError):
                stream = pa.CompressedInputStream(pa.PythonFile(feeder, mode="r"), "zstd")
                self._skip(stream)
                while rescued < len(view) and (got := int(stream.readinto(view[rescued : rescued + 1]))):
                    rescued += got
            self._damage_ends = file.tell()
        return rescued, feeder.exhausted

    def _skip(self, stream: Any) -> None:
        left = self._given
        while left:
            left -= len(stream.read(min(left, _STEP_BYTES)))

    def resume(self) -> bool:
        """Start anew at the next frame behind the damage; False where there is none."""
        self.close()
        for begin in self._next_frames(max(self._begin + 1, self._damage_ends - _CAREFUL_STEP_BYTES)):
            self._begin, self._given = begin, 0
            self._stream = self._open()
            with suppress(OSError):
                if self._stream.read(1):
                    self.close()
                    self._stream = self._open()
                    return True
            self.close()
        return False

    def _next_frames(self, begin: int) -> Iterator[int]:
        with self._path.open("rb") as file:
            while True:
                file.seek(begin)
                block = file.read(_STEP_BYTES)
                at = block.find(_FRAME_MAGIC)
                if at >= 0:
                    yield begin + at
                    begin += at + 1
                elif len(block) < _STEP_BYTES:
                    return
                else:
                    begin += len(block) - len(_FRAME_MAGIC) + 1


class _Feeder:
    """A file that gives a few bytes a time, whatever is asked."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.exhausted = False

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(_CAREFUL_STEP_BYTES if count < 0 else min(count, _CAREFUL_STEP_BYTES))
        self.exhausted = not data
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None: ...
