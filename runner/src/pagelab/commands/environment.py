"""What the lab's launcher says in the environment: directories, and to whom results belong."""

import os
from collections.abc import Mapping
from pathlib import Path

from pagelab.errors import StoreError

OWNER_VARIABLE = "PAGELAB_OWNER"


def models_directory() -> Path:
    """Where the models are, inside the container as outside."""
    return _directory("PAGELAB_MODELS", "models")


def state_directory() -> Path:
    """Where the journal and the lock are."""
    return _directory("PAGELAB_STATE", "state")


def builds_directory() -> Path:
    """Where the builds of llama.cpp are, under the names of engines."""
    return _directory("PAGELAB_LLAMA_CPP", "llama.cpp")


def _directory(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or f"/var/lib/pagelab/{usual}")


def owner_from_environment(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """The uid and gid that results should belong to (`PAGELAB_OWNER=uid:gid`), None where it is not set.

    Raises:
        StoreError: the variable is not two numbers.
    """
    text = environment.get(OWNER_VARIABLE, "")
    if not text:
        return None
    uid, _, gid = text.partition(":")
    if not (uid.isdecimal() and gid.isdecimal()):
        raise StoreError(f"{OWNER_VARIABLE} is {text!r} in the environment: set it to uid:gid, for example 1000:1000")
    return int(uid), int(gid)
