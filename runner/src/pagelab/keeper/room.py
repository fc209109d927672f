"""How much of a model may be held: what is left beside memory that cannot be dropped, and beside what is being read."""

from collections.abc import Sequence

from pagelab.host.cgroup import Group
from pagelab.host.procfs import meminfo_bytes

HOST_RESERVE_SHARE = 1 / 16  # of the host's RAM, left to everything else where no group's limit comes first


def room_bytes(groups: Sequence[Group], held_bytes: int, headroom_bytes: int) -> int:
    """Bytes that may be held in all, never negative.

    For each group with a limit: limit - (what it is charged and is no page of a file) - headroom. For the host:
    what is available, and what is held already, less its reserve.

    Args:
        groups: those whose limits the holding process is under.
        held_bytes: what it holds now, which the kernel does not count as available.
        headroom_bytes: page cache to leave to what is not held.
    """
    memory = meminfo_bytes()
    reserve = int(memory.get("MemTotal", 0) * HOST_RESERVE_SHARE)
    least = memory.get("MemAvailable", 0) + held_bytes - reserve
    for group in groups:
        counters = group.counters()
        if counters.limit_bytes is not None and counters.non_file_bytes is not None:
            least = min(least, counters.limit_bytes - counters.non_file_bytes)
    return max(0, least - headroom_bytes)
