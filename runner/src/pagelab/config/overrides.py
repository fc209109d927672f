"""What `--set KEY=VALUE` replaces in a configuration: a key with dots, and a value in YAML."""

from collections.abc import Sequence
from typing import Any

from pagelab.documents import DocumentError, load_yaml
from pagelab.errors import ConfigError, shown

MOST_BYTES = 64 * 1024  # of one setting


def with_settings(document: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The document with each setting in the place of what was there; of two with one key the later one holds.

    Raises:
        ConfigError: a setting is not KEY=VALUE, its value is not YAML, or its key leads through what is no mapping.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        steps = key.split(".")
        if not equals or not all(steps):
            raise ConfigError(f"--set {shown(setting, 80)}: write KEY=VALUE, for example --set inference.tokens=16")
        document = _replaced(document, steps, _value(key, text), key)
    return document


def _value(key: str, text: str) -> Any:
    try:
        if len(text) > MOST_BYTES:
            raise DocumentError("is longer than a value may be")
        return load_yaml(text)
    except DocumentError as error:
        raise ConfigError(f"--set {shown(key, 80)}=…: the value {error}") from error


def _replaced(inside: Any, steps: Sequence[str], value: Any, key: str) -> Any:
    """A copy with the value at a place, so that what an anchor has put elsewhere too stays there as it is."""
    if not steps:
        return value
    if not isinstance(inside, dict):
        over = ".".join(key.split(".")[: -len(steps)])
        raise ConfigError(f"--set {shown(key, 80)}=…: {shown(over, 80)} has no keys; set it as a whole")
    first, *rest = steps
    return inside | {first: _replaced(inside.get(first, {}), rest, value, key)}
