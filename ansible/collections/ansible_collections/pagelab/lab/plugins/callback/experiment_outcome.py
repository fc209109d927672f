"""At the end of a playbook that looked for experiments: a table of what became of each host, and one sentence.

A callback and not a last play: Ansible ends a playbook at the play in which all hosts have failed, and only a callback
hears why a host failed, wherever that was.
"""

from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.pagelab.lab.plugins.plugin_utils.outcome import DONE, FAILED, UNREACHABLE, summary, table

DOCUMENTATION = """
name: experiment_outcome
type: aggregate
short_description: Says at the end who finished, who failed and why
description: Shows the outcome of every host that experiment_status was asked about with a configuration.
"""

ASKED, JUDGED = "experiment_status", "experiment_outcome"
CONTROLLER = "localhost"


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The plugin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "experiment_outcome"

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[str] = set()
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, dict[str, Any]] = {}

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._note(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed; the last one counts."""
        self._note(result)
        if not ignore_errors:
            reason = f"{result.task.get_name()}: {_message(result)}"
            self._failures[result.host.get_name()] = {"status": FAILED, "reason": reason}

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host did not answer."""
        self._note(result)
        self._failures[result.host.get_name()] = {"status": UNREACHABLE, "reason": _message(result)}

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002 - as Ansible calls it
        """The end."""
        if not self._asked:
            return
        outcomes = {host: self._outcome(host) for host in self._asked}
        for line in ["", *table(outcomes), "", summary(outcomes)]:
            self._display.display(line)

    def _note(self, result: Any) -> None:
        host, action = result.host.get_name(), result.task.action.rpartition(".")[2]
        if action == ASKED and result.task.args.get("config"):
            self._asked.add(host)
        if action == JUDGED and JUDGED in result.result:
            self._outcomes[host] = result.result[JUDGED]

    def _outcome(self, host: str) -> dict[str, Any]:
        """The judgement, unless something failed after one that said done; else why there is none."""
        judged, failure = self._outcomes.get(host), self._failures.get(host)
        if judged and not (failure and judged["status"] == DONE):
            return judged
        if failure is None and (elsewhere := self._failures.get(CONTROLLER)):
            failure = {"status": FAILED, "reason": f"on the controller: {elsewhere['reason']}"}
        return (judged or {}) | (failure or {"status": FAILED, "reason": "it was not run: see above"})


def _message(result: Any) -> str:
    """Why, in a line: what a command or the first item of a loop that failed says, where there is one."""
    answer = result.result
    failed = next((item for item in answer.get("results", []) if item.get("failed")), answer)
    text = str(failed.get("msg") or "no reason was given")
    said = [
        line for line in str(failed.get("stderr") or failed.get("module_stderr") or "").splitlines() if line.strip()
    ]
    if said and text == "non-zero return code":
        text = next((line for line in said if "rror" in line or line.startswith("pagelab: ")), said[-1])
    return " ".join(text.removeprefix("Task failed: ").split())
