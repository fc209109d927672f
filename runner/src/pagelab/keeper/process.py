"""A keeper, as its parent sees it: started, told to hold, and asked at the end what it did."""

import json
import select
import subprocess
import sys
from typing import Any, Self

from pagelab.errors import HostError
from pagelab.host.cgroup import Group
from pagelab.host.child import enter
from pagelab.keeper.request import KeeperReport, KeeperRequest

START_SECONDS, HOLD_SECONDS, END_SECONDS = 60.0, 600.0, 20.0


class KeeperProcess:
    """A keeper in a process of its own, inside `group` where there is one; use it as a context, which ends it."""

    def __init__(self, request: KeeperRequest, group: Group | None = None) -> None:
        self._request = request
        self._group = group
        self._child: subprocess.Popen[str] | None = None
        self.held_first_bytes = 0

    def __enter__(self) -> Self:
        """Start it; it holds nothing yet.

        Raises:
            HostError: it did not start.
        """
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pagelab.keeper.keep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=enter(self._group),  # system calls only
            start_new_session=True,  # Ctrl-C is for the parent, which then ends it in order
        )
        try:
            self._tell(self._request.line())
            self._answer(START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._running.poll() is None

    def hold(self) -> int:
        """Hold what is held before llama.cpp starts; returns the bytes.

        Raises:
            HostError: it ended instead.
        """
        self._tell("hold\n")
        self.held_first_bytes = int(self._answer(HOLD_SECONDS)["held_bytes"])
        return self.held_first_bytes

    def finish(self) -> KeeperReport | None:
        """Let go of everything, and say what was done; None where it had ended before."""
        child = self._running
        child.terminate()
        try:
            said = child.communicate(timeout=END_SECONDS)[0].strip()
        except subprocess.TimeoutExpired:
            return None
        return KeeperReport(**json.loads(said.splitlines()[-1])) if child.returncode == 0 and said else None

    def __exit__(self, *_: object) -> None:
        """End it at once; the kernel gives back what it held."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            raise RuntimeError("the keeper was not started")
        return self._child

    def _tell(self, line: str) -> None:
        pipe = self._running.stdin
        try:
            if pipe is not None:
                pipe.write(line)
                pipe.flush()
        except BrokenPipeError:
            return  # the answer, which does not come, says why

    def _answer(self, seconds: float) -> dict[str, Any]:
        child = self._running
        if child.stdout is None or not select.select([child.stdout], [], [], seconds)[0]:
            raise HostError(f"the keeper did not answer for {seconds:g} s; look at the host's load and its disk")
        line = child.stdout.readline()
        if not line:
            problem = child.communicate()[1].strip().splitlines()
            raise HostError(f"the keeper ended ({problem[-1] if problem else 'killed'}); look at the host's memory")
        answer: dict[str, Any] = json.loads(line)
        return answer
