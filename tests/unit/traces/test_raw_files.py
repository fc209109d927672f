"""Raw files as streams of bytes: compressed or not, whole or damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.observe.raw_file import RawFileWriter
from pagelab.traces import raw_files
from pagelab.traces.damage import Damage, Problem
from pagelab.traces.raw_files import RawStream
from raw_traces import zstd

CONTENT = np.random.default_rng(1).integers(0, 50, 300_000, dtype=np.uint8).tobytes()


def read(path: Path, at_once: int = 70_000) -> tuple[list[bytes], Damage]:
    """The stretches of a file that are in one piece."""
    damage = Damage()
    stream = RawStream(path, damage)
    stretches = [b""]
    while not stream.ended:
        piece = stream.read(at_once)
        stretches[-1] += piece.tobytes()
        if len(piece) < at_once and not stream.ended:
            stretches.append(b"")
    assert stream.offset == sum(len(one) for one in stretches)
    return stretches, damage


@pytest.mark.parametrize("name", ["cpu0.raw", "cpu0.raw.zst"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 140_000, 300_000])
def test_a_whole_file(tmp_path: Path, name: str, size: int) -> None:
    content = CONTENT[:size]
    (tmp_path / name).write_bytes(zstd(content[: size // 2], content[size // 2 :]) if name.endswith("zst") else content)
    stretches, damage = read(tmp_path / name)
    assert stretches == [content]
    assert not damage.found


def test_bytes_that_were_held_come_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"cdefgh")
    stream = RawStream(tmp_path / "a", Damage())
    assert stream.read(3, before=np.frombuffer(b"ab", np.uint8)).tobytes() == b"abcde"
    assert stream.offset == 3


def test_a_cut_file_gives_what_came_before_the_cut(tmp_path: Path) -> None:
    whole = zstd(CONTENT)
    path = tmp_path / "cpu0.raw.zst"
    path.write_bytes(whole[: len(whole) // 2])
    stretches, damage = read(path)
    assert len(stretches) == 1
    assert CONTENT.startswith(stretches[0])
    assert len(stretches[0]) >= 128 << 10  # zstd's blocks
    assert damage.sentences() == [
        f"cpu0.raw.zst: ends in the middle of compressed data; what came before was kept (at byte {len(stretches[0])})"
    ]


def test_reading_goes_on_at_the_frame_behind_a_damaged_one(tmp_path: Path) -> None:
    frames = [zstd(CONTENT[begin : begin + 50_000]) for begin in range(0, 300_000, 50_000)]
    broken = bytearray(frames[2])
    broken[4:40] = bytes(36)
    path = tmp_path / "cpu0.raw.zst"
    path.write_bytes(b"".join([*frames[:2], bytes(broken), *frames[3:]]))
    stretches, damage = read(path)
    assert len(stretches) == 2
    assert stretches[0][:100_000] == CONTENT[:100_000]
    assert stretches[1] == CONTENT[150_000:]
    assert damage.count(Problem.BAD_STREAM) == 1


def test_an_interruption_shows_also_where_just_as_much_came_as_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu0.raw.zst"
    path.write_bytes(zstd(b"ab") + zstd(b"cd"))
    stream = RawStream(path, Damage())
    source = stream._source
    assert isinstance(source, raw_files._Zstd)
    whole = source.readinto

    def fails_once(view: memoryview) -> int:
        monkeypatch.setattr(source, "readinto", whole)
        raise OSError

    def reopens() -> bool:
        source._stream = source._open()
        return True

    monkeypatch.setattr(source, "readinto", fails_once)
    monkeypatch.setattr(source, "resume", reopens)
    assert [stream.read(2).tobytes() for _ in range(3)] == [b"ab", b"", b"ab"]


def test_a_file_that_is_missing_or_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for name, problem in (("none", Problem.MISSING), ("none.zst", Problem.MISSING), ("directory", Problem.UNREADABLE)):
        stretches, damage = read(tmp_path / name)
        assert stretches in ([], [b""])
        assert damage.count(problem) == 1


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_whatever_is_damaged_reading_ends(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: bool
) -> None:
    whole = bytearray(zstd(*(CONTENT[begin : begin + 20_000] for begin in range(0, 100_000, 20_000))))
    for place, value in flips:
        whole[place % len(whole)] = value
    path = tmp_path_factory.mktemp("raw") / "cpu0.raw.zst"
    path.write_bytes(whole[: flips[0][0] % len(whole)] if cut else whole)
    stretches, _ = read(path)
    assert sum(len(one) for one in stretches) <= 2 * 100_000 + (1 << 22)


@pytest.mark.parametrize("room", [0, 1, 99_999, 300_000])
def test_what_is_written_comes_back_and_the_newest_is_compressed_last(tmp_path: Path, room: int) -> None:
    writer = RawFileWriter(tmp_path / "cpu0.raw.zst", hold_bytes=1 << 20, raw_hold_bytes=room)
    for start in range(0, len(CONTENT), 50_000):
        writer.write(CONTENT[start : start + 50_000])
    assert (writer.compressed_bytes == 0) == (room >= len(CONTENT))
    writer.finish()
    assert writer.raw_bytes == len(CONTENT)
    assert writer.compressed_bytes == (tmp_path / "cpu0.raw.zst").stat().st_size
    assert read(tmp_path / "cpu0.raw.zst")[0] == [CONTENT]
