"""records: read what provisioning recorded on the host; the same as `setup` with a fact_path, without its Python start.

    - name: Read what earlier runs recorded
      pagelab.lab.records:
        directory: /var/lib/pagelab/installed

Every NAME.fact, a JSON document, becomes ansible_facts.ansible_local.NAME; a bare host has none.
"""

import json
import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote

SUFFIX = ".fact"


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec({"directory": {"type": "str", "required": True}})
        remote = Remote(self, (task_vars or {})["inventory_hostname"], reconnect_seconds=0.0)
        command = (
            f"cd {shlex.quote(given['directory'])} 2>/dev/null || exit 0; "
            f"for file in *{SUFFIX}; do "
            '[ ! -f "$file" ] || { echo "$file"; tr -d "\\n" <"$file"; echo; } || exit; done'
        )
        answer = remote.run(command)
        if answer.code != 0:
            raise AnsibleActionFail(f"cannot read the records in {given['directory']}: {answer.reason}")
        return result | {"changed": False, "ansible_facts": {"ansible_local": parse(answer.output, given["directory"])}}


def parse(output: str, directory: str) -> dict[str, Any]:
    """The documents by name, from lines that are name and document in turn."""
    lines = output.splitlines()
    found = {}
    for name, document in zip(lines[::2], lines[1::2], strict=True):
        try:
            found[name.removesuffix(SUFFIX)] = json.loads(document)
        except ValueError as error:
            raise AnsibleActionFail(f"{directory}/{name} is damaged ({error}): remove it and run again") from error
    return found
