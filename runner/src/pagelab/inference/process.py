"""A process of llama-cli, with a stamp on everything that it prints."""

import errno
import fcntl
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pagelab.errors import InferenceError, shown
from pagelab.inference.log import READY_LINE

READ_BYTES = 1 << 16
PIPE_BYTES = 1 << 20  # a token takes a page of it: enough that llama.cpp never waits for its reader


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


def _why(error: Exception) -> str:
    """Why a program cannot be started, and what helps."""
    if isinstance(error, ValueError):  # of its arguments, which end at the first such byte
        return "the prompt or a path holds a NUL): remove it"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return "the prompt is longer than an argument of a program may be): shorten it to less than 128 KiB"
    return f"{shown(error)}); run `make provision`"


class LlamaCli:
    """One run of llama-cli, which begins at once.

    `before_exec` runs in the child between fork and exec and must only make system calls. Standard output carries
    nothing but generated text, one write a token; the log goes to standard error. The pipe of the text keeps writes
    apart (O_DIRECT of pipe(2)), so that two tokens that wait for a late reader are still two.

    Raises:
        InferenceError: the program cannot be started.
    """

    def __init__(self, command: list[str], before_exec: Callable[[], None]) -> None:
        self.log = bytearray()
        self._ready_seen = False
        self._parsed_to = 0
        text, text_end = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        fcntl.fcntl(text_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._text = os.fdopen(text, "rb", buffering=0)
        self.started_monotonic = time.monotonic()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=text_end,
                stderr=subprocess.PIPE,
                preexec_fn=before_exec,  # system calls only
                env={"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the lab, which then ends the trial in order
                bufsize=0,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._text.close()
            raise InferenceError(f"{shown(command[0])} cannot be started ({_why(error)}") from error
        finally:
            os.close(text_end)
        self.pid = self._process.pid

    def events(self, idle_seconds: float) -> Iterator[Event]:
        """What happens until the process has closed its output; at least one event every `idle_seconds`."""
        with selectors.DefaultSelector() as selector:
            for pipe in (self._text, self._process.stderr):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(idle_seconds)
                now = time.monotonic() - self.started_monotonic
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
        lines = self.log[self._parsed_to : complete_to].decode(errors="replace").split("\n")
        self._parsed_to = complete_to
        if any(READY_LINE.match(line) for line in lines):
            self._ready_seen = True
            yield Ready(now)

    def finish(self) -> int:
        """Wait until the process is gone, killing it if it goes on after its output ended; returns its exit status.

        Negative: the number of the signal that ended it.
        """
        with self._text, self._process as process:
            try:
                return process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def kill(self) -> None:
        """End the process at once, where it still runs."""
        self._process.kill()
