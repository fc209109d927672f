"""What of a trace's raw files could not be used: counted while reading, said once a kind and file at the end."""

from dataclasses import dataclass, field
from enum import Enum


class Problem(Enum):
    """A kind of damage; the value says what it is and what was done about it."""

    MISSING = "the file is missing"
    UNREADABLE = "the disk does not give the file to its end; what came before was kept"
    CUT_STREAM = "ends in the middle of compressed data; what came before was kept"
    BAD_STREAM = "damaged compressed data; what came before and after was kept"
    CUT_PAGE = "page of which only a part is there; left out"
    BAD_COMMIT = "page that says it holds more than a page can; left out"
    BAD_LENGTH = "page with an event of impossible length; the events before it were kept"
    BAD_TIME = "page or record whose time does not fit those around it; left out"
    SHORT_EVENT = "event that is shorter than its kind; left out"
    CUT_RECORD = "ends in the middle of a record; what came before was kept"
    BAD_RECORD = "stretch that is no record; the records around it were kept"
    MISSED_EVENTS = "place where the kernel says that it could not keep up and events are missing"
    UNMATCHED = "issue of a request that did not complete within a million others; forgotten"


@dataclass
class Damage:
    """Collects damage. `found` has for a file's name and a kind how often it was met and, in bytes, where first."""

    found: dict[tuple[str, Problem], tuple[int, int | None]] = field(default_factory=dict)

    def add(self, name: str, problem: Problem, count: int = 1, at_byte: int | None = None) -> None:
        """Count `count` more of a kind in a file; the first place is kept. A count of 0 changes nothing."""
        if count <= 0:
            return
        before, first = self.found.get((name, problem), (0, at_byte))
        self.found[name, problem] = (before + int(count), first)

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged or missing; a request that never completed is neither."""
        return all(kind is Problem.UNMATCHED for _, kind in self.found)

    def count(self, problem: Problem) -> int:
        """How often a kind was met, in all files."""
        return sum(count for (_, kind), (count, _) in self.found.items() if kind is problem)

    def sentences(self) -> list[str]:
        """One sentence a file and kind, by file: `cpu0.raw: page of which only a part is there; left out (2 times)`."""
        kinds = list(Problem)
        ordered = sorted(self.found.items(), key=lambda item: (item[0][0], kinds.index(item[0][1])))
        return [_sentence(name, problem, count, place) for (name, problem), (count, place) in ordered]


def _sentence(name: str, problem: Problem, count: int, place: int | None) -> str:
    often = "" if count == 1 else f"{count} times"
    where = "" if place is None else f"{'first ' if often else ''}at byte {place}"
    said = ", ".join(text for text in (often, where) if text)
    return f"{name}: {problem.value}" + (f" ({said})" if said else "")
