"""The issue that belongs to each completion of a block request.

A request may be issued several times before it completes (requeued), so it is the last issue before the completion, of
the same device and sector, that counts; an issue belongs to one completion.
"""

import numpy as np

from pagelab.traces.arrays import Columns, Integers, Mask, joined, rows, sorted_pairs
from pagelab.traces.events import Kind
from pagelab.traces.problems import Problems

LARGEST_OPEN = 1 << 20
"""Issues that wait for their completion at most; the oldest are forgotten, since they will hardly complete any more."""


class IssueMatcher:
    """Pairs batches that follow each other in time; an issue without completion waits for the next batch."""

    def __init__(self, problems: Problems, largest_open: int = LARGEST_OPEN) -> None:
        self._open = Kind.ISSUE.empty()
        self._problems = problems
        self._largest_open = largest_open

    def match(self, issues: Columns, completions: Columns) -> tuple[Integers, Mask]:
        """When each completion's request was issued, and whether that is known; both tables are in time order."""
        issues = joined([self._open, issues])
        count = len(issues["time_ns"])
        time_ns, device, sector = (
            np.concatenate([issues[name], completions[name]]) for name in ("time_ns", "device", "sector")
        )
        # One number for disk and sector: those of whole disks leave room for as many disks as there may be.
        place = (sector - sector.min(initial=0)) * (int(device.max(initial=0)) + 1) + device
        in_time = np.argsort(time_ns, kind="stable")  # an issue before a completion of the same moment
        place, order = sorted_pairs(place[in_time], np.arange(len(in_time)))
        same = place[1:] == place[:-1]
        event = in_time[order]
        is_issue = event < count
        pairs = np.flatnonzero(is_issue[:-1] & ~is_issue[1:] & same)
        issued_ns = np.zeros(len(completions["time_ns"]), dtype=np.int64)
        known = np.zeros(len(issued_ns), dtype=np.bool_)
        completion = event[pairs + 1] - count
        issued_ns[completion] = issues["time_ns"][event[pairs]]
        known[completion] = True
        self._keep(issues, event[is_issue & np.append(~same, True)[: len(event)]])
        return issued_ns, known

    def _keep(self, issues: Columns, waiting: Integers) -> None:
        """Hold the issues that were the last event of their place."""
        waiting = np.sort(waiting)
        forgotten = max(len(waiting) - self._largest_open, 0)
        what = f"issue of a request that did not complete within {self._largest_open} others; forgotten"
        self._problems.note("block requests", what, forgotten)
        self._open = rows(issues, waiting[forgotten:])
