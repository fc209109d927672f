"""collect_runs: bring every run of a host to the controller, and remove there what is complete and verified here.

    - name: Bring the results here
      pagelab.lab.collect_runs:
        results: /var/lib/pagelab/results       # on the host
        outgoing: /var/lib/pagelab/outgoing     # on the host, for packed runs
        incoming: /path/on/controller           # for what is on its way
        destination: /path/on/controller        # EXPERIMENT/HOST/RUN_ID appear in it

Interrupted anywhere and called again, it goes on. An incomplete run stays on the host, so that it can be resumed. A run
that cannot be brought here does not stop the others. One whose files are not what was recorded is brought all the same,
with a warning that names them. Returns `collected` (names of runs) and `problems`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.pagelab.lab.plugins.plugin_utils import collecting, names, transfer
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote


class ActionModule(ActionBase):  # type: ignore[misc]
    """The plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "results": {"type": "str", "required": True},
                "outgoing": {"type": "str", "required": True},
                "incoming": {"type": "str", "required": True},
                "destination": {"type": "str", "required": True},
                "reconnect_seconds": {"type": "float", "default": 60.0},
                "slice_bytes": {"type": "int", "default": transfer.SLICE_BYTES},
            }
        )
        variables = task_vars or {}
        remote = Remote(self, variables["inventory_hostname"], given["reconnect_seconds"])
        collector = Collector(self, remote, given, variables)
        collected, problems, damage = [], [], list[str]()
        for found in collector.module(state="listed")["runs"]:
            damage += [f"{found['run']}: {sentence}" for sentence in collecting.shortened(found["damage"])]
            try:
                if collector.collect(found):
                    collected.append(found["run"])
            except AnsibleConnectionFailure:
                raise
            except (AnsibleActionFail, OSError) as error:
                problems.append(f"{found['run']}: {error}")
                remote.say(problems[-1])
        return result | {
            "changed": bool(collected),
            "failed": bool(problems),
            "msg": "; ".join(problems) or f"{len(collected)} runs collected",
            "collected": collected,
            "problems": problems,
            "warnings": damage,
        }


class Collector:
    """Brings the runs of one host here."""

    def __init__(self, action: Any, remote: Remote, given: dict[str, Any], variables: dict[str, Any]) -> None:
        self._action = action
        self._remote = remote
        self._given = given
        self._variables = variables

    def module(self, **arguments: str) -> dict[str, Any]:
        """Call experiment_runs on the host."""
        places = {"results": self._given["results"], "outgoing": self._given["outgoing"]}
        answer: dict[str, Any] = self._remote.patiently(
            lambda: self._action._execute_module(
                module_name="pagelab.lab.experiment_runs", module_args=places | arguments, task_vars=self._variables
            )
        )
        if answer.get("failed"):
            raise AnsibleActionFail(f"on {self._remote.host}: {answer.get('msg', 'no reason was given')}")
        return answer

    def collect(self, found: Mapping[str, Any]) -> bool:
        """Bring one run here; whether something of it was new here or is gone there."""
        run, complete = names.check_run_name(found["run"]), found["status"] == "complete"
        here = Path(self._given["destination"]) / run
        verdict = collecting.compare(here, collecting.read_manifest(found["manifest"]), complete_there=complete)
        if verdict == "different":
            raise AnsibleActionFail(
                f"{here} is complete and has other content than the complete run of that name on {self._remote.host}; "
                "neither was touched: move the one here away, then collect again"
            )
        if verdict == "newer":
            self._remote.say(f"{run}: complete here and incomplete there; left as it is")
            return False
        manifest_sha256 = found["manifest_sha256"]
        if verdict != "same":
            manifest_sha256 = self._fetch(run)
        elif not complete:
            return False
        released = self.module(state="released", run=run, manifest_sha256=manifest_sha256)
        there = "removed there" if released["removed"] else "still there, to be resumed"
        self._remote.say(f"{run}: {found['status']}, verified here, {there}")
        return True

    def _fetch(self, run: str) -> str:
        """Pack, transfer, unpack and verify; returns the checksum of the manifest that all of it agrees with."""
        packed = self.module(state="packed", run=run)
        incoming = Path(self._given["incoming"])
        incoming.mkdir(parents=True, exist_ok=True)
        archive = incoming / Path(packed["archive"]).name
        transfer.receive(
            self._remote,
            packed["archive"],
            archive,
            packed["sha256"],
            slice_bytes=self._given["slice_bytes"],
        )
        manifest = collecting.read_manifest(packed["manifest"])
        collecting.put_in_place(archive, manifest, Path(self._given["destination"]), run)
        archive.unlink()
        return str(packed["manifest_sha256"])
