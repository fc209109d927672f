"""Names of hosts and of runs, which are names of directories too, here as on the host."""

import unicodedata
from collections.abc import Iterable

from ansible.errors import AnsibleActionFail

MAX_BYTES = 255  # of a name in the usual file systems (NAME_MAX)


def problem_of(name: str) -> str | None:
    """Why a name cannot be that of a directory which is collected; None where it can."""
    if not name or name != name.strip():
        return "is empty, or begins or ends with a space"
    if name.startswith((".", "-")) or "/" in name:
        return "begins with a dot or a hyphen, or has a slash in it"
    if not name.isprintable():
        return "has characters that cannot be printed"
    if len(name.encode(errors="replace")) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    return None


def check_run_name(run: str) -> str:
    """EXPERIMENT/HOST/RUN_ID and nothing that leads elsewhere.

    Raises:
        AnsibleActionFail: it is something else.
    """
    parts = run.split("/")
    if len(parts) != 3 or any(map(problem_of, parts)):
        raise AnsibleActionFail(f"{run!r} is not the name of a run (EXPERIMENT/HOST/RUN_ID): rename it on the host")
    return run


def check_host_name(host: str, others: Iterable[str]) -> None:
    """Refuse a host whose results could not be collected, or would get mixed up with another one's.

    Two names are one where a file system knows no capitals, or writes an umlaut in one way only.

    Raises:
        AnsibleActionFail: give it another name in the inventory.
    """
    if problem := problem_of(host):
        raise AnsibleActionFail(
            f"the host name {host[:100]!r} {problem}, so it cannot name a directory of results: give it another one in "
            "the inventory, and its address as ansible_host"
        )
    same = [other for other in others if other != host and _folded(other) == _folded(host)]
    if same:
        raise AnsibleActionFail(
            f"the hosts {host!r} and {same[0]!r} would have one directory of results on some disks: give one of them "
            "another name in the inventory"
        )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
