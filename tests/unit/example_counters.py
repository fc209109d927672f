"""Two readings of the counters."""

from dataclasses import replace

from pagelab.host.cgroup import GroupCounters
from pagelab.store.observation import Snapshot

GROUP = GroupCounters(
    memory_bytes=100,
    file_bytes=60,
    swap_bytes=0,
    major_faults=10,
    faults=30,
    refault_file_pages=5,
    refault_anon_pages=1,
)
FIRST = Snapshot(
    monotonic_seconds=1.0,
    group=GROUP,
    limit_hits=0,
    process_read_bytes=1000,
    process_major_faults=10,
    process_minor_faults=20,
    device_read_bytes=5000,
    swapped_in_bytes=100,
    swapped_out_bytes=50,
)


def changed(reading: Snapshot, **changes: object) -> Snapshot:
    """The same reading with other values; a key of the group's is taken for the group."""
    of_group = {name: value for name, value in changes.items() if name in GroupCounters.__dataclass_fields__}
    rest = {name: value for name, value in changes.items() if name not in of_group}
    return reading.model_copy(update=rest | {"group": replace(reading.group, **of_group)})


LAST = changed(
    FIRST,
    process_major_faults=14,
    process_minor_faults=36,
    major_faults=13,
    faults=48,
    refault_file_pages=25,
    refault_anon_pages=4,
    process_read_bytes=1700,
    device_read_bytes=5900,
    swapped_in_bytes=300,
    swapped_out_bytes=90,
)
