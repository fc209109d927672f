"""The counters that are read at the boundaries of a trial's windows, and ten times a second between them."""

import time
from dataclasses import dataclass

from pagelab.host.cgroup import Group
from pagelab.host.procfs import PAGE_BYTES, host_read_bytes, process_faults, process_read_bytes, vmstat
from pagelab.host.storage import Disk
from pagelab.observe.sampler import Reading
from pagelab.observe.tensors import TensorResidency
from pagelab.store.observation import Snapshot


@dataclass(frozen=True)
class Counters:
    """Where the counters of one trial are read: its group, its process, and the disk that holds the model.

    What `helpers` read, other processes, they read for it.
    """

    group: Group
    disk: Disk
    tensors: TensorResidency
    helpers: tuple[int, ...] = ()

    def snapshot(self, pid: int | None) -> Snapshot:
        """Read everything once; takes about a millisecond."""
        host, numbers = vmstat(), self.disk.device_numbers
        faults = None if pid is None else process_faults(pid)
        device_read_bytes, device_written_bytes = self.disk.read_and_written_bytes()
        return Snapshot(
            monotonic_seconds=time.monotonic(),
            group=self.group.counters(),
            limit_hits=self.group.limit_hits(),
            process_read_bytes=self._read_bytes(pid),
            process_major_faults=faults[0] if faults else None,
            process_minor_faults=faults[1] if faults else None,
            device_read_bytes=device_read_bytes,
            swapped_in_bytes=_bytes_of(host.get("pswpin")),
            swapped_out_bytes=_bytes_of(host.get("pswpout")),
            device_written_bytes=device_written_bytes,
            host_read_bytes=host_read_bytes(host),
            group_read_bytes=None if numbers is None else self.group.read_bytes(*numbers),
        )

    def sample(self, pid: int) -> Reading:
        """The readings of the sampler, some ten times a second; no more is read than is kept."""
        host, group = vmstat(), self.group.counters()
        return {
            "group_memory_bytes": group.memory_bytes,
            "group_file_bytes": group.file_bytes,
            "group_non_file_bytes": group.non_file_bytes,
            "group_swap_bytes": group.swap_bytes,
            "group_limit_bytes": group.limit_bytes,
            "model_resident_bytes": self.tensors.look(),
            "process_read_bytes": self._read_bytes(pid),
            "device_read_bytes": self.disk.read_and_written_bytes()[0],
            "swapped_in_bytes": _bytes_of(host.get("pswpin")),
            "swapped_out_bytes": _bytes_of(host.get("pswpout")),
            "major_faults": group.major_faults,
            "refault_file_pages": group.refault_file_pages,
            "refault_anon_pages": group.refault_anon_pages,
        }

    def _read_bytes(self, pid: int | None) -> int | None:
        """What the process, if it has started, and its helpers have read up to now."""
        readers = self.helpers if pid is None else (pid, *self.helpers)
        counts = [count for one in readers if (count := process_read_bytes(one)) is not None]
        return sum(counts) if counts else None


def _bytes_of(pages: int | None) -> int | None:
    """A number of pages in bytes."""
    return None if pages is None else pages * PAGE_BYTES
