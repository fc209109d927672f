"""send: bring a file from the controller to the host, resumable, checked by sha256.

    - name: Send the model
      pagelab.lab.send:
        src: /path/on/controller
        dest: /path/on/host
        sha256: …        # computed where it is not given
        mode: "0644"

Works through any connection and become. Returns sha256, size_bytes and sent_bytes, what this call had to send.
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils import transfer
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "src": {"type": "str", "required": True},
                "dest": {"type": "str", "required": True},
                "sha256": {"type": "str"},
                "mode": {"type": "str", "default": "0644"},
                "reconnect_seconds": {"type": "float", "default": 60.0},
                "slice_bytes": {"type": "int", "default": transfer.SLICE_BYTES},
            }
        )
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
        return result | {
            "changed": done.changed,
            "dest": given["dest"],
            "sha256": done.sha256,
            "size_bytes": done.size_bytes,
            "sent_bytes": done.moved_bytes,
        }
