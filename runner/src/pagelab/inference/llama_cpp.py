"""llama.cpp: which build it is, how it is called, its log, and its process with a stamp on everything it prints."""

import fcntl
import hashlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pagelab.config.schema import InferenceSettings
from pagelab.errors import InferenceError
from pagelab.host.cpu import physical_cores
from pagelab.store.record import EngineTimings
from pagelab.units import MIB

PINNED_COMMIT = "b9a37717b0e93381e86ab24c1a367bea8946613b"
READ_BYTES = 1 << 16
PIPE_BYTES = 1 << 20  # a token takes a page of it: enough that llama.cpp never waits for its reader

# Printed when the model is ready and generation begins; the same words in all builds that have llama-cli.
READY_LINE = re.compile(r"^generate: n_ctx = ")
_NUMBER = r"\s*([\d.,]+)"
_PREFIX = r"(?:common_perf_print|llama_perf_context_print|llama_print_timings):\s+"
_LOAD = re.compile(_PREFIX + r"load time =" + _NUMBER + " ms")
_PROMPT = re.compile(_PREFIX + r"prompt eval time =" + _NUMBER + r" ms /\s*(\d+) tokens")
_DECODE = re.compile(_PREFIX + r"eval time =" + _NUMBER + r" ms /\s*(\d+) runs")
_SAMPLING = re.compile(_PREFIX + r"sampling time =" + _NUMBER + " ms")
_UNACCOUNTED = re.compile(_PREFIX + r"unaccounted time =" + _NUMBER + " ms")
_REPACK = re.compile(r"CPU_REPACK model buffer size =" + _NUMBER + " MiB")
_VERSION = re.compile(r"version: (\d+) \(([0-9a-f]+)\)")


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
    def program(self) -> Path:
        """The command line program."""
        return self.directory / "bin" / "llama-cli"


def open_build(directory: Path) -> Build:
    """Read the description of a build.

    Raises:
        InferenceError: there is no build, or its description cannot be read.
    """
    try:
        document = json.loads((directory / "build.json").read_text(encoding="utf-8"))
        return Build(
            directory=directory.resolve(),
            commit=document["commit"],
            build_number=int(document["build_number"]),
            source=document["source"],
            is_pin=PINNED_COMMIT.startswith(document["commit"]) or document["commit"].startswith(PINNED_COMMIT),
            files=dict(document["files"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise InferenceError(f"no usable llama.cpp build in {directory} ({error}); run `make provision`") from error


def altered_files(build: Build) -> list[str]:
    """Files of the build that are missing or are not what was built, by sha256."""
    altered = []
    for name, expected in build.files.items():
        try:
            with (build.directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = None
        if found != expected:
            altered.append(name)
    return altered


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
        raise InferenceError(f"{build.program} --version names no version; run `make provision`")
    return int(match[1]), match[2]


def threads_of(settings: InferenceSettings) -> int:
    """The number of threads, `physical` resolved on this host."""
    return physical_cores() if settings.threads == "physical" else settings.threads


def command_line(build: Build, model: Path, settings: InferenceSettings, more: Sequence[str] = ()) -> list[str]:
    """The call of llama-cli for one trial; `more` is what its factors add.

    Warm-up is off because it would touch every expert of a mixture of experts; conversation mode is off because a
    model with a chat template would wait for input; special tokens are printed so that every token can be stamped; the
    end of text is ignored so that every trial generates the same number of tokens.
    """
    command = [str(build.program), "--model", str(model), "--prompt", settings.prompt]
    command += ["--n-predict", str(settings.tokens), "--ctx-size", str(settings.context), "--seed", str(settings.seed)]
    command += ["--threads", str(threads_of(settings)), "--ignore-eos", "--special", "--no-display-prompt"]
    command += ["-no-cnv", "--no-warmup"]
    if not settings.repack:
        command.append("--no-repack")
    return command + list(more)


def parse_timings(log: str) -> EngineTimings:
    """llama.cpp's own timings, from its log; what is not in the log is absent."""

    def seconds(match: re.Match[str] | None) -> float | None:
        return None if match is None else float(match[1].replace(",", ".")) / 1000

    prompt, decode = _PROMPT.search(log), _DECODE.search(log)
    repacked = [float(match[1].replace(",", ".")) for match in _REPACK.finditer(log)]
    return EngineTimings(
        load_seconds=seconds(_LOAD.search(log)),
        prompt_seconds=seconds(prompt),
        prompt_tokens=int(prompt[2]) if prompt else None,
        decode_seconds=seconds(decode),
        decode_runs=int(decode[2]) if decode else None,
        sampling_seconds=seconds(_SAMPLING.search(log)),
        unaccounted_seconds=seconds(_UNACCOUNTED.search(log)),
        repacked_bytes=round(sum(repacked) * MIB) if repacked else 0,
    )


@dataclass(frozen=True)
class Printed:
    """Bytes of generated text, with the time since the start of the process at which they were read."""

    seconds: float
    text: bytes


@dataclass(frozen=True)
class Ready:
    """The model is loaded and generation begins."""

    seconds: float


@dataclass(frozen=True)
class Idle:
    """Nothing was printed for a while; lets the reader look at its clock."""

    seconds: float


Event = Printed | Ready | Idle


@dataclass
class LlamaCli:
    """One run of llama-cli.

    `before_exec` runs in the child between fork and exec and must only make system calls. Standard output carries
    nothing but generated text, one write a token; the log goes to standard error. The pipe of the text keeps writes
    apart (O_DIRECT of pipe(2)), so that two tokens that wait for a late reader are still two.
    """

    command: list[str]
    before_exec: Callable[[], None]
    log: bytearray = field(default_factory=bytearray)
    exit_status: int | None = None

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._text: BinaryIO | None = None
        self._started = 0.0
        self._ready_seen = False
        self._parsed_to = 0

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise InferenceError(f"{self.command[0]} has not been started")
        return self._process

    @property
    def started_monotonic(self) -> float:
        """time.monotonic() at the start of the process."""
        return self._started

    def start(self) -> None:
        """Start the process.

        Raises:
            InferenceError: the program cannot be started.
        """
        text, text_end = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        fcntl.fcntl(text_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._text = os.fdopen(text, "rb", buffering=0)
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=text_end,
                stderr=subprocess.PIPE,
                preexec_fn=self.before_exec,  # system calls only
                env={"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the lab, which then ends the trial in order
                bufsize=0,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._text.close()
            raise InferenceError(f"{self.command[0]} cannot be started ({error}); run `make provision`") from error
        finally:
            os.close(text_end)

    def events(self, idle_seconds: float) -> Iterator[Event]:
        """What happens until the process has closed its output; at least one event every `idle_seconds`."""
        process = self._running()
        with selectors.DefaultSelector() as selector:
            for pipe in (self._text, process.stderr):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(idle_seconds)
                now = time.monotonic() - self._started
                # The log first: llama.cpp writes the line that says it is ready before the first token.
                for key, _ in sorted(ready, key=lambda item: item[0].fileobj is self._text):
                    chunk = os.read(key.fd, READ_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._text:
                        yield Printed(now, chunk)
                    else:
                        yield from self._take_log(chunk, now)
                yield Idle(now)

    def _take_log(self, chunk: bytes, now: float) -> Iterator[Event]:
        self.log += chunk
        if self._ready_seen:
            return
        complete_to = self.log.rfind(b"\n") + 1
        lines = self.log[self._parsed_to : complete_to].decode(errors="replace").splitlines()
        self._parsed_to = complete_to
        if any(READY_LINE.match(line) for line in lines):
            self._ready_seen = True
            yield Ready(now)

    def finish(self) -> int:
        """Make sure that the process is gone, killing it if it still runs, and return its exit status.

        Negative: the number of the signal that ended it.
        """
        process = self._process
        if process is None:
            return -signal.SIGKILL
        if self.exit_status is None:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
            self.exit_status = process.wait()
            for pipe in (self._text, process.stderr):
                if pipe:
                    pipe.close()
        return self.exit_status

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
