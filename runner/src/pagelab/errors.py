"""The one tree of errors, and the exit codes. A message says in a sentence what is wrong, where, and how to fix it.

What a message repeats of a file, a name or a program's output is somebody else's text: `shown` makes it short, and
printable as it is.
"""

import re

EXIT_DONE, EXIT_INVALID_TRIALS, EXIT_BAD_INPUT, EXIT_PREFLIGHT_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

_LONGEST_INPUT, LONGEST_MESSAGE = 200, 1500
# What would move a terminal's cursor, end a line, turn the direction of writing, or cannot stand in XML or UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str, lines: bool = False) -> str:
    """The text with what is no visible character written as Python writes it: `\\x1b`, `\\n`, `\\u202e`.

    With `lines` it may have several, and line feeds stay.
    """
    if lines:
        return "\n".join(map(printable, text.split("\n")))
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def shown(value: object, longest: int = _LONGEST_INPUT) -> str:
    """What was given, for a message: printable, of at most `longest` characters, a long one without its middle."""
    return _without_middle(printable(_without_middle(str(value), longest)), longest)


def quoted(value: object, longest: int = 80) -> str:
    """A value of a document for a message: a text in quotes, a list or a mapping by its kind alone."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"'{shown(value, longest)}'" if isinstance(value, str) else shown(value, longest)


def _without_middle(text: str, longest: int) -> str:
    kept = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:kept]}…{text[-kept:]}"


class PagelabError(Exception):
    """Anything that pagelab can explain to its user; `exit_code` is what the command line returns for it."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, LONGEST_MESSAGE))


class ConfigError(PagelabError):
    """The experiment's configuration, or another input, cannot be used as it is."""


class ModelError(PagelabError):
    """A model file is missing, damaged, or not what the configuration says."""


class StoreError(PagelabError):
    """A result file cannot be written or read back."""


class TraceError(PagelabError):
    """A recorded trace cannot be read, or is not what it is said to be."""


class HostError(PagelabError):
    """The host lacks, or refuses, something that a measurement needs."""


class InferenceError(PagelabError):
    """The inference engine cannot be started, or does not speak as expected."""


class PreflightRefusedError(PagelabError):
    """A required check failed and was not forced."""

    exit_code = EXIT_PREFLIGHT_REFUSED
