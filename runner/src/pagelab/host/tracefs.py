"""Trace instances of our own in tracefs (kernel: Documentation/trace/ftrace.rst, "Instances").

The global trace belongs to whoever uses it; an instance has buffers, events, filters and a clock of its own, and
nothing of it is left when its directory is removed.
"""

import os
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.kernel_mounts import TRACEFS, mount_point, mounted, remove_directory
from pagelab.host.procfs import read_pairs, read_text

INSTANCE_PREFIX = "pagelab"
REMOVAL_SECONDS = 5.0  # a killed recorder lets go of its buffers only when the kernel has ended it
# What per_cpu/cpuN/stats calls events that were not recorded: pushed out, written while another write was under way,
# and refused because the buffer was full.
_LOST = ("overrun", "commit overrun", "dropped events")


def tracefs() -> Path:
    """Where tracefs is mounted.

    Raises:
        HostError: the kernel has no tracefs, or does not let us see it (lockdown "confidentiality", no CAP_SYS_ADMIN).
    """
    root = mount_point(TRACEFS)
    if not (root / "instances").is_dir():
        raise HostError(f"{root} has no instances: the kernel hides them (lockdown); set trace.page_cache to false")
    return root


def cannot_trace() -> str | None:
    """Why tracefs cannot be used here, None where it can."""
    try:
        root = tracefs()
    except HostError as error:
        return str(error)
    if not os.access(root / "instances", os.W_OK):
        return f"{root}/instances cannot be written; run as root"
    return None


class Instance:
    """One trace instance; `root` is where tracefs is mounted."""

    def __init__(self, root: Path, name: str = INSTANCE_PREFIX) -> None:
        self.path = root / "instances" / name
        self._root = root

    def create(self) -> None:
        """Make the instance; it records nothing yet.

        Raises:
            HostError: the kernel refused.
        """
        try:
            self.path.mkdir()
        except OSError as error:
            raise HostError(
                f"cannot make the trace instance {self.path} ({error.strerror}); `pagelab restore` removes an old one"
            ) from error
        self.set("tracing_on", "0")

    def set(self, name: str, value: str) -> None:
        """Write a file of the instance.

        Raises:
            HostError: the kernel refused the value, or has no such file.
        """
        try:
            (self.path / name).write_text(value)
        except OSError as error:
            raise HostError(f"{self.path / name} does not take {value!r} ({error.strerror})") from error

    def has_event(self, event: str) -> bool:
        """Whether this kernel has an event, named `system/event`."""
        return (self.path / "events" / event).is_dir()

    def format_of(self, event: str) -> str:
        """The kernel's description of an event."""
        return (self.path / "events" / event / "format").read_text(encoding="ascii")

    def enable(self, event: str, event_filter: str) -> None:
        """Record an event where a condition on its fields holds; the kernel looks at it before it writes anything.

        Raises:
            HostError: the kernel has no such event or field.
        """
        self.set(f"events/{event}/filter", event_filter)
        self.set(f"events/{event}/enable", "1")

    def disable(self, event: str) -> None:
        """Record an event no more."""
        self.set(f"events/{event}/enable", "0")

    def header_page(self) -> str:
        """The kernel's description of a sub-buffer."""
        return (self._root / "events" / "header_page").read_text(encoding="ascii")

    def processors(self) -> list[int]:
        """Numbers of the processors that have a buffer."""
        return sorted(int(path.name.removeprefix("cpu")) for path in (self.path / "per_cpu").glob("cpu[0-9]*"))

    def raw_file(self, processor: int) -> Path:
        """Where the sub-buffers of a processor are read."""
        return self.path / "per_cpu" / f"cpu{processor}" / "trace_pipe_raw"

    def lost_events(self) -> int | None:
        """Events that the kernel could not record, over all processors; None where it does not say."""
        stats = [read_pairs(self.path / "per_cpu" / f"cpu{number}" / "stats", ":") for number in self.processors()]
        lost = [one.get(name) for one in stats for name in _LOST]
        known = [count for count in lost if count is not None]
        return sum(known) if known and len(known) == len(lost) else None

    def text(self) -> str:
        """What was recorded so far, as text; it stays in the buffers."""
        return read_text(self.path / "trace") or ""

    def remove(self) -> None:
        """Remove the instance with all that it still holds.

        Raises:
            HostError: somebody still reads it.
        """
        remove_directory(self.path, REMOVAL_SECONDS, "stop what reads it, then type: pagelab restore")


def stale_instances() -> list[Instance]:
    """Instances of the lab that are there, as far as tracefs can be seen without mounting it."""
    root = mounted(TRACEFS)
    if root is None:
        return []
    return [Instance(root, path.name) for path in sorted((root / "instances").glob(f"{INSTANCE_PREFIX}*"))]
