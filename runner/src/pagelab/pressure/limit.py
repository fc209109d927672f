"""Pressure by a control group: the memory limit that leaves a share of the weights in RAM."""

from pagelab.host.cgroup import GroupCounters
from pagelab.host.procfs import PAGE_BYTES


def group_limit_bytes(anonymous_bytes: int, weights_bytes: int, resident: float, floor_bytes: int) -> int:
    """The group's limit: anonymous_bytes + max(resident * weights_bytes, floor_bytes), in whole pages.

    `anonymous_bytes` is what the calibration run measured for this model and these settings: all that the group is
    charged for and that is no page cache. The floor keeps enough page cache for the kernel to make progress.
    """
    page_cache = max(round(resident * weights_bytes), floor_bytes)
    return (anonymous_bytes + page_cache) // PAGE_BYTES * PAGE_BYTES


def limit_was_felt(hits: int | None, counters: GroupCounters, limit_bytes: int) -> bool | None:
    """Whether the kernel had to hold the group at its limit; None where the counters could not be read."""
    if hits is None or counters.memory_bytes is None:
        return None
    return hits > 0 and counters.memory_bytes <= limit_bytes
