"""experiment_status: which experiment is in the background on the host, if any.

    - name: Look for an experiment
      pagelab.lab.experiment_status:
        launcher: /var/lib/pagelab/bin/pagelab
        config: /path/on/controller.yml     # the one that is asked for; optional
        words: ["--set=repetitions=3"]      # what of it is set and chosen (--set, --only)
        options: "--resume"                 # and its other options

Needs nothing on the host. One whose name cannot be that of a directory of results is refused. Returns `experiment`
(state: running, exited or absent; exit_code, config, …) and `disposition`, what it means for who wants to run `config`:

    idle        nothing is there
    attach      the same runs there, or has ended and its results are still to be collected
    supersede   the same has ended without success, and now it is asked for with other options
    other       another configuration is there, or the same with other words
"""

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils import launcher, names, outcome
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the launcher."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "launcher": {"type": "str", "required": True},
                "config": {"type": "str"},
                "words": {"type": "list", "elements": "str", "default": []},
                "options": {"type": "str", "default": ""},
            }
        )
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        if given["config"]:  # results will be written, and are to be collected
            names.check_host_name(host, variables.get("ansible_play_hosts_all", ()))
        remote = Remote(self, host, reconnect_seconds=0.0)
        found = launcher.status(remote, given["launcher"])
        asked = launcher.request_of(Path(given["config"]), given["words"]) if given["config"] else None
        return result | {
            "changed": False,
            "experiment": found,
            "disposition": disposition(found, asked or found.get("request"), given["options"]),
        }


def disposition(found: dict[str, Any], request: str | None, options: str) -> str:
    """What to do about what is there."""
    if found["state"] == "absent":
        return "idle"
    if found.get("request") != request:
        return "other"
    unsuccessful = found.get("exit_code") not in (outcome.EXIT_DONE, outcome.EXIT_INVALID_TRIALS)
    if found["state"] in launcher.ENDED and unsuccessful and options and found.get("options") != options:
        return "supersede"
    return "attach"
