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
        _, given = self.validate_argument_spec(transfer.ARGUMENTS)
        remote = Remote(self, (task_vars or {})["inventory_hostname"], given["reconnect_seconds"])
        done = transfer.receive(
            remote,
            given["src"],
            Path(given["dest"]),
            given["sha256"],
            check=self._task.check_mode,
            slice_bytes=given["slice_bytes"],
        )
        return result | done.answer(given["dest"], "received_bytes")
