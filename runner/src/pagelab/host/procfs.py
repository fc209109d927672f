"""Counters and tables of /proc. Each function reads one file and answers None, never 0, for what is not there.

Text is split at the bytes at which the kernel ends words and lines: space, tab and line feed. Names of files may hold
any other byte. What is no UTF-8 comes as surrogates, so that the file is found by it;
`errors.printable` makes it fit to write.

psutil reads the same files, but answers 0 for a line that a kernel does not have, and knows nothing of refaults and
locked memory. Processors are counted by it (host.cpu).
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from pagelab.errors import HostError

P = ParamSpec("P")
T = TypeVar("T")

Separator = Literal[" ", ":"]

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLANKS = " \t\n"
_INTEGER = re.compile(r"-?[0-9]{1,20}")  # what a 64-bit number can have
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
# Read ten times a second while a trial runs, so in one go.
_PAIRS = {
    mark: re.compile(rf"^([^\n{mark}]*){mark}[ \t]*(-?[0-9]{{1,20}})(?=[ \t\n]|\Z)", re.MULTILINE)
    for mark in (" ", ":")
}
_OCTAL = re.compile(rb"\\(?!000)([0-3][0-7]{2})")  # how seq_escape of fs/seq_file.c writes a byte


@dataclass(frozen=True)
class SwapArea:
    """One line of /proc/swaps; sizes in bytes."""

    path: str
    kind: str
    size_bytes: int
    used_bytes: int
    priority: int


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)).

    `mount_options` belong to this mount, `file_system_options` to all mounts of the file system.
    """

    mount_point: str
    file_system: str
    source: str
    mount_options: str
    file_system_options: str
    device: str
    mount_id: int | None = None

    @property
    def options(self) -> str:
        """Both kinds of options, each once."""
        return ",".join(dict.fromkeys(f"{self.mount_options},{self.file_system_options}".rstrip(",").split(",")))


def if_known(look: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """What a look at the host finds, or None where it raises HostError because the host does not say."""
    try:
        return look(*arguments, **options)
    except HostError:
        return None


def read_text(path: Path | str, errors: str = "replace") -> str | None:
    """The content of a small kernel file without blanks around it, or None where it is absent or unreadable."""
    try:
        return Path(path).read_bytes().decode(errors=errors).strip(_BLANKS)
    except OSError:
        return None


def read_names(path: Path | str) -> str | None:
    """As `read_text`, of a file with names of files, which are found again by what this gives."""
    return read_text(path, "surrogateescape")


def entries(directory: Path) -> list[Path]:
    """What a directory of the kernel has in it, sorted; nothing where it is not there, or vanishes meanwhile."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def lines(text: str | None) -> list[str]:
    """The lines of a kernel file, which end at a line feed and at nothing else."""
    return text.split("\n") if text else []


def words(text: str | None) -> list[str]:
    """The words of a kernel file, between spaces, tabs and line feeds."""
    return [word for word in re.split(f"[{_BLANKS}]+", text) if word] if text else []


def integer(text: str | None) -> int | None:
    """A decimal number of the kernel; None for anything else."""
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def integers(text: str | None) -> list[int]:
    """The numbers of a line of nothing but numbers; empty where one is none."""
    found = [integer(word) for word in words(text)]
    known = [number for number in found if number is not None]
    return known if len(known) == len(found) else []


def decimal(text: str | None) -> float | None:
    """A number of the kernel that may have a fraction; None for anything else."""
    return float(text) if text is not None and _DECIMAL.fullmatch(text) else None


def read_int(path: Path | str, unit: int = 1) -> int | None:
    """The integer in a small kernel file, times what it counts in; None where there is none."""
    number = integer(read_text(path))
    return None if number is None else number * unit


def read_pairs(path: Path | str, separator: Separator = " ") -> dict[str, int]:
    """A file of `name value` lines, such as vmstat, memory.stat or /proc/PID/io; empty where it is absent."""
    return pairs(read_text(path), separator)


def pairs(text: str | None, separator: Separator = " ") -> dict[str, int]:
    """The numbers of a text of `name value` lines, by name; lines without a number are passed over."""
    return {name: int(number) for name, number in _PAIRS[separator].findall(text or "")}


def fields(text: str, separator: str = ":") -> dict[str, str]:
    """The names and values, without blanks around them, of a text of `name: value` lines."""
    parted = (line.partition(separator) for line in lines(text))
    return {name.strip(_BLANKS): value.strip(_BLANKS) for name, _, value in parted}


def meminfo_bytes() -> dict[str, int]:
    """/proc/meminfo in bytes (the file counts in KiB)."""
    return {name: kib * 1024 for name, kib in read_pairs("/proc/meminfo", ":").items()}


def total_memory_bytes() -> int:
    """The host's memory.

    Raises:
        HostError: /proc/meminfo does not say.
    """
    total = meminfo_bytes().get("MemTotal")
    if total is None:
        raise HostError("/proc/meminfo does not say how much memory the host has; run inside the lab's container")
    return total


def vmstat() -> dict[str, int]:
    """/proc/vmstat: host-wide event counters since boot, in pages or events."""
    return read_pairs("/proc/vmstat")


def process_read_bytes(pid: int) -> int | None:
    """Bytes that all threads of a process caused to be fetched from storage (proc_pid_io(5) `read_bytes`).

    Counted when a read is submitted, readahead and swap-in on behalf of a page fault included.
    """
    return read_pairs(f"/proc/{pid}/io", ":").get("read_bytes")


def process_faults(pid: int) -> tuple[int, int] | None:
    """Major and minor page faults of a process, all its threads together and the ended ones too (proc_pid_stat(5)).

    Exact, where a group's memory.stat is not: the kernel lets that lag by 64 events a processor
    (memcg_vmstats_needs_flush in mm/memcontrol.c).
    """
    return faults_of(read_text(f"/proc/{pid}/stat"))


def faults_of(stat: str | None) -> tuple[int, int] | None:
    """Major and minor faults in the text of /proc/PID/stat, whose second word is a name that may hold anything."""
    found = words((stat or "").rpartition(")")[2])
    major, minor = (integer(found[9]), integer(found[7])) if len(found) > 9 else (None, None)
    return None if major is None or minor is None else (major, minor)


def host_read_bytes(vmstat_pairs: dict[str, int]) -> int | None:
    """Bytes that all disks of the host were asked for since boot: pgpgin, which the kernel counts in KiB.

    Counted when a read is submitted (submit_bio in block/blk-core.c), by whomever and from whichever disk.
    """
    kib = vmstat_pairs.get("pgpgin")
    return None if kib is None else kib * 1024


def swap_areas() -> list[SwapArea]:
    """Active swap areas from /proc/swaps.

    Raises:
        HostError: the file has another shape than that of any kernel known.
    """
    return parse_swaps(read_names("/proc/swaps"))


def parse_swaps(text: str | None) -> list[SwapArea]:
    """The areas of a text of /proc/swaps (swap_show in mm/swapfile.c), which counts in KiB.

    Raises:
        HostError: as `swap_areas`.
    """
    areas = []
    for line in lines(text)[1:]:
        found = words(line)
        size, used, priority = map(integer, found[2:]) if len(found) == 5 else (None, None, None)
        if size is None or used is None or priority is None:
            raise HostError(f"a line of /proc/swaps has an unknown shape ({line[:80]!r}): use a newer pagelab")
        areas.append(SwapArea(unescaped(found[0]), found[1], size * 1024, used * 1024, priority))
    return areas


def mounts() -> list[Mount]:
    """The mount table as this process sees it."""
    return parse_mounts(read_names("/proc/self/mountinfo"))


def parse_mounts(text: str | None) -> list[Mount]:
    """The mounts of a text of mountinfo (show_mountinfo in fs/proc_namespace.c).

    The words are single spaces apart: two of them have an empty one between, such as the source of a tmpfs that was
    mounted with none. A line that is no mount is passed over.
    """
    table = []
    for line in lines(text):
        own = line.split(" ")
        shared = own[own.index("-", 6) + 1 :] if "-" in own[6:] else []
        if len(shared) < 2:
            continue
        table.append(
            Mount(
                mount_point=unescaped(own[4]),
                file_system=unescaped(shared[0]),
                source=unescaped(shared[1]),
                mount_options=own[5],
                file_system_options=" ".join(shared[2:]),
                device=own[2],
                mount_id=integer(own[0]),
            )
        )
    return table


def unescaped(word: str) -> str:
    """A word as it was before the kernel wrote some of its bytes as octal numbers (`\\040` for a space)."""
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), os.fsencode(word)))
