"""The process that uses the model: where it has mapped it, and which parts it has touched."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pagelab.host.procfs import PAGE_BYTES
from pagelab.keeper.chunks import Chunks
from pagelab.keeper.memory import page_out

_ENTRY_BYTES = 8  # of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst
_PRESENT = 0x80  # bit 63, in the last byte of an entry on a little-endian machine
_LEAST_BYTES = 1 << 20  # a smaller mapping of the file is one of its header alone


class Target:
    """A process that has the model mapped; `bases` are the addresses of each file's first byte, None where it has not.

    Use it as a context, which closes what it has open.
    """

    def __init__(self, pid: int, chunks: Chunks, bases: Sequence[int | None], process: int, pagemap: int) -> None:
        self.pid = pid
        self._process, self._pagemap = process, pagemap
        self._stretches: list[tuple[int, int]] = []  # address and length of each chunk, 0 where it is not mapped
        self._entries: list[int] = []  # where pagemap has its middle page; ready, since many are looked at
        for place in map(chunks.place, range(len(chunks))):
            base = bases[place.file]
            address = 0 if base is None else base + place.offset
            self._stretches.append((address, place.length))
            self._entries.append((address + place.length // 2) // PAGE_BYTES * _ENTRY_BYTES)

    def __enter__(self) -> Self:
        """Nothing is done yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the descriptors."""
        os.close(self._process)
        os.close(self._pagemap)

    def has_touched(self, chunk: int) -> bool | None:
        """Whether the middle of a chunk is mapped by the process now, so was touched; None once it has ended.

        A page fault maps 64 KiB around (fault_around_bytes), and the whole folio where that is large.
        """
        try:
            entry = os.pread(self._pagemap, _ENTRY_BYTES, self._entries[chunk])
        except OSError:
            return None
        return entry[7] >= _PRESENT if entry else None

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return not Path(f"/proc/{self.pid}").exists()

    def let_go(self, chunk: int) -> str | None:
        """Have the kernel drop a chunk; returns why it refused, None where it did not."""
        address, length = self._stretches[chunk]
        return page_out(self._process, address, length) if address else None


def find_target(pids: Iterable[int], files: Sequence[str], chunks: Chunks) -> Target | None:
    """The first of the processes that has a file of the model mapped and lets this one look at it."""
    inodes = [Path(path).stat().st_ino for path in files]
    names = [os.fsencode(Path(path).name) for path in files]
    for pid in pids:
        bases = _bases(pid, inodes, names)
        if not any(base is not None for base in bases):
            continue
        try:
            process = os.pidfd_open(pid)
        except OSError:  # it has ended
            continue
        try:
            pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(process)
            continue
        return Target(pid, chunks, bases, process, pagemap)
    return None


def _bases(pid: int, inodes: Sequence[int], names: Sequence[bytes]) -> list[int | None]:
    """Where a process has each file, by inode and name: a mapping's device is not stat's on btrfs and overlayfs."""
    found: list[int | None] = [None] * len(inodes)
    try:
        listed = Path(f"/proc/{pid}/maps").read_bytes().split(b"\n")
    except OSError:
        return found
    for line in listed:
        fields = line.split(None, 5)  # addresses, permissions, offset, device, inode, path
        if len(fields) < 6 or int(fields[4]) not in inodes:
            continue
        file = inodes.index(int(fields[4]))
        first, end = (int(number, 16) for number in fields[0].split(b"-"))
        if end - first >= _LEAST_BYTES and fields[5].rpartition(b"/")[2] == names[file]:
            found[file] = first - int(fields[2], 16)
    return found
