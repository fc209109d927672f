"""A build of llama.cpp: how it was made, whether it is unaltered, and how it is called."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pagelab.config.schema import InferenceSettings
from pagelab.documents import load_json, read_file
from pagelab.errors import InferenceError, StoreError, shown
from pagelab.host.cpu import physical_cores
from pagelab.inference.generations import Generation, generation_with
from pagelab.store.files import sha256_of
from pagelab.units import MIB

PINNED_COMMIT = "b9a37717b0e93381e86ab24c1a367bea8946613b"
# `version: 7234 (b9a3771)`, and in newer builds `version: 0.6.0-dev (build 11434, commit 1234abc)`.
_VERSION = re.compile(r"version: (?:\S+ \(build )?(\d+)(?: \(|, commit )([0-9a-f]+)\)")


@dataclass(frozen=True)
class Build:
    """A llama.cpp build as provisioning made it; `build.json` beside its `bin` directory says how."""

    directory: Path
    commit: str
    build_number: int
    source: str
    is_pin: bool
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        """One hash over the names and hashes of all files of the build."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    @property
    def generation(self) -> Generation:
        """How it is called."""
        return generation_with(self.files)

    @property
    def program(self) -> Path:
        """The command line program."""
        return self.directory / "bin" / self.generation.program


def open_builds(directory: Path, engines: Iterable[str]) -> dict[str, Build]:
    """The builds that a directory has under the names of engines, in that order.

    Raises:
        InferenceError: one is not there, or its description cannot be read.
    """
    return {engine: open_build(directory / engine) for engine in engines}


def open_build(directory: Path) -> Build:
    """Read the description of a build.

    Raises:
        InferenceError: there is no build, or its description cannot be read.
    """
    try:
        document = load_json(read_file(directory / "build.json", MIB))
        return Build(
            directory=directory.resolve(),
            commit=document["commit"],
            build_number=int(document["build_number"]),
            source=document["source"],
            is_pin=PINNED_COMMIT.startswith(document["commit"]) or document["commit"].startswith(PINNED_COMMIT),
            files=dict(document["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = shown(error)
        raise InferenceError(f"no usable llama.cpp build in {directory} ({reason}); run `make provision`") from error


def altered_files(build: Build) -> list[str]:
    """Files of the build that are missing or are not what was built, by sha256."""
    return [name for name, expected in build.files.items() if not _is(build.directory / name, expected)]


def _is(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except StoreError:
        return False


def version_of(build: Build) -> tuple[int, str]:
    """Build number and commit that the program itself reports.

    Raises:
        InferenceError: the program does not run here, or says something else.
    """
    try:
        answer = subprocess.run(
            [str(build.program), "--version"], capture_output=True, text=True, timeout=60, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InferenceError(f"{build.program} does not run ({error}); run `make provision`") from error
    match = _VERSION.search(answer.stdout + answer.stderr)
    if match is None:
        raise InferenceError(f"{build.program} --version names no version: remove the build")
    return int(match[1]), match[2]


def threads_of(settings: InferenceSettings) -> int:
    """The number of threads, `physical` resolved on this host."""
    return physical_cores() if settings.threads == "physical" else settings.threads


def command_line(build: Build, model: Path, settings: InferenceSettings, weights: str = "mmap") -> list[str]:
    """The call of llama.cpp for one trial, with its factor `weights`.

    Warm-up is off because it would touch every expert of a mixture of experts; conversation mode is off because a
    model with a chat template would wait for input; special tokens are printed so that every token can be stamped; the
    end of text is ignored so that every trial generates the same number of tokens; the prompt is taken as it is, where
    llama.cpp would otherwise replace what it knows as escapes.

    Raises:
        InferenceError: the build cannot hold the weights in that way.
    """
    generation = build.generation
    if weights not in generation.weights:
        raise InferenceError(f"llama.cpp build {build.build_number} has no direct I/O: choose engine newest for it")
    command = [str(build.program), "--model", str(model), "--prompt", settings.prompt]
    command += ["--n-predict", str(settings.tokens), "--ctx-size", str(settings.context), "--seed", str(settings.seed)]
    command += ["--threads", str(threads_of(settings)), "--ignore-eos", "--special", "--no-display-prompt"]
    command += ["-no-cnv", "--no-warmup", "--no-escape", *generation.options, *generation.weights[weights]]
    if not settings.repack:
        command.append("--no-repack")
    return command
