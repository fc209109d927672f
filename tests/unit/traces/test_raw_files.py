"""Raw files as streams of bytes: compressed or not, whole or damaged."""

import re
from pathlib import Path

import numpy as np
import pytest

from pagelab.errors import TraceError
from pagelab.observe.raw_file import RawFileWriter
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import RawStream
from raw_traces import zstd

CONTENT = np.random.default_rng(1).integers(0, 50, 300_000, dtype=np.uint8).tobytes()


def read(path: Path, own: bool = True, at_once: int = 70_000) -> tuple[bytes, Problems]:
    """What a file gives, piece by piece."""
    problems = Problems(own)
    stream = RawStream(path, problems)
    content = b""
    while not stream.ended:
        content += stream.read(at_once).tobytes()
    assert stream.offset == len(content)
    return content, problems


@pytest.mark.parametrize("name", ["cpu0.raw", "cpu0.raw.zst"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 140_000, 300_000])
def test_a_whole_file(tmp_path: Path, name: str, size: int) -> None:
    content = CONTENT[:size]
    (tmp_path / name).write_bytes(zstd(content[: size // 2], content[size // 2 :]) if name.endswith("zst") else content)
    assert read(tmp_path / name) == (content, Problems())


def test_bytes_that_were_held_come_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"cdefgh")
    stream = RawStream(tmp_path / "a", Problems())
    assert stream.read(3, before=np.frombuffer(b"ab", np.uint8)).tobytes() == b"abcde"
    assert stream.offset == 3


def test_a_cut_or_damaged_file_of_our_own_is_refused_with_the_place(tmp_path: Path) -> None:
    whole = zstd(CONTENT)
    path = tmp_path / "cpu0.raw.zst"
    for content in (whole[: len(whole) // 2], whole[:-1], whole + bytes(40), bytes(40) + whole):
        path.write_bytes(content)
        message = r"cpu0\.raw\.zst cannot be read any further \(at byte (\d+) after decompression\): restore it"
        with pytest.raises(TraceError, match=message) as caught:
            read(path)
        place = re.search(message, str(caught.value))
        assert place is not None
        assert int(place[1]) <= len(CONTENT)


def test_a_cut_file_of_others_gives_what_came_before_the_cut(tmp_path: Path) -> None:
    whole = zstd(CONTENT[:200_000], CONTENT[200_000:])
    path = tmp_path / "vda.blktrace.0.zst"
    path.write_bytes(whole[:-20_000])
    content, problems = read(path, own=False)
    assert CONTENT.startswith(content)
    assert len(content) >= 200_000 - (64 << 10)  # zstd gives whole blocks of at most 128 KiB
    assert problems.sentences() == [
        "vda.blktrace.0.zst: cannot be read any further; whole records were kept "
        f"(at byte {len(content)} after decompression)"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "is missing"),
        ("none.zst", "is missing"),
        ("directory", r"cannot be read \(|cannot be read any further"),
    ],
)
def test_a_file_that_is_missing_or_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(TraceError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("room", [0, 1, 99_999, 300_000])
def test_what_is_written_comes_back_and_the_newest_is_compressed_last(tmp_path: Path, room: int) -> None:
    writer = RawFileWriter(tmp_path / "cpu0.raw.zst", hold_bytes=1 << 20, raw_hold_bytes=room)
    for start in range(0, len(CONTENT), 50_000):
        writer.write(CONTENT[start : start + 50_000])
    assert (writer.compressed_bytes == 0) == (room >= len(CONTENT))
    writer.finish()
    assert writer.raw_bytes == len(CONTENT)
    assert writer.compressed_bytes == (tmp_path / "cpu0.raw.zst").stat().st_size
    assert read(tmp_path / "cpu0.raw.zst")[0] == CONTENT
