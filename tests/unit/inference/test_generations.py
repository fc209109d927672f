"""Each generation of llama.cpp is called so that it does the same."""

from pathlib import Path

import pytest

from pagelab.config.schema import InferenceSettings
from pagelab.errors import InferenceError
from pagelab.inference.build import Build, command_line

OLDER = {"bin/llama-cli": "aa"}
NEWER = {"bin/llama-completion": "aa"}


def call(files: dict[str, str], weights: str = "mmap") -> list[str]:
    build = Build(Path("/lab/llama.cpp/one"), "b9a3771", 7234, "git", True, files)
    return command_line(build, Path("/lab/models/m.gguf"), InferenceSettings(), weights)


def test_where_there_is_a_llama_completion_llama_cli_is_another_program() -> None:
    assert call(OLDER)[0] == "/lab/llama.cpp/one/bin/llama-cli"
    assert call(NEWER)[0] == call(NEWER | OLDER)[0] == "/lab/llama.cpp/one/bin/llama-completion"


def test_weights_are_mapped_or_read() -> None:
    assert not {"--no-mmap", "--load-mode"} & set(call(OLDER))
    assert "--no-mmap" in call(OLDER, "anonymous")
    modes = {"mmap": "mmap", "anonymous": "none", "direct": "dio"}
    for weights, mode in modes.items():
        command = call(NEWER, weights)
        assert command[command.index("--load-mode") + 1] == mode
        assert "--no-mmap" not in command


def test_what_newer_builds_do_by_themselves_is_switched_off() -> None:
    command = call(NEWER)
    for option, value in (("--lazy-mode", "off"), ("--fit", "off"), ("--verbosity", "4")):
        assert command[command.index(option) + 1] == value
        assert option not in call(OLDER)


def test_direct_io_is_refused_where_a_build_has_none() -> None:
    with pytest.raises(InferenceError, match="build 7234 has no direct I/O: choose engine newest"):
        call(OLDER, "direct")
