"""The generations of llama.cpp: which program runs one prompt, and which options give the same run with each.

Since llama-cli became the client of a server, the program that it was is called llama-completion. With it came load
modes in place of --no-mmap, tensors that are read on demand (which changes what loading is), settings that are fitted
to free memory, and a log whose default leaves out where the weights are.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """The program's name, options of every call, and those for where the weights are, by the factor `weights`."""

    program: str
    options: tuple[str, ...]
    weights: Mapping[str, tuple[str, ...]]


CLI = Generation("llama-cli", (), {"mmap": (), "anonymous": ("--no-mmap",)})
COMPLETION = Generation(
    "llama-completion",
    ("--verbosity", "4", "--lazy-mode", "off", "--fit", "off"),
    {
        "mmap": ("--load-mode", "mmap"),
        "anonymous": ("--load-mode", "none"),
        "direct": ("--load-mode", "dio"),
    },
)


def generation_with(files: Collection[str]) -> Generation:
    """That of a build, by the names of its files: where there is a llama-completion, llama-cli is another program."""
    return COMPLETION if f"bin/{COMPLETION.program}" in files else CLI
