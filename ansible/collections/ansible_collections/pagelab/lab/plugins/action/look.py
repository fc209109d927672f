"""look: run a command that only looks, in a fifth of the time that a module takes.

    - name: Look at the active swap
      pagelab.lab.look:
        argv: [cat, /proc/swaps]
        stdin: …          # what the command reads; optional
      register: __swaps

Most of what provisioning does on a host that is set up is to look. A module brings its own Python code along, which the
host unpacks and compiles each time; this is one command over the connection that is open. It runs in check mode too and
never counts as a change, in the C locale, from the root directory. Returns rc, stdout, stdout_lines and stderr as
`command` does, and fails as that does on an exit code other than 0 unless `failed_when` says otherwise; a program that
is not there is exit code 127.
"""

import shlex
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import NOTHING, Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the command."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {"argv": {"type": "list", "elements": "str", "required": True}, "stdin": {"type": "str"}}
        )
        remote = Remote(self, (task_vars or {})["inventory_hostname"], reconnect_seconds=0.0)
        command = f"cd / && exec env LC_ALL=C {shlex.join(given['argv'])}"
        answer = remote.run(command, NOTHING if given["stdin"] is None else given["stdin"].encode())
        stdout = answer.output.rstrip("\r\n")
        return result | {
            "changed": False,
            "failed": answer.code != 0,
            "rc": answer.code,
            "stdout": stdout,
            "stdout_lines": [line.removesuffix("\r") for line in stdout.split("\n")] if stdout else [],
            "stderr": answer.errors.rstrip("\r\n"),
            **({"msg": f"{given['argv'][0]}: {answer.reason}"} if answer.code != 0 else {}),
        }
