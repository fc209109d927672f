"""How children of the lab start: inside a control group, and never outliving the lab."""

import ctypes
import os
import signal
from collections.abc import Callable

from pagelab.host.cgroup import Group

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc = ctypes.CDLL(None)


def enter(group: Group | None) -> Callable[[], None]:
    """What a child does between fork and exec: enter the group, and ask the kernel to kill it when its parent dies.

    Joining before exec charges everything that the program ever touches to the group. The function only makes system
    calls, as must be between fork and exec.
    """
    file = os.fsencode(group.processes_file) if group else None

    def enter_group() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if file is not None:
            descriptor = os.open(file, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)

    return enter_group
