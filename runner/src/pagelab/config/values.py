"""The kinds of values that a configuration has; none takes one kind for another, such as `true` for 1."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from pagelab.units import parse_bytes

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
MOST_NAME = 200  # what is put before and after it has to fit into the 255 bytes of a file's name


def _without_nul(text: str) -> str:
    """Checks what is handed to a program, or names a file; a NUL would end it there."""
    if "\0" in text:
        raise ValueError(f"character {text.index(chr(0)) + 1} is a NUL, which no program can be given; leave it out")
    return text


def _fraction(given: object) -> object:
    """What is written as `5%`, as a number; anything else as it is."""
    match = _PERCENT.fullmatch(given) if isinstance(given, str) else None
    return float(match[1]) / 100 if match else given


def _file_path(path: Path) -> Path:
    _without_nul(str(path))
    if not path.name:
        raise ValueError("names no file; write its path")
    if len(str(path).encode()) > 2000 or any(len(part.encode()) > MOST_NAME for part in path.parts):
        raise ValueError(f"is too long a path; keep every name in it below {MOST_NAME} bytes, and all below 2000")
    return path


Whole = Annotated[int, Strict()]
ThreadCount = Annotated[Whole, Field(ge=1, le=512)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_without_nul)]
ByteCount = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Percentage = Annotated[Number, BeforeValidator(_fraction, json_schema_input_type=float | str), Field(gt=0, le=1)]
"""A part of a whole, written as `5%` or 0.05."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MOST_NAME)]
FilePath = Annotated[Path, AfterValidator(_file_path)]
