#!/usr/bin/python
"""model_info: says which models of a configuration are on this host, whole; the standard library is enough for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: model_info
short_description: Say which models of a configuration are on this host
description:
  - Reads no model. A stamp beside it says which inode, size, times and sha256 it had when it was last read as a whole.
  - A model that a configuration names by its whole path has no stamp and is never taken for known.
options:
  directory: {type: path, required: true, description: Where the models are.}
  record: {type: path, required: true, description: "What they were when they were last checked, and the basis."}
  basis: {type: list, elements: str, required: true, description: "What they are wanted for: configuration and runner."}
  sent: {type: list, elements: dict, default: [], description: The models that the controller has.}
author: pagelab
"""

RETURN = r"""
settled: {type: bool, returned: always, description: Whether all are known and whole.}
known: {type: list, returned: always, description: "The models of the record, if it was made for this basis."}
missing: {type: list, returned: always, description: The models of the controller that are not whole here.}
"""


def recorded(record: Path, basis: list[str]) -> list[dict[str, Any]]:
    """The models that were checked for just this configuration and runner."""
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return document["models"] if document["basis"] == basis else []


def is_whole(directory: Path, model: dict[str, Any]) -> bool:
    """Whether the file still is what it was when its stamp was made, and that is the one that is wanted."""
    path = directory / model["file"]
    if Path(model["file"]).is_absolute():
        return False
    try:
        stamp = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        found = path.stat()
    except (OSError, ValueError):
        return False
    now = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns, "inode": found.st_ino}
    return isinstance(stamp, dict) and stamp == {**now, "sha256": model["sha256"]}


def info(directory: Path, known: list[dict[str, Any]], sent: list[dict[str, Any]]) -> dict[str, Any]:
    """What is here, and what the controller has to send."""
    whole = {model["file"] for model in known + sent if is_whole(directory, model)}
    return {
        "settled": bool(known) and all(model["file"] in whole for model in known + sent),
        "known": known,
        "missing": [m for m in sent if m["file"] not in whole and not Path(m["file"]).is_absolute()],
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "record": {"type": "path", "required": True},
            "basis": {"type": "list", "elements": "str", "required": True},
            "sent": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        known = recorded(Path(given["record"]), given["basis"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        module.fail_json(msg=f"{given['record']} cannot be read ({error}): remove it and run again")
    module.exit_json(changed=False, **info(Path(given["directory"]), known, given["sent"]))


if __name__ == "__main__":
    main()
