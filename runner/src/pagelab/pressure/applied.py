"""Applies the pressure that a trial's factors ask for, for as long as a context lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pagelab.config import MemorySettings
from pagelab.host.cgroup import Group
from pagelab.pressure.limit import group_limit_bytes
from pagelab.pressure.pin import PinnedMemory, pin_bytes, refuse_unsafe
from pagelab.record import Factors


@dataclass(frozen=True)
class Sizes:
    """What the sizes of the pressure are computed from, all in bytes.

    `anonymous_bytes` is what the calibration measured beside the weights.
    """

    weights_bytes: int
    anonymous_bytes: int
    host_bytes: int
    memory: MemorySettings


@dataclass(frozen=True)
class Applied:
    """The pressure in force: the group's limit as the kernel holds it, and the locked dummy memory."""

    limit_bytes: int | None = None
    pinned_bytes: int | None = None


def limit_of(factors: Factors, sizes: Sizes) -> int | None:
    """The limit of the trial's group; None where there is none."""
    if factors.resident >= 1.0:
        return None
    if factors.pressure == "cgroup":
        return group_limit_bytes(sizes.anonymous_bytes, sizes.weights_bytes, factors.resident, sizes.memory.floor)
    return sizes.host_bytes - sizes.memory.os_reserve if sizes.memory.fence_reserve else None


def pinned_of(factors: Factors, sizes: Sizes) -> int | None:
    """The memory that the trial locks; None where it locks none."""
    if factors.resident >= 1.0 or factors.pressure != "pin":
        return None
    memory = sizes.memory
    beside = sizes.anonymous_bytes if memory.fence_reserve else 0
    share = max(round(factors.resident * sizes.weights_bytes), memory.floor if memory.fence_reserve else 0)
    return pin_bytes(sizes.host_bytes, memory.os_reserve, share, beside)


@contextmanager
def applied(factors: Factors, sizes: Sizes, group: Group) -> Iterator[Applied]:
    """Put the group, which is empty yet, under its limit, and lock dummy memory; both end with the context.

    Raises:
        HostError: the kernel refused, or the host could not spare the memory.
    """
    limit, pinned = limit_of(factors, sizes), pinned_of(factors, sizes)
    if limit is not None:
        limit = group.set_limit(limit)
    if not pinned:
        yield Applied(limit_bytes=limit)
        return
    refuse_unsafe(pinned, sizes.memory.os_reserve)
    with PinnedMemory(pinned, group if sizes.memory.fence_reserve else None):
        yield Applied(limit_bytes=limit, pinned_bytes=pinned)
