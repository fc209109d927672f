"""A build's description is read strictly, and llama-cli is called with the prompt as it is written."""

import json
import os
from pathlib import Path

import pytest

from pagelab.config.schema import InferenceSettings
from pagelab.errors import InferenceError
from pagelab.inference.build import Build, command_line, open_build

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
