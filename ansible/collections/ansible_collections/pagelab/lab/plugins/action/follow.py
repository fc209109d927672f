"""follow: show what the experiment on the host says, line by line, until it has ended.

    - name: Follow the experiment
      pagelab.lab.follow:
        launcher: /var/lib/pagelab/bin/pagelab

Survives an interruption of `reconnect_seconds`; after that the host counts as unreachable, and the experiment goes on
there. Returns `experiment` (state: exited or absent; exit_code, …) and the last `lines`.
"""

import time
from collections import deque
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils import launcher
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import RETRY_EVERY_SECONDS, Remote, first_line

KEPT_LINES = 100


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Follow to the end."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "launcher": {"type": "str", "required": True},
                "reconnect_seconds": {"type": "float", "default": 60.0},
                # How long one call on the host waits for something new: each one costs the host a little.
                "quiet_seconds": {"type": "int", "default": 300},
            }
        )
        host = (task_vars or {})["inventory_hostname"]
        follower = Follower(Remote(self, host, given["reconnect_seconds"]), given)
        try:
            follower.follow()
        except AnsibleConnectionFailure as failure:
            raise AnsibleConnectionFailure(
                f"the connection was lost and did not come back ({first_line(failure)}); the experiment goes on there: "
                f"to re-attach, type again: make experiment HOST={host}"
            ) from None  # Ansible would say it twice
        return result | {"changed": False, "experiment": follower.status, "lines": list(follower.lines)}


class Follower:
    """Follows the experiment of one host; `status` and the last `lines` are what it has seen."""

    def __init__(self, remote: Remote, given: dict[str, Any]) -> None:
        self.status: dict[str, Any] = {}
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._remote = remote
        self._launcher = given["launcher"]
        self._quiet_seconds = given["quiet_seconds"]
        self._patience_seconds = given["reconnect_seconds"]
        self._seen = 0

    def follow(self) -> None:
        """Show lines until the experiment has ended and all of them were shown."""
        while True:
            new = self._ask()
            if not self._seen:
                self._introduce()
            for line in new:
                self._remote.say(line.rstrip())
            self._seen += len(new)
            self.lines.extend(new)
            if self.status["state"] == "absent" or (self.status["state"] in launcher.ENDED and not new):
                return

    def _introduce(self) -> None:
        config, began = Path(self.status.get("config") or "?").name, self.status.get("started_at", "")[:19]
        if self.status["state"] == "running":
            host = self._remote.host
            words = f"{config} runs since {began} UTC; Ctrl-C detaches, `make stop HOST={host}` ends it"
        elif self.status["state"] in launcher.ENDED:
            words = f"{config} has ended, at {self.status.get('finished_at', '')[:19]} UTC; this is what it said"
        else:
            return
        self._remote.say(words)

    def _ask(self) -> list[str]:
        """What is new. The launcher fails for a while after the host was started: the engine comes later than ssh."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            answer = launcher.follow(self._remote, self._launcher, self._seen, self._quiet_seconds)
            lines, status = launcher.parse(answer.output)
            if answer.code == 0 and status is not None:
                self.status = status
                return lines
            if time.monotonic() >= deadline:
                raise AnsibleActionFail(f"{self._launcher} on {self._remote.host} does not answer: {answer.reason}")
            time.sleep(RETRY_EVERY_SECONDS)
