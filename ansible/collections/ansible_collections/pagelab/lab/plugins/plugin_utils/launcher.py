"""What the launcher on a host says about the experiment in the background."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Answer, Remote

ABSENT: dict[str, Any] = {"state": "absent"}
ENDED = ("exited", "dead")


def status(remote: Remote, launcher: str) -> dict[str, Any]:
    """The state of the experiment; a bare host, where there is no launcher or no engine yet, has none."""
    path = shlex.quote(launcher)
    answer = remote.run(f"[ ! -x {path} ] || {path} status")
    _, found = parse(answer.output) if answer.code == 0 else ([], None)
    return found or ABSENT | ({"problem": answer.reason} if answer.code != 0 else {})


def request_of(config: Path, words: Sequence[str]) -> str:
    """What is asked for: a configuration, and what of it is set and chosen. The launcher computes the same."""
    return hashlib.sha256(b"\0".join([config.read_bytes(), *(word.encode() for word in words)])).hexdigest()


def follow(remote: Remote, launcher: str, skip: int, seconds: int) -> Answer:
    """What is new after the first `skip` lines, as soon as there is something, and the status."""
    return remote.run(f"{shlex.quote(launcher)} follow --skip {skip} --seconds {seconds}")


def parse(output: str) -> tuple[list[str], dict[str, Any] | None]:
    """Split the launcher's answer into the lines of the experiment and its status.

    The status is the last line. What comes before it and after the last end of line is a line that was cut: it is left
    out, to be asked for again. Lines end at a line feed alone, as those that the launcher's `tail` skips.
    """
    said, _, last = output.rstrip("\r\n").rpartition("\n")
    try:
        found = json.loads(last)
    except ValueError:
        return [], None
    if not isinstance(found, dict) or "state" not in found:
        return [], None
    whole = said[: said.rfind("\n") + 1]
    return [line.removesuffix("\r") for line in whole.split("\n")[:-1]], found
