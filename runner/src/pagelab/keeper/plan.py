"""From a strategy to what a keeper is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

from pagelab.host.cgroup import Group
from pagelab.keeper.chunks import CHUNK_BYTES
from pagelab.keeper.layout import chunks_of_every_token, in_holding_order
from pagelab.keeper.reader import READERS
from pagelab.keeper.request import KeeperRequest
from pagelab.models.gguf_map import GgufMap
from pagelab.units import MIB

LAG_CHUNKS = 4  # between the use of a chunk and its release: one that comes again costs a whole readahead window
AHEAD_CHUNKS = 8  # 16 do not fit beside what is held, and are read twice
PROGRAM_BYTES = 16 * MIB  # pages of llama.cpp's own program and libraries


class Duties(NamedTuple):
    """What a keeper does with the chunks that every token touches."""

    hold: bool
    behind: bool
    stream: bool


def duties_of(strategy: str) -> Duties:
    """The parts of a strategy's name, such as hold+behind+stream; `kernel` has none."""
    words = strategy.split("+")
    return Duties(*(word in words for word in Duties._fields))


def headroom_bytes(duties: Duties, readahead_bytes: int, threads: int) -> int:
    """Page cache that is not held, so that what is read has room until it is used.

    What is on its way in and out, and the program; where the kernel reads, one window of readahead for each thread.
    """
    on_the_way = LAG_CHUNKS * duties.behind + (AHEAD_CHUNKS + READERS) * duties.stream
    windows_bytes = 0 if duties.stream else threads * readahead_bytes
    return windows_bytes + (on_the_way + 1) * CHUNK_BYTES + PROGRAM_BYTES


def keeper_request(
    model: GgufMap,
    duties: Duties,
    most_bytes: int,
    first_bytes: int,
    headroom: int,
    groups: Sequence[Group],
    target_group: Group | None = None,
) -> KeeperRequest:
    """What is asked for; `most_bytes` may be held in all, `first_bytes` before the target starts."""
    used = chunks_of_every_token(model)
    return KeeperRequest(
        files=[str(part.resolve()) for part in model.parts],
        used=used,
        order=in_holding_order(used) if duties.hold else [],
        most_bytes=max(0, most_bytes),
        first_bytes=max(0, first_bytes),
        headroom_bytes=headroom,
        lag=LAG_CHUNKS if duties.behind else 0,
        ahead=AHEAD_CHUNKS if duties.stream else 0,
        groups=[str(group.path) for group in groups],
        target_group=str(target_group.path) if target_group else None,
    )
