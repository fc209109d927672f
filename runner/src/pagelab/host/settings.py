"""Kernel settings as plain values of JSON: what cannot be read, or is empty, is left out."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pagelab.host.journal import selected
from pagelab.host.procfs import integer, read_text, words

_LONGEST = 1024  # a setting is short; what is longer is a table or a log


def present(facts: Mapping[str, Any] = MappingProxyType({}), /, **more: Any) -> dict[str, Any]:
    """The facts that are known, given as to `dict`: without None, empty texts and empty mappings.

    An empty list stays: that there is none of something is a fact too.
    """
    known = {**facts, **more}
    return {name: value for name, value in known.items() if value is not None and value not in ("", {})}


def setting(path: Path) -> int | str | None:
    """The value of a setting, a number where it is one; of a list of choices the chosen one."""
    text = selected(read_text(path) if path.is_file() else None)
    if not text or len(text) > _LONGEST:
        return None
    value = " ".join(words(text))
    number = integer(value)
    return value if number is None else number


def settings_in(directory: Path, leave: Collection[str] = ()) -> dict[str, int | str]:
    """All settings of a directory of /sys or /proc/sys by name, but those to leave; empty where it is absent.

    Names are the kernel's. Files that cannot be read, such as triggers, and directories are left out.
    """
    return present({file.name: setting(file) for file in sorted(directory.glob("*")) if file.name not in leave})
