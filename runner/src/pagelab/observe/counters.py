"""The counters that are read at the boundaries of a trial's windows, and what lies between two readings."""

import time
from dataclasses import dataclass
from pathlib import Path

from pagelab.host.cgroup import Group, GroupCounters
from pagelab.host.procfs import PAGE_BYTES, process_read_bytes, vmstat
from pagelab.host.storage import Disk
from pagelab.observe.sampler import Reading
from pagelab.pressure.residency import resident_bytes
from pagelab.record import Faults, Reads, Refaults, Swap


@dataclass(frozen=True)
class Snapshot:
    """All counters at one moment; bytes, pages or events since boot or since the group or process was made."""

    monotonic: float
    group: GroupCounters
    limit_hits: int | None
    process_read_bytes: int | None
    device_read_bytes: int | None
    swapped_in_bytes: int | None
    swapped_out_bytes: int | None


@dataclass(frozen=True)
class Counters:
    """Where the counters of one trial are read: its group, its process, and the disk that holds the model."""

    group: Group
    disk: Disk
    model: Path
    weights_offset: int
    weights_bytes: int

    def snapshot(self, pid: int | None) -> Snapshot:
        """Read everything once; takes about a millisecond."""
        host = vmstat()
        return Snapshot(
            monotonic=time.monotonic(),
            group=self.group.counters(),
            limit_hits=self.group.limit_hits(),
            process_read_bytes=None if pid is None else process_read_bytes(pid),
            device_read_bytes=self.disk.read_bytes(),
            swapped_in_bytes=_pages(host.get("pswpin")),
            swapped_out_bytes=_pages(host.get("pswpout")),
        )

    def resident_bytes(self) -> int:
        """Bytes of the weights that are in the page cache; takes longer for a larger model."""
        return resident_bytes(self.model, self.weights_offset, self.weights_bytes)

    def sample(self, pid: int) -> Reading:
        """The readings of the sampler, some ten times a second."""
        now = self.snapshot(pid)
        return {
            "group_memory_bytes": now.group.memory_bytes,
            "group_file_bytes": now.group.file_bytes,
            "group_anonymous_bytes": now.group.not_file_bytes,
            "group_swap_bytes": now.group.swap_bytes,
            "model_resident_bytes": self.resident_bytes(),
            "process_read_bytes": now.process_read_bytes,
            "device_read_bytes": now.device_read_bytes,
            "swapped_in_bytes": now.swapped_in_bytes,
            "swapped_out_bytes": now.swapped_out_bytes,
            "major_faults": now.group.major_faults,
            "refault_file_pages": now.group.refault_file_pages,
            "refault_anon_pages": now.group.refault_anon_pages,
        }


def _pages(count: int | None) -> int | None:
    return None if count is None else count * PAGE_BYTES


def _between(before: int | None, after: int | None) -> int | None:
    """What a counter gained; None where one of the readings is absent."""
    return None if before is None or after is None else max(0, after - before)


def reads_between(before: Snapshot | None, after: Snapshot | None) -> Reads:
    """Bytes read in a window, by source.

    The process's own reads hold both what it faulted in from files and what it swapped in; taking the host's
    swapped-in bytes away leaves the file reads, which are the model's but for a few pages of programs and libraries.
    The device counts a read when it completes and the process when it is submitted, so a read in flight at a boundary
    can fall into different windows: `other_bytes` is only as exact as that.
    """
    if before is None or after is None:
        return Reads()
    process = _between(before.process_read_bytes, after.process_read_bytes)
    device = _between(before.device_read_bytes, after.device_read_bytes)
    swapped = _between(before.swapped_in_bytes, after.swapped_in_bytes)
    model = None if process is None or swapped is None else max(0, process - swapped)
    other = None if device is None or process is None else max(0, device - process)
    return Reads(model_bytes=model, swap_bytes=swapped, other_bytes=other, process_bytes=process, device_bytes=device)


def faults_between(before: Snapshot, after: Snapshot) -> Faults:
    """Page faults of the group in a window. The kernel counts a major fault among all faults; minor is the rest."""
    major = _between(before.group.major_faults, after.group.major_faults)
    every = _between(before.group.faults, after.group.faults)
    return Faults(major=major, minor=None if every is None or major is None else every - major)


def refaults_between(before: Snapshot, after: Snapshot) -> Refaults:
    """Evicted pages that came back in a window."""
    return Refaults(
        file_pages=_between(before.group.refault_file_pages, after.group.refault_file_pages),
        anon_pages=_between(before.group.refault_anon_pages, after.group.refault_anon_pages),
    )


def swap_between(before: Snapshot, after: Snapshot) -> Swap:
    """Bytes that the host swapped in a window."""
    return Swap(
        in_bytes=_between(before.swapped_in_bytes, after.swapped_in_bytes),
        out_bytes=_between(before.swapped_out_bytes, after.swapped_out_bytes),
    )
