"""Reads an experiment's configuration: one YAML file, strict, with one sentence for what is wrong in it."""

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pagelab.config.overrides import with_settings
from pagelab.config.schema import Config
from pagelab.documents import DocumentError, load_yaml, read_file
from pagelab.errors import ConfigError, quoted, shown
from pagelab.units import MIB

MOST_FILE_BYTES = MIB


def load_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read and check a configuration file; `settings` (KEY=VALUE) replace what it says.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds an unknown key or an impossible value.
    """
    where = shown(str(path), 200)
    try:
        text = read_file(path, MOST_FILE_BYTES).decode()
    except DocumentError as error:
        raise ConfigError(f"{where}: {error}; name a configuration file") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{where}: cannot be read ({reason}); name an existing configuration file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: byte {error.start} is no UTF-8; save the file as UTF-8") from error
    document = with_settings(config_document(text, where), settings)
    return config_of(document, f"{where} with --set" if settings else where)


def parse_config(text: str, where: str) -> Config:
    """Check a configuration given as text; `where` names it in messages.

    Raises:
        ConfigError: as for load_config.
    """
    return config_of(config_document(text, where), where)


def config_document(text: str, where: str) -> dict[str, Any]:
    """What a configuration says, whatever version of pagelab it was written for.

    Raises:
        ConfigError: it is not YAML, or no mapping.
    """
    try:
        document = load_yaml(text)
    except DocumentError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: must be a mapping that begins with 'experiment: NAME'")
    return document


def config_of(document: dict[str, Any], where: str) -> Config:
    """The configuration that a document is.

    Raises:
        ConfigError: it holds an unknown key or an impossible value.
    """
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, document)}") from error


def _first_problem(error: ValidationError, document: dict[str, Any]) -> str:
    """The first problem as one sentence: where in the file, what is wrong, and for a misspelt key the nearest one."""
    problems = error.errors(include_url=False, include_context=False)
    problem = next((item for item in problems if item["type"] == "extra_forbidden"), problems[0])
    place = shown(_place(problem["loc"], document), 120)
    if problem["type"] == "extra_forbidden":
        key = shown(str(problem["loc"][-1]), 80)
        near = difflib.get_close_matches(key, sorted(_all_keys()), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "see `pagelab schema` for the known ones"
        return f"unknown key '{place}'; {hint}"
    if problem["type"] == "missing":
        return f"{place} is missing; add it"
    message, given = problem["msg"].removeprefix("Value error, "), quoted(problem["input"])
    got = "" if isinstance(problem["input"], dict) or given in message else f" (got {given})"
    return f"{place}: {message[0].lower()}{message[1:]}{got}" if place else message


def _place(location: tuple[int | str, ...], document: Any) -> str:
    """The dotted path of a problem as far as it exists in the document (pydantic adds names of union branches)."""
    place = ""
    for index, step in enumerate(location):
        is_missing = index == len(location) - 1 and step not in location[:index][-1:]  # a branch is named as its key is
        if isinstance(document, dict) and (step in document or is_missing):
            document = document.get(step)
            place += f".{step}"
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
            place += f"[{step}]"
    return place.removeprefix(".")


@cache
def _all_keys() -> set[str]:
    """Every key that a configuration can have, at any depth."""
    schema = Config.model_json_schema()
    return {key for one in (schema, *schema["$defs"].values()) for key in one.get("properties", ())}
