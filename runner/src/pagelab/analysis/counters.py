"""What lies between two readings of the counters."""

from pagelab.store.observation import Snapshot
from pagelab.store.record import Faults, Reads, Refaults, Swap


def gained(before: int | None, after: int | None) -> int | None:
    """What a counter gained; None where one of the readings is absent."""
    return None if before is None or after is None else max(0, after - before)


def grown(before: float | None, after: float | None) -> float | None:
    """The same in seconds."""
    return None if before is None or after is None else max(0.0, after - before)


def share(part: float | None, whole: float | None) -> float | None:
    """A share of a whole, 1.0 at most; None where either is absent, or there is no whole."""
    return None if part is None or not whole else min(1.0, part / whole)


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
    return Faults(
        major=gained(before.process_major_faults, after.process_major_faults),
        minor=gained(before.process_minor_faults, after.process_minor_faults),
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
