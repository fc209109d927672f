"""The one tree of errors. A message says what is wrong, where, and how to fix it, in one sentence."""


class PagelabError(Exception):
    """Anything that pagelab can explain to its user; `exit_code` is what the command line returns for it."""

    exit_code = 2


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

    exit_code = 3
