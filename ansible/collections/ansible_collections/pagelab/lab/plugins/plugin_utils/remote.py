"""Shell commands on the host of a task, through the task's own connection and become."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure
from ansible.utils.display import Display

Result = TypeVar("Result")

RETRY_EVERY_SECONDS = 5.0

# The least that makes Ansible give the command a pipe: with nothing to send, ssh would make a terminal, which mixes
# errors into the output and changes the ends of lines.
NOTHING = b"\n"


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """The last line that says why it failed."""
        lines = [line.strip() for line in f"{self.output}\n{self.errors}".splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


class Remote:
    """Runs commands on one host and outlives interruptions of the connection; commands must bear being repeated."""

    def __init__(self, action: Any, host: str, reconnect_seconds: float = 60.0) -> None:
        self.host = host
        self._action = action
        self._reconnect_seconds = reconnect_seconds

    def run(self, command: str, data: bytes = NOTHING) -> Answer:
        """Run a shell command with `data` as its input.

        Raises:
            AnsibleConnectionFailure: the host did not answer within the time to reconnect.
        """
        return self.patiently(lambda: self._run(command, data))

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Repeat a call while the connection is down, for a limited time, and say so."""
        deadline: float | None = None
        while True:
            try:
                answer = call()
            except AnsibleAuthenticationFailure:
                raise
            except AnsibleConnectionFailure as failure:
                if deadline is None:
                    deadline = time.monotonic() + self._reconnect_seconds
                    if self._reconnect_seconds > 0:
                        seconds = f"{self._reconnect_seconds:g} s"
                        self.say(f"the connection is lost; trying for {seconds} to get it back ({first_line(failure)})")
                if time.monotonic() >= deadline:
                    raise
                time.sleep(min(RETRY_EVERY_SECONDS, max(0.0, deadline - time.monotonic())))
                continue
            if deadline is not None:
                self.say("connected again")
            return answer

    def say(self, sentence: str) -> None:
        """Show a line of this host at once."""
        Display().display(f"{self.host} │ {sentence}")

    def _run(self, command: str, data: bytes) -> Answer:
        answer = self._action._low_level_execute_command(command, in_data=data)
        return Answer(answer["rc"], answer["stdout"], answer["stderr"])


def first_line(error: Exception) -> str:
    """The beginning of an error's message; ssh's go on for several lines."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
