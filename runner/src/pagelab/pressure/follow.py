"""A group's limit that follows what the group holds beside the weights, so that the weights keep exactly their share.

A fixed limit of non_file_bytes + share is exact only while anonymous memory is what the calibration saw. Cold
anonymous memory is swapped out late, at a moment that differs from run to run, and until then it sits in the weights'
share: half of a model became 32 to 47 % of it. The limit is the same sum with a live first term.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from pagelab.errors import HostError
from pagelab.host.cgroup import Group
from pagelab.host.page_cache import opened, resident_pages
from pagelab.host.procfs import PAGE_BYTES
from pagelab.host.repeater import Repeater

INTERVAL_SECONDS = 0.025  # a large file takes longer to look at, so its limit follows more slowly
SHARE_OF_A_CORE = 0.02  # more than is given to looking: a limit that lags makes a wrong share
STEP_BYTES = 16 * PAGE_BYTES  # a smaller change is not worth a system call


class FollowingLimit(Repeater):
    """A thread that keeps limit = (charged - resident weights) + share; use it as a context.

    What is charged and is no weight is anonymous and kernel memory, locked dummy memory, and pages of programs. Until
    `decoding` is called the limit is at least `least_bytes`, since memory is still being allocated then.
    """

    def __init__(
        self, group: Group, weights: Sequence[tuple[Path, int, int]], share_bytes: int, least_bytes: int
    ) -> None:
        # The processor's time is the cost, not the waiting while the kernel reclaims, or the limit would lag.
        super().__init__("following limit", self._follow, INTERVAL_SECONDS, time.thread_time, SHARE_OF_A_CORE)
        self._group = group
        self._weights = weights
        self._opened = ExitStack()
        self._files: list[tuple[int, tuple[int, int]]] = []  # descriptor, and where its weights begin and end
        self._share_bytes = share_bytes
        self._least = self._limit = least_bytes

    def __enter__(self) -> Self:
        """Begin to follow; the group is at `least_bytes` already."""
        for path, first, length in self._weights:
            self._files.append((self._opened.enter_context(opened(path)), (first, first + length)))
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Stop; the limit stays where it is."""
        super().__exit__()
        self._opened.close()

    def decoding(self) -> None:
        """All memory is allocated: from now on the limit may fall below where it began, but not below the share."""
        self._least = self._share_bytes

    def _follow(self) -> None:
        charged = self._group.memory_bytes()
        if charged is None:
            return
        resident = sum(int(resident_pages(file, bounds)[0]) for file, bounds in self._files) * PAGE_BYTES
        wanted = max(self._least, charged - resident + self._share_bytes) // PAGE_BYTES * PAGE_BYTES
        if abs(wanted - self._limit) < STEP_BYTES:
            return
        change = self._group.set_limit if wanted > self._limit else self._group.lower_limit
        with suppress(HostError):  # it could not be reclaimed down to there yet; the next look tries again
            self._limit = change(wanted)
