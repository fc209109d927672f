"""File systems of the kernel's own: tracefs and debugfs, which a host may not have mounted, and directories in them."""

import ctypes
import errno
import os
import time
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.procfs import mounts

TRACEFS, DEBUGFS = "tracefs", "debugfs"
_MOUNT_POINTS = {TRACEFS: Path("/sys/kernel/tracing"), DEBUGFS: Path("/sys/kernel/debug")}

_libc = ctypes.CDLL(None, use_errno=True)


def mounted(kind: str) -> Path | None:
    """Where a file system is mounted already."""
    return next((Path(mount.mount_point) for mount in mounts() if mount.file_system == kind), None)


def mount_point(kind: str) -> Path:
    """Where a file system is mounted; where it is not, it is mounted at its usual place.

    The runner has a mount table of its own, so the host's stays as it is.

    Raises:
        HostError: the kernel has no such file system, or does not let us mount it.
    """
    found = mounted(kind)
    if found is not None:
        return found
    place = _MOUNT_POINTS[kind]
    if not place.is_dir() or _libc.mount(kind.encode(), os.fsencode(place), kind.encode(), 0, None) != 0:
        reason = os.strerror(ctypes.get_errno()) if place.is_dir() else "the kernel has none"
        raise HostError(f"{kind} cannot be mounted at {place} ({reason}); start through `make`")
    return place


def remove_directory(directory: Path, seconds: float, remedy: str) -> None:
    """Remove a control group or a trace instance; the kernel is busy with it for a while after its last user has gone.

    Raises:
        HostError: it is still in use after so many seconds, or the kernel refused.
    """
    deadline = time.monotonic() + seconds
    while directory.exists():
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise HostError(f"{directory} cannot be removed ({error.strerror}); {remedy}") from error
            time.sleep(0.01)
