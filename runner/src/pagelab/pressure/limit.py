"""Pressure by a control group: the memory limit that leaves a share of the weights in RAM."""

from pagelab.host.cgroup import GroupCounters
from pagelab.host.procfs import PAGE_BYTES


def share_bytes(weights_bytes: int, resident: float, floor_bytes: int) -> int:
    """The page cache that is left to the weights: max(resident * weights, floor).

    The floor keeps enough of it for the kernel to make progress.
    """
    return max(round(resident * weights_bytes), floor_bytes)


def group_limit_bytes(anonymous_bytes: int, share: int) -> int:
    """The group's limit: anonymous_bytes + share, in whole pages.

    `anonymous_bytes` is what the calibration measured for this model and these settings: all that the group is charged
    for while decoding and that is no page cache.
    """
    return (anonymous_bytes + share) // PAGE_BYTES * PAGE_BYTES


def limit_was_felt(hits: int | None, counters: GroupCounters, limit_bytes: int) -> bool | None:
    """Whether the kernel had to hold the group at its limit; None where the counters could not be read.

    `limit_bytes` is the highest that the limit was.
    """
    if hits is None or counters.memory_bytes is None:
        return None
    return hits > 0 and counters.memory_bytes <= limit_bytes
