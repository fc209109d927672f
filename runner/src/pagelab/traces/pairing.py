"""The issue that belongs to each completion of a block request.

A request may be issued several times before it completes (requeued), so it is the last issue before the completion, of
the same device and sector, that counts; an issue belongs to one completion.
"""

import numpy as np
from numpy.typing import NDArray

from pagelab.traces.damage import Damage, Problem
from pagelab.traces.events import Columns, Integers, Kind, joined, rows

LARGEST_OPEN = 1 << 20
"""Issues that wait for their completion at most; the oldest are forgotten, since they will hardly complete any more."""

_NUMBER_BITS = 63


class IssueMatcher:
    """Pairs batches that follow each other in time; an issue without completion waits for the next batch."""

    def __init__(self, damage: Damage, largest_open: int = LARGEST_OPEN) -> None:
        self._open = Kind.ISSUE.none()
        self._damage = damage
        self._largest_open = largest_open

    def match(self, issues: Columns, completions: Columns) -> tuple[Integers, NDArray[np.bool_]]:
        """When each completion's request was issued, and whether that is known; both tables are in time order."""
        issues = joined([self._open, issues], Kind.ISSUE)
        count = len(issues["time_ns"])
        both = {name: np.concatenate([issues[name], completions[name]]) for name in ("time_ns", "device", "sector")}
        in_time = np.argsort(both["time_ns"], kind="stable")  # an issue before a completion of the same moment
        order, same = _by_place(both["device"][in_time], both["sector"][in_time])
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

    def _keep(self, issues: Columns, waiting: NDArray[np.int64]) -> None:
        """Hold the issues that were the last event of their place."""
        waiting = np.sort(waiting)
        forgotten = max(len(waiting) - self._largest_open, 0)
        self._damage.add("block requests", Problem.UNMATCHED, forgotten)
        self._open = rows(issues, waiting[forgotten:])


def _by_place(device: NDArray[np.int16], sector: Integers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The events by device and sector, those of one place in their order; and which of them the next one is alike.

    Place and position go into one number where they fit, which sorts ten times faster than a key of several columns.
    """
    count = len(device)
    if count == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_)
    devices, least, most = int(device.max()) + 1, int(sector.min()), int(sector.max())
    position_bits = max(count - 1, 1).bit_length()
    if ((most - least + 1) * devices).bit_length() + position_bits <= _NUMBER_BITS:
        place = (sector - least) * devices + device
        both = np.sort(place << position_bits | np.arange(count), kind="stable")  # gains from what is in order already
        place = both >> position_bits
        return both & ((1 << position_bits) - 1), place[1:] == place[:-1]
    order = np.lexsort((sector, device))
    device, sector = device[order], sector[order]
    return order, (device[1:] == device[:-1]) & (sector[1:] == sector[:-1])
