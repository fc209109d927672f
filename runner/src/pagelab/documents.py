"""Documents from outside: files of a bounded size, and YAML and JSON that are strict and bounded in depth and number.

YAML is read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2, 10.3): no dates, no numbers to the base 60, no
octal numbers by a mere leading zero, no `yes` and `no`, no merge keys. There is no infinity either, and no tags.
"""

import json
import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pagelab.errors import quoted, shown
from pagelab.units import format_bytes

MOST_DEPTH = 50
MOST_NODES = 50_000  # values and keys, those of an anchor counted again wherever it is named
_MOST_DIGITS = 40

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029]")
_BASES = {"0o": 8, "0x": 16}


class DocumentError(ValueError):
    """What is wrong with a document, in words that follow its name."""


def read_file(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file; a pipe or a device is not opened, since it may have no end.

    Raises:
        DocumentError: it is no regular file, or too large.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DocumentError("is no regular file; save what it holds as one")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise DocumentError(f"is larger than {format_bytes(most_bytes)}")
    return content


def load_json(text: str | bytes) -> Any:  # whatever JSON it holds
    """What JSON a text holds.

    Raises:
        DocumentError: it is not JSON, holds a number that is infinite or has more than 64 bits, or is nested too deep.
    """
    try:
        document = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_bounded)
    except DocumentError as error:
        raise DocumentError(f"is not read: {error}") from error
    except RecursionError as error:
        raise DocumentError("is nested too deep") from error
    except ValueError as error:  # bad UTF-8 too
        raise DocumentError(f"is not JSON ({shown(str(error), 80)})") from error
    _refuse_depth(document)
    return document


def load_yaml(text: str) -> Any:  # whatever YAML it holds
    """What YAML a text of one document holds: mappings with words as keys, lists, texts, numbers, booleans and null.

    Raises:
        DocumentError: it is not YAML, or is not within the bounds of this module.
    """
    builder = _Builder()
    try:
        # Only the parser is libyaml's: what it says is put together here, without recursion and without surprises.
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        place = f" (line {mark.line + 1})" if mark else ""
        raise DocumentError(f"is not valid YAML{place}: {problem}") from error
    return builder.document()


def dump_yaml(document: Any) -> str:
    """A document as YAML that `load_yaml` and readers of YAML 1.1 read back as the same."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Puts a text in quotes where it would be something else to this loader; SafeDumper knows YAML 1.1 alone.

    Those are double ones where it has other line breaks than LF, which would be read back as LF or as a blank.
    """


def _dump_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if _OTHER_BREAKS.search(text) else None if _is_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _dump_text)


def _is_text(plain: str) -> bool:
    return plain not in _WORDS and not any(form.fullmatch(plain) for form in (_INTEGER, _DECIMAL, _NO_NUMBER))


@dataclass
class _Collection:
    """A list or a mapping that is not complete yet; `before` are the nodes that came before it."""

    value: Any
    anchor: str | None = None
    before: int = 0
    keys: list[str] = field(default_factory=list)  # the key that waits for its value, if any


class _Builder:
    """Puts a document together from the events of a parser."""

    def __init__(self) -> None:
        self._open = [_Collection([])]  # the outermost one has the document
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def document(self) -> Any:
        """The document; None where there is none."""
        return next(iter(self._open[0].value), None)

    def take(self, event: yaml.Event) -> None:
        """The parser's next event."""
        if (tag := getattr(event, "tag", None)) is not None:
            _refuse(event, f"the tag {quoted(tag)} is not read; leave it out")
        match event:
            case yaml.DocumentStartEvent() if self._open[0].value:
                _refuse(event, "a second document begins; write one")
            case yaml.AliasEvent():
                self._repeat(event)
            case yaml.ScalarEvent():
                is_plain, _ = event.implicit
                value = _scalar(event) if is_plain else event.value
                self._put(value, event, 1)
                self._remember(event.anchor, value, 1)
            case yaml.SequenceStartEvent():
                self._begin([], event)
            case yaml.MappingStartEvent():
                self._begin({}, event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self._open.pop()
                self._remember(ended.anchor, ended.value, self._nodes - ended.before)

    def _begin(self, value: Any, event: yaml.NodeEvent) -> None:
        if len(self._open) > MOST_DEPTH:
            _refuse(event, f"lists and mappings are nested deeper than {MOST_DEPTH} levels")
        before = self._nodes
        self._put(value, event, 1)
        self._open.append(_Collection(value, event.anchor, before))

    def _repeat(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            _refuse(event, f"no complete value before it is called &{quoted(event.anchor)}")
        value, nodes = self._anchors[event.anchor]
        self._put(value, event, nodes)

    def _remember(self, anchor: str | None, value: Any, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)

    def _put(self, value: Any, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            _refuse(event, f"more than {MOST_NODES} values and keys are too many")
        place = self._open[-1]
        if isinstance(place.value, list):
            place.value.append(value)
        elif place.keys:
            place.value[place.keys.pop()] = value
        elif not isinstance(value, str):
            _refuse(event, "a key is no word; put it in quotes if it is meant as one")
        elif value in place.value:
            _refuse(event, f"the key {quoted(value)} stands twice")
        else:
            place.keys.append(value)


def _scalar(event: yaml.ScalarEvent) -> bool | int | float | str | None:
    """What a text without quotes is."""
    text = event.value
    if text in _WORDS:
        return _WORDS[text]
    if _is_text(text):
        return str(text)
    try:
        if len(text) > _MOST_DIGITS:
            raise DocumentError(f"a number of {len(text)} characters is too long")
        if _INTEGER.fullmatch(text):
            return int(text, _BASES.get(text[:2], 10))
        return _finite(text) if _DECIMAL.fullmatch(text) else _no_number(text)
    except DocumentError as error:
        _refuse(event, f"{error}; put it in quotes if it is meant as text")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise DocumentError(f"{quoted(text)} is too large a number")
    return number


def _bounded(text: str) -> int:
    if len(text) > _MOST_DIGITS or not -(2**63) <= (number := int(text)) < 2**64:
        raise DocumentError(f"{quoted(text)} is too large a number")
    return number


def _no_number(text: str) -> NoReturn:
    raise DocumentError(f"{text} is no number that can be measured")


def _refuse(event: yaml.Event, problem: str) -> NoReturn:
    raise DocumentError(f"line {event.start_mark.line + 1 if event.start_mark else 1}: {problem}")


def _refuse_depth(document: Any) -> None:
    level: list[Any] = [document]
    for _ in range(MOST_DEPTH + 1):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise DocumentError(f"is nested deeper than {MOST_DEPTH} levels")


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield from value.values() if isinstance(value, dict) else value
