"""A directory that vanishes at the moment in which somebody looks into it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_doomed: set[str] = set()


def _remove(event: str, arguments: tuple[Any, ...]) -> None:
    if _doomed and event in ("os.scandir", "os.listdir") and str(arguments[0]) in _doomed:
        _doomed.discard(str(arguments[0]))
        Path(arguments[0]).rmdir()


@contextmanager
def vanishing(directory: Path) -> Iterator[None]:
    """The empty directory goes when its content is asked for, before the kernel answers."""
    _doomed.add(os.fspath(directory))
    try:
        yield
    finally:
        _doomed.discard(os.fspath(directory))


sys.addaudithook(_remove)  # it cannot be taken back, so it is added once and does nothing without a directory
