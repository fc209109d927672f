"""experiment_outcome: judge how the experiment of a host ended; fails unless it is done with all trials valid.

    - name: Say how it ended
      pagelab.lab.experiment_outcome:
        status: "{{ followed.experiment }}"
        lines: "{{ followed.lines }}"
        config: /path/on/controller.yml
        results: /path/on/controller
        problem: ""       # why its results could not be brought here

Returns `experiment_outcome`, which the callback plugin of the same name shows for all hosts at the end.
"""

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils.outcome import DONE, find_run, outcome_of

from pagelab.config.load import load_config
from pagelab.errors import ConfigError


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "status": {"type": "dict", "required": True},
                "lines": {"type": "list", "elements": "str", "default": []},
                "config": {"type": "str", "required": True},
                "results": {"type": "str", "required": True},
                "problem": {"type": "str", "default": ""},
            }
        )
        host, status = (task_vars or {})["inventory_hostname"], given["status"]
        try:
            experiment = load_config(Path(given["config"])).experiment
            run = find_run(Path(given["results"]), experiment, host, status.get("started_at", ""))
        except ConfigError:  # then it left no run, and its own lines say why
            run = None
        found = outcome_of(status, given["lines"], run, host, given["problem"])
        return result | {
            "changed": False,
            "failed": found.status != DONE,
            "msg": f"{found.status}: {found.reason}" if found.reason else found.status,
            "experiment_outcome": found.document(),
        }
