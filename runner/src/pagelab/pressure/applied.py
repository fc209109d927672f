"""Applies the pressure that a trial's factors ask for, for as long as a context lasts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pagelab.config.factors import Factors
from pagelab.config.schema import MemorySettings
from pagelab.errors import HostError
from pagelab.host.cgroup import Group
from pagelab.host.procfs import PAGE_BYTES
from pagelab.pressure.follow import FollowingLimit
from pagelab.pressure.pin import PinnedMemory, pin_bytes, refuse_unsafe
from pagelab.store.observation import ObservedPressure
from pagelab.units import MIB

PAGE_TABLE_SHARE = 512  # a page table entry has 8 bytes for each page of 4096
LOCKER_BYTES = 32 * MIB  # the locking process itself


@dataclass(frozen=True)
class Sizes:
    """What the sizes of the pressure are computed from, all in bytes.

    `weights` is where they lie: file, offset and length, for each file; `are_mapped` whether llama.cpp leaves them
    there or has them in anonymous memory. `non_file_bytes` is what the calibration measured beside page cache, and
    `keeper_bytes` what a keeper in the group takes for itself: that comes out of the weights' share.
    """

    weights: tuple[tuple[Path, int, int], ...]
    weights_bytes: int
    are_mapped: bool
    non_file_bytes: int
    host_bytes: int
    memory: MemorySettings
    keeper_bytes: int = 0

    def share_bytes(self, resident: float) -> int:
        """The page cache that a group leaves to the weights."""
        return max(0, share_bytes(self.weights_bytes, resident, self.memory.floor) - self.keeper_bytes)

    def limit_bytes(self, share: int) -> int:
        """The group's limit with a share."""
        return group_limit_bytes(self.non_file_bytes + self.keeper_bytes, share)


@dataclass(frozen=True)
class Applied:
    """The pressure in force: the group's limit as the kernel holds it, and the locked dummy memory.

    `share_bytes` is the page cache that this leaves to the weights.
    """

    limit_bytes: int | None = None
    share_bytes: int | None = None
    pin: PinnedMemory | None = None
    follow: FollowingLimit | None = None

    def first_token(self) -> None:
        """Decoding has begun, so all memory is allocated."""
        if self.follow is not None:
            self.follow.decoding()

    def observed(self) -> ObservedPressure:
        """What was applied, and whether the dummy memory, if there is any, is still locked."""
        return ObservedPressure(
            limit_bytes=self.limit_bytes,
            share_bytes=self.share_bytes,
            pinned_bytes=None if self.pin is None else self.pin.size,
            in_force=self.pin is None or self.pin.alive,
        )


def share_bytes(weights_bytes: int, resident: float, floor_bytes: int) -> int:
    """The page cache that is left to the weights: max(resident * weights, floor).

    The floor keeps enough of it for the kernel to make progress.
    """
    return max(round(resident * weights_bytes), floor_bytes)


def group_limit_bytes(non_file_bytes: int, share: int) -> int:
    """The group's limit: non_file_bytes + share, in whole pages.

    `non_file_bytes` is what the calibration measured for this model and these settings: all that the group is charged
    for while decoding and that is no page cache.
    """
    return (non_file_bytes + share) // PAGE_BYTES * PAGE_BYTES


@contextmanager
def applied(factors: Factors, sizes: Sizes, group: Group) -> Iterator[Applied]:
    """Put the group, empty yet but for a keeper, under its limit, or lock dummy memory; both end with the context.

    Raises:
        HostError: the kernel refused, or the host could not spare the memory.
    """
    memory = sizes.memory
    if not factors.limited:
        yield Applied()
    elif factors.pressure == "cgroup":
        share = sizes.share_bytes(factors.resident)
        with _limited(sizes, group, share, sizes.limit_bytes(share)) as pressure:
            yield pressure
    elif memory.fence_reserve:
        with _fenced(sizes.share_bytes(factors.resident), sizes, group) as pressure:
            yield pressure
    else:
        share = share_bytes(sizes.weights_bytes, factors.resident, 0)
        size = pin_bytes(sizes.host_bytes, memory.os_reserve, share)
        refuse_unsafe(size, memory.os_reserve)
        with PinnedMemory(size) as pin:
            yield Applied(share_bytes=share, pin=pin)


@contextmanager
def _limited(
    sizes: Sizes, group: Group, share: int, limit_bytes: int, pin: PinnedMemory | None = None
) -> Iterator[Applied]:
    """Limit the group, and keep the weights' share whatever becomes of the rest.

    Anonymous weights have no share of their own to keep.
    """
    limit, follow = group.set_limit(limit_bytes), None
    if sizes.are_mapped and sizes.memory.follow_anonymous:
        follow = FollowingLimit(group, sizes.weights, share, limit)
    with follow or nullcontext():
        yield Applied(limit_bytes=limit, share_bytes=share, pin=pin, follow=follow)


@contextmanager
def _fenced(share: int, sizes: Sizes, group: Group) -> Iterator[Applied]:
    """Lock dummy memory inside the group, then limit the group to what that took plus the weights' share.

    Locking N bytes charges the group with more than N (page tables, the locking process), so the limit is set from what
    the kernel has charged; the locked memory is made smaller by an estimate of it to stay inside RAM - os_reserve.
    """
    beside = sizes.limit_bytes(share)
    size = pin_bytes(sizes.host_bytes, sizes.memory.os_reserve, beside)
    size = max(0, size - size // PAGE_TABLE_SHARE - LOCKER_BYTES) // PAGE_BYTES * PAGE_BYTES
    refuse_unsafe(size, sizes.memory.os_reserve)
    with PinnedMemory(size, group) as pin:
        charged = group.counters().memory_bytes
        if charged is None:
            raise HostError(f"{group.path} does not say what it is charged; use pressure cgroup, or no fence_reserve")
        with _limited(sizes, group, share, charged + beside - sizes.keeper_bytes, pin) as pressure:
            yield pressure
