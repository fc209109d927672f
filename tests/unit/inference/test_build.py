"""A build's description is read strictly, and llama-cli is called with the prompt as it is written."""

import json
import os
from pathlib import Path

import pytest

from pagelab.config.schema import InferenceSettings
from pagelab.errors import InferenceError
from pagelab.inference.build import Build, command_line, open_build, version_of

DESCRIPTION = {"commit": "b9a3771", "build_number": 7213, "source": "git", "files": {"bin/llama-cli": "a" * 64}}


def test_a_build(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps(DESCRIPTION))
    build = open_build(tmp_path)
    assert (build.build_number, build.is_pin, build.files) == (7213, True, DESCRIPTION["files"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, "9" * 5000, "{}", '{"commit": 1, "build_number": 1}', "\0", "Infinity"],
)
def test_a_damaged_description(text: str, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(InferenceError, match=r"no usable llama\.cpp build") as caught:
        open_build(tmp_path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_description_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "build.json")
    with pytest.raises(InferenceError, match="is no regular file"):
        open_build(tmp_path)


def test_the_prompt_is_handed_on_as_it_is(tmp_path: Path) -> None:
    build = Build(tmp_path, "b9a3771", 7213, "git", True, {})
    command = command_line(build, tmp_path / "m.gguf", InferenceSettings(prompt="C:\\new\\x41 --no-mmap", threads=1))
    assert command[command.index("--prompt") + 1] == "C:\\new\\x41 --no-mmap"
    assert "--no-escape" in command, "or llama-cli would read a line break and an A"


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("version: 7213 (6eea6669c2d9)\nbuilt with cc for x86_64\n", (7213, "6eea6669c2d9")),
        ("version: 0.6.0-dev (build 11434, commit b11434)\nbuilt with GNU 12.2.0\n", (11434, "b11434")),
    ],
)
def test_a_build_says_its_number_and_commit(tmp_path: Path, says: str, expected: tuple[int, str]) -> None:
    program = tmp_path / "bin" / "llama-cli"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat >&2 <<END\n{says}END\n")
    program.chmod(0o755)
    assert version_of(Build(tmp_path, "b9a3771", 7213, "git", True, {})) == expected
