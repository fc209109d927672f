"""Any command beside a keeper of its model: what `pagelab hold` does, with and without the lab."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pagelab.errors import HostError, shown
from pagelab.host.cgroup import Group, limiting_groups
from pagelab.host.environment import CAP_IPC_LOCK, CAP_SYS_NICE, capabilities
from pagelab.host.storage import disk_of_all
from pagelab.keeper.plan import Duties, duties_of, headroom_bytes, keeper_request
from pagelab.keeper.process import KeeperProcess
from pagelab.keeper.request import KeeperReport
from pagelab.keeper.room import room_bytes
from pagelab.models.gguf_map import GgufMap
from pagelab.units import KIB, format_bytes

FIRST_SHARE = 0.5  # of the room there is before the command has taken its own memory
ADVISED = 2  # llama.cpp's advice doubles the readahead of its open file


@dataclass(frozen=True)
class HoldPlan:
    """What is going to be done; `notes` say what of the wish this process is not allowed."""

    duties: Duties
    most_bytes: int
    first_bytes: int
    headroom_bytes: int
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def hold_plan(
    model: GgufMap, strategy: str, budget_bytes: int | None = None, groups: Sequence[Group] | None = None
) -> HoldPlan:
    """What a strategy comes to here; without a budget, it follows the memory that there is.

    Args:
        model: the model.
        strategy: as the factor of that name has it.
        budget_bytes: to hold of it.
        groups: whose limits count, those of this process where they are not given.

    Raises:
        HostError: this process may not hold anything.
    """
    duties, notes = duties_of(strategy), []
    if duties.behind and CAP_SYS_NICE not in capabilities():
        notes.append(
            f"without CAP_SYS_NICE the kernel lets nobody release another process's pages, so {strategy} becomes hold "
            "alone; start as root, or: setpriv --ambient-caps +sys_nice,+ipc_lock --inh-caps +sys_nice,+ipc_lock"
        )
        duties = Duties(hold=True, behind=False, stream=False)
    groups = tuple(limiting_groups() if groups is None else groups)
    readahead = disk_of_all(model.parts).readahead_kib() or 0
    headroom = headroom_bytes(duties, ADVISED * readahead * KIB, os.cpu_count() or 1)
    most, allowed = model.file_bytes if budget_bytes is None else budget_bytes, lockable_bytes()
    if duties.hold and allowed is not None and allowed < most:
        if allowed == 0:
            raise HostError("this process may lock no memory: raise `ulimit -l`, or give it CAP_IPC_LOCK")
        notes.append(
            f"only {format_bytes(allowed)} may be locked: raise `ulimit -l`, or give this process CAP_IPC_LOCK"
        )
        most = allowed
    first = most if budget_bytes is not None else round(FIRST_SHARE * room_bytes(groups, 0, headroom))
    return HoldPlan(duties, most, min(first, most), headroom, tuple(groups), tuple(notes))


def lockable_bytes() -> int | None:
    """What this process may lock, by `ulimit -l`; None where it may lock all."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if CAP_IPC_LOCK in capabilities() or limit == resource.RLIM_INFINITY else limit


@contextmanager
def held(model: GgufMap, plan: HoldPlan, group: Group | None = None) -> Iterator[KeeperProcess]:
    """A keeper that follows what runs in `group` or, without one, what descends from this process.

    Raises:
        HostError: it did not start, or ended.
    """
    request = keeper_request(
        model, plan.duties, plan.most_bytes, plan.first_bytes, plan.headroom_bytes, plan.groups, group
    )
    with KeeperProcess(request, group) as keeper:
        keeper.hold()
        yield keeper


def run_beside(keeper: KeeperProcess, command: Sequence[str]) -> tuple[int, KeeperReport | None]:
    """Run a command to its end; returns its exit status, as a shell has it, and what the keeper did.

    Signals to this process go on to the command. Should the keeper be killed, the command goes on without it.

    Raises:
        HostError: the command cannot be started.
    """
    with _handed_on() as children:
        try:
            child = subprocess.Popen(command)
        except (OSError, ValueError) as error:
            raise HostError(f"{shown(command[0])} cannot be started ({error}); look at its name") from error
        children.append(child)
        status = child.wait()
    return (status if status >= 0 else 128 - status), keeper.finish()


@contextmanager
def _handed_on() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Hand signals on to the processes in the list; a terminal sends Ctrl-C to them itself."""
    children: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            if number != signal.SIGINT:
                child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
