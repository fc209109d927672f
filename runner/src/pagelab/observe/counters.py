"""The counters that are read at the boundaries of a trial's windows, and what lies between two readings."""

import time
from dataclasses import dataclass

from pagelab.host.cgroup import Group, GroupCounters
from pagelab.host.procfs import PAGE_BYTES, host_read_bytes, process_faults, process_read_bytes, vmstat
from pagelab.host.storage import Disk
from pagelab.observe.sampler import Reading
from pagelab.observe.tensors import TensorResidency
from pagelab.store.record import Faults, Reads, Refaults, Swap


@dataclass(frozen=True)
class Snapshot:
    """All counters at one moment; bytes, pages or events since boot or since the group or process was made."""

    monotonic: float
    group: GroupCounters
    limit_hits: int | None
    process_read_bytes: int | None
    process_faults: tuple[int, int] | None
    device_read_bytes: int | None
    swapped_in_bytes: int | None
    swapped_out_bytes: int | None
    device_written_bytes: int | None = None
    host_read_bytes: int | None = None
    group_read_bytes: int | None = None


@dataclass(frozen=True)
class Counters:
    """Where the counters of one trial are read: its group, its process, and the disk that holds the model."""

    group: Group
    disk: Disk
    tensors: TensorResidency

    def snapshot(self, pid: int | None) -> Snapshot:
        """Read everything once; takes about a millisecond."""
        host, number = vmstat(), self.disk.device_number
        device_read_bytes, device_written_bytes = self.disk.read_and_written_bytes()
        return Snapshot(
            monotonic=time.monotonic(),
            group=self.group.counters(),
            limit_hits=self.group.limit_hits(),
            process_read_bytes=None if pid is None else process_read_bytes(pid),
            process_faults=None if pid is None else process_faults(pid),
            device_read_bytes=device_read_bytes,
            swapped_in_bytes=bytes_of(host.get("pswpin")),
            swapped_out_bytes=bytes_of(host.get("pswpout")),
            device_written_bytes=device_written_bytes,
            host_read_bytes=host_read_bytes(host),
            group_read_bytes=None if number is None else self.group.read_bytes(number),
        )

    def sample(self, pid: int) -> Reading:
        """The readings of the sampler, some ten times a second; no more is read than is kept."""
        host, group = vmstat(), self.group.counters()
        return {
            "group_memory_bytes": group.memory_bytes,
            "group_file_bytes": group.file_bytes,
            "group_anonymous_bytes": group.not_file_bytes,
            "group_swap_bytes": group.swap_bytes,
            "group_limit_bytes": group.limit_bytes,
            "model_resident_bytes": self.tensors.look(),
            "process_read_bytes": process_read_bytes(pid),
            "device_read_bytes": self.disk.read_and_written_bytes()[0],
            "swapped_in_bytes": bytes_of(host.get("pswpin")),
            "swapped_out_bytes": bytes_of(host.get("pswpout")),
            "major_faults": group.major_faults,
            "refault_file_pages": group.refault_file_pages,
            "refault_anon_pages": group.refault_anon_pages,
        }


def bytes_of(pages: int | None) -> int | None:
    """A number of pages in bytes."""
    return None if pages is None else pages * PAGE_BYTES


def gained(before: int | None, after: int | None) -> int | None:
    """What a counter gained; None where one of the readings is absent."""
    return None if before is None or after is None else max(0, after - before)


def less(whole: int | None, part: int | None) -> int | None:
    """What is left of a count without a part of it; reads in flight at a boundary may make the part the larger."""
    return None if whole is None or part is None else max(0, whole - part)


def reads_between(before: Snapshot | None, after: Snapshot | None, swap_on_model_disk: bool) -> Reads:
    """Bytes read in a window, by source.

    The process's own reads hold both what it faulted in from files and what it swapped in; taking the host's
    swapped-in bytes away leaves the file reads, which are the model's but for a few pages of programs and libraries.
    The device counts a read when it completes and the process when it is submitted, so a read in flight at a boundary
    can fall into different windows: `other_bytes` is only as exact as that.
    """
    if before is None or after is None:
        return Reads()
    process = gained(before.process_read_bytes, after.process_read_bytes)
    device = gained(before.device_read_bytes, after.device_read_bytes)
    swapped = gained(before.swapped_in_bytes, after.swapped_in_bytes)
    model = less(process, swapped)
    other = less(device, process if swap_on_model_disk else model)
    return Reads(model_bytes=model, swap_bytes=swapped, other_bytes=other, process_bytes=process, device_bytes=device)


def faults_between(before: Snapshot, after: Snapshot) -> Faults:
    """Page faults of the process in a window, by all its threads."""
    if before.process_faults is None or after.process_faults is None:
        return Faults()
    return Faults(
        major=gained(before.process_faults[0], after.process_faults[0]),
        minor=gained(before.process_faults[1], after.process_faults[1]),
    )


def refaults_between(before: Snapshot, after: Snapshot) -> Refaults:
    """Evicted pages that came back in a window."""
    return Refaults(
        file_pages=gained(before.group.refault_file_pages, after.group.refault_file_pages),
        anon_pages=gained(before.group.refault_anon_pages, after.group.refault_anon_pages),
    )


def swap_between(before: Snapshot, after: Snapshot) -> Swap:
    """Bytes that the host swapped in a window."""
    return Swap(
        in_bytes=gained(before.swapped_in_bytes, after.swapped_in_bytes),
        out_bytes=gained(before.swapped_out_bytes, after.swapped_out_bytes),
    )
