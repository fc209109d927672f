"""What is wrong with raw files: damage to our own is refused, that to other people's is noted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from pagelab.errors import TraceError, shown


class DamagedError(Exception):
    """What is wrong with some bytes, to be told with the file's name; `at_byte` counts from the first of them."""

    def __init__(self, what: str, at_byte: int) -> None:
        super().__init__(what)
        self.at_byte = at_byte


def refuse(path: Path, what: str, at_byte: int) -> NoReturn:
    """Refuse a recording of our own: one lost event makes a trial invalid, so what is left of it is of no use."""
    where = _place(path.name, at_byte)
    raise TraceError(f"{shown(path)} {what} ({where}): restore it from a copy, or repeat the trial")


@dataclass
class Problems:
    """Gathers notes. `own` says that the recording is ours, so that damage to it is refused.

    `found` has for a file's name and what is wrong how often it was met and, in bytes, where first.
    """

    own: bool = True
    found: dict[tuple[str, str], tuple[int, int | None]] = field(default_factory=dict)

    def damage(self, path: Path, what: str, at_byte: int, count: int = 1) -> None:
        """Refuse a damaged file of our own, or note it of someone else's.

        Raises:
            TraceError: the recording is ours.
        """
        if self.own:
            refuse(path, what, at_byte)
        self.note(path.name, f"{what}; whole records were kept", count, at_byte)

    def note(self, name: str, what: str, count: int = 1, at_byte: int | None = None) -> None:
        """Count `count` more of a kind in a file; the first place is kept. A count of 0 changes nothing."""
        if count > 0:
            before, first = self.found.get((name, what), (0, at_byte))
            self.found[name, what] = (before + int(count), first)

    def sentences(self) -> list[str]:
        """One sentence a file and kind, by file: `vda.blktrace.0: ends in the middle of a record … (at byte 155)`."""
        ordered = sorted(self.found.items(), key=lambda item: item[0][0])
        return [_sentence(name, what, count, place) for (name, what), (count, place) in ordered]


def _sentence(name: str, what: str, count: int, place: int | None) -> str:
    often = "" if count == 1 else f"{count} times"
    where = "" if place is None else f"{'first ' if often else ''}{_place(name, place)}"
    said = ", ".join(text for text in (often, where) if text)
    return f"{name}: {what}" + (f" ({said})" if said else "")


def _place(name: str, at_byte: int) -> str:
    return f"at byte {at_byte}" + (" after decompression" if name.endswith(".zst") else "")
