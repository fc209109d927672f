"""receive: bring a file from the host to the controller, resumable, checked by sha256.

    - name: Fetch the archive
      receive:
        src: /path/on/host
        dest: /path/on/controller
        sha256: …        # asked from the host where it is not given

Works through any connection and become; the file belongs to who runs Ansible. Returns sha256, size_bytes and
received_bytes, what this call had to fetch.
"""

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))

from pagelab_ansible import transfer
from pagelab_ansible.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "src": {"type": "str", "required": True},
                "dest": {"type": "str", "required": True},
                "sha256": {"type": "str"},
                "reconnect_seconds": {"type": "float", "default": 60.0},
                "slice_bytes": {"type": "int", "default": transfer.SLICE_BYTES},
            }
        )
        remote = Remote(self, (task_vars or {})["inventory_hostname"], given["reconnect_seconds"])
        done = transfer.receive(
            remote,
            given["src"],
            Path(given["dest"]),
            given["sha256"],
            check=self._task.check_mode,
            slice_bytes=given["slice_bytes"],
        )
        return result | {
            "changed": done.changed,
            "dest": given["dest"],
            "sha256": done.sha256,
            "size_bytes": done.size_bytes,
            "received_bytes": done.moved_bytes,
        }
