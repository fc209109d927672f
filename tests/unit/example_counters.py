"""Two readings of the counters."""

from dataclasses import replace

from pagelab.host.cgroup import GroupCounters
from pagelab.observe.counters import Snapshot

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
    monotonic=1.0,
    group=GROUP,
    limit_hits=0,
    process_read_bytes=1000,
    process_faults=(10, 20),
    device_read_bytes=5000,
    swapped_in_bytes=100,
    swapped_out_bytes=50,
)
LAST = replace(
    FIRST,
    process_faults=(14, 36),
    group=replace(GROUP, major_faults=13, faults=48, refault_file_pages=25, refault_anon_pages=4),
    process_read_bytes=1700,
    device_read_bytes=5900,
    swapped_in_bytes=300,
    swapped_out_bytes=90,
)
