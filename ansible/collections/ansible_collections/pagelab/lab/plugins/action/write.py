"""write: give a small text file on the host its content.

    - name: Record which rights a container can have here
      pagelab.lab.write:
        content: "{{ rights | to_nice_json }}\n"
        dest: /var/lib/pagelab/installed/container.fact
        mode: "0644"

As `copy` with `content`, but two commands over the connection that is open instead of two modules and a file transfer.
The file is replaced whole or not at all, and belongs to who the task becomes.
"""

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils import transfer
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "content": {"type": "str", "required": True},
                "dest": {"type": "str", "required": True},
                "mode": {"type": "str", "default": "0644"},
            }
        )
        remote = Remote(self, (task_vars or {})["inventory_hostname"])
        dest, text = given["dest"], given["content"]
        done = transfer.write(remote, text, dest, given["mode"], check=self._task.check_mode)
        difference = {"before_header": dest, "before": done.before, "after_header": dest, "after": text}
        return result | {"changed": done.changed, "dest": dest} | ({"diff": difference} if self._task.diff else {})
