"""The one tree of errors, and the exit codes. A message says in a sentence what is wrong, where, and how to fix it."""

EXIT_DONE, EXIT_INVALID_TRIALS, EXIT_BAD_INPUT, EXIT_PREFLIGHT_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class PagelabError(Exception):
    """Anything that pagelab can explain to its user; `exit_code` is what the command line returns for it."""

    exit_code = EXIT_BAD_INPUT


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


def shown(value: object, most: int = 80) -> str:
    """A value from outside as messages repeat it: a text in quotes, and no more than about `most` characters."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"'{in_one_line(value, most)}'" if isinstance(value, str) else in_one_line(str(value), most)


def in_one_line(text: str, most: int) -> str:
    """A text from outside in one line of at most `most` characters: what has no print is escaped, its middle cut."""
    ends = _without_middle(text, most)
    return _without_middle("".join(one if one.isprintable() else _escaped(one) for one in ends), most)


def _without_middle(text: str, most: int) -> str:
    kept = (most - 1) // 2
    return text if len(text) <= most else f"{text[:kept]}…{text[-kept:]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
