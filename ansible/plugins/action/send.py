"""send: bring a file from the controller to the host, resumable, checked by sha256.

    - name: Send the model
      send:
        src: /path/on/controller
        dest: /path/on/host
        sha256: …        # computed where it is not given
        mode: "0644"

Works through any connection and become. Returns sha256, size_bytes and sent_bytes, what this call had to send.
"""

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))

from pagelab_ansible import transfer
from pagelab_ansible.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(transfer.ARGUMENTS | {"mode": {"type": "str", "default": "0644"}})
        source = Path(given["src"])
        if not source.is_file():
            raise AnsibleActionFail(f"{source} is not a file on the controller")
        remote = Remote(self, (task_vars or {})["inventory_hostname"], given["reconnect_seconds"])
        done = transfer.send(
            remote,
            source,
            given["dest"],
            given["sha256"] or transfer.sha256_of(source),
            given["mode"],
            check=self._task.check_mode,
            slice_bytes=given["slice_bytes"],
        )
        return result | done.answer(given["dest"], "sent_bytes")
