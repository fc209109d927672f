"""What lies in place of a model: it is named, it is not waited for, and the remedy is one that helps."""

import os
from pathlib import Path

import pytest

from pagelab.config.model_specs import SyntheticSpec
from pagelab.errors import ModelError
from pagelab.models.catalog import read_stamp, verify
from pagelab.models.gguf_map import read_gguf_map
from pagelab.models.synthetic import write_synthetic

SHA256 = "0" * 64
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 98765\n"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    write_synthetic(SyntheticSpec(architecture="llama", layers=1, width=64, feed_forward=64, vocabulary=512), path)
    return path.read_bytes()


def messages(path: Path) -> list[str]:
    """What is said of a file by all who read it: its header, and its checksum."""
    found = []
    for read in (read_gguf_map, lambda one: verify(one, SHA256)):
        with pytest.raises(ModelError) as caught:
            read(path)
        found.append(str(caught.value))
    return found


def test_a_pipe_is_not_waited_for_and_a_device_is_not_read(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.gguf", tmp_path / "zero.gguf"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    assert all("it is a pipe" in message for message in messages(pipe))
    assert all("it is a character device" in message for message in messages(link))
    assert all("it is a directory" in message for message in messages(tmp_path))


def test_a_stamp_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    os.mkfifo(tmp_path / "m.gguf.json")
    assert read_stamp(model) is None
    (tmp_path / "n.gguf.json").symlink_to("/dev/zero")
    assert read_stamp(tmp_path / "n.gguf") is None
    (tmp_path / "o.gguf.json").write_text("[" * 100_000)
    assert read_stamp(tmp_path / "o.gguf") is None


@pytest.mark.parametrize(
    ("beginning", "remedy"),
    [
        (POINTER, "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "take the address that downloads the file"),
        (b'{"error":"Entry not found"}', "a server's error"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd -d"),
    ],
)
def test_another_thing_in_place_of_a_model_is_called_what_it_is(tmp_path: Path, beginning: bytes, remedy: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(beginning)
    for message in messages(path):
        assert remedy in message
        assert "fetch" not in message


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        (["m.gguf.aa", "m.gguf.ab"], "cat m.gguf.* > m.gguf"),
        (["m.gguf.001", "m.gguf.002"], "cat m.gguf.* > m.gguf"),
        (["m.gguf-split-a", "m.gguf-split-b"], "cat m.gguf-split-* > m.gguf"),
        (["m.gguf.part1of2", "m.gguf.part2of2"], "cat m.gguf.part* > m.gguf"),
        (["xaa", "xab"], "cat x* > model.gguf"),
    ],
)
def test_a_piece_of_a_file_that_was_cut_is_to_be_joined(
    tmp_path: Path, content: bytes, names: list[str], joined: str
) -> None:
    half = len(content) // 2
    for name, piece in zip(names, (content[:half], content[half:]), strict=True):
        (tmp_path / name).write_bytes(piece)
    for name in names:
        for message in messages(tmp_path / name):
            assert joined in message
            assert "fetch" not in message


@pytest.mark.parametrize("name", ["m.gguf", "m.gguf.bak", "xyz"])
def test_a_truncated_model_is_no_piece_by_its_name_alone(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content[:-1000])
    assert all("truncated" in message for message in messages(tmp_path / name))


def test_a_whole_model_may_be_called_as_a_piece_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf.aa"
    path.write_bytes(content)
    assert read_gguf_map(path).layers == 1


def test_a_name_or_a_path_is_not_repeated_at_length(tmp_path: Path) -> None:
    path = tmp_path / "/".join(["directory" * 20] * 15) / ("x" * 250)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    assert all(len(message) < 800 for message in messages(path))
    with pytest.raises(ModelError, match="cannot be read"):
        read_gguf_map(tmp_path / "a\0b")
