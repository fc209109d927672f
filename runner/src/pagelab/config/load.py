"""Reads an experiment's configuration: one YAML file, strict, with one sentence for what is wrong in it."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pagelab.config.schema import Config
from pagelab.errors import ConfigError


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds an unknown key or an impossible value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name an existing configuration file") from error
    return parse_config(text, str(path))


def parse_config(text: str, where: str) -> Config:
    """Check a configuration given as text; `where` names it in messages.

    Raises:
        ConfigError: as for load_config.
    """
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{where}: is not valid YAML: {problem}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: must be a mapping that begins with 'experiment: NAME'")
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, document)}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML itself would silently let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _first_problem(error: ValidationError, document: dict[str, Any]) -> str:
    """The first problem as one sentence: where in the file, what is wrong, and for a misspelt key the nearest one."""
    problem = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    place = _place(problem["loc"], document)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), sorted(_all_keys()), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "see `pagelab schema` for the known ones"
        return f"unknown key {place!r}; {hint}"
    if problem["type"] == "missing":
        return f"{place} is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    given = f" (got {problem['input']!r})" if isinstance(problem["input"], str | int | float | bool) else ""
    return f"{place}: {message[0].lower()}{message[1:]}{given}" if place else message


def _place(location: tuple[int | str, ...], document: Any) -> str:
    """The dotted path of a problem as far as it exists in the document (pydantic adds names of union branches)."""
    place = ""
    for index, step in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(document, dict) and (step in document or is_last):
            document = document.get(step)
            place += f".{step}"
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
            place += f"[{step}]"
    return place.removeprefix(".")


def _all_keys() -> set[str]:
    """Every key that a configuration can have, at any depth."""
    schema = Config.model_json_schema()
    return {key for one in (schema, *schema["$defs"].values()) for key in one.get("properties", ())}
