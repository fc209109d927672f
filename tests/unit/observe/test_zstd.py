"""Frames that any zstd can read, and that say when their content was damaged."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pagelab.errors import TraceError
from pagelab.observe import zstd
from pagelab.observe.raw_file import RawFileWriter
from pagelab.observe.zstd import Compressor
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import RawStream

HAS_CHECKSUM = 0b100  # of the frame header's descriptor, RFC 8878, section 3.1.1.1.1


def content_of(size: int) -> bytes:
    """Bytes that compress by half."""
    numbers = np.random.default_rng(7).integers(0, 16, size, dtype=np.uint8)
    return numbers.tobytes()


def unpacked(frame: bytes) -> bytes:
    with pa.input_stream(pa.py_buffer(frame), compression="zstd") as stream:
        return bytes(stream.read())


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20])
def test_frames_come_back(size: int) -> None:
    compressor, content = Compressor(level=1), content_of(size)
    frames = [compressor.compress(piece).to_pybytes() for piece in (content, memoryview(content)[: size // 2])]
    assert unpacked(b"".join(frames)) == content + content[: size // 2]


def test_every_flipped_bit_of_the_content_is_noticed(tmp_path: Path) -> None:
    if zstd._LIBRARY is None:
        pytest.skip("there is no libzstd.so.1 on this machine")
    path, dice = tmp_path / "cpu0.raw.zst", random.Random(3)  # noqa: S311 - no secret
    writer = RawFileWriter(path, hold_bytes=1 << 20)
    for _ in range(2):
        writer.write(content_of(4096))
    writer.finish()
    whole = path.read_bytes()
    assert whole[4] & HAS_CHECKSUM
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        stream = None
        try:
            stream = RawStream(path, Problems()).read(1 << 20).tobytes()
        except TraceError:
            continue
        assert stream == content_of(4096) * 2, "what is read is what was written"


def test_without_the_library_frames_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "_LIBRARY", None)
    content = content_of(4096)
    frame = Compressor(level=1).compress(content).to_pybytes()
    assert unpacked(frame) == content
    assert not frame[4] & HAS_CHECKSUM
