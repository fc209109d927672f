"""The keeper itself, a process: `python -m pagelab.keeper.keep`.

It reads a `KeeperRequest` from its standard input and says `started`; told to `hold`, it holds what it is to hold
before llama.cpp starts, and says `ready`. Then it follows llama.cpp through the model until its standard input ends or
SIGTERM comes, and writes a `KeeperReport`. It imports little, because its memory comes out of what it is there to save.

A dense model is read in the same order for every token. The kernel drops what was used longest ago, which is what comes
next; the best it could do is to drop what was used last. So some chunks are held for good, and each of the others is
let go soon after its use, and is read in again by this process, in one large request, shortly before the next.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pagelab.host.cgroup import Group
from pagelab.host.other_processes import descendants, processes
from pagelab.keeper.chunks import CHUNK_BYTES, Chunks
from pagelab.keeper.holding import Holding
from pagelab.keeper.memory import FileWindow
from pagelab.keeper.reader import AheadReader
from pagelab.keeper.request import KeeperReport, KeeperRequest
from pagelab.keeper.room import room_bytes
from pagelab.keeper.target import Target, find_target
from pagelab.keeper.touch_order import TouchOrder

LOOK_SECONDS = 0.001  # computing on a chunk takes 0.2 ms, reading it 0.8 ms
ROOM_SECONDS = 0.02
SEARCH_SECONDS = 0.05
LOOKED_AHEAD = 12  # chunks in the learned order that are looked at each time; all of them every WHOLE_LOOK times
WHOLE_LOOK = 4
GROWS_AFTER_SECONDS = 1.0  # for which there was room
ROOM_STEP_BYTES = 4 * CHUNK_BYTES  # less is not taken or given back


class Keeper:
    """Follows one process through the model."""

    def __init__(self, request: KeeperRequest) -> None:
        self._request = request
        self._windows = [FileWindow(path) for path in request.files]
        self.chunks = Chunks([window.size for window in self._windows])
        self._groups = [Group(Path(path)) for path in request.groups]
        self._holding = Holding(self.chunks, self._windows, request.order)
        self._order = TouchOrder(request.used)
        self._reader: AheadReader | None = None
        self._touched: set[int] = set()
        self._asked: set[int] = set()  # read ahead, and not touched yet
        self._used: deque[int] = deque()  # touched, in order, and neither held nor let go yet
        self._looks = 0
        self._room_since: float | None = None
        self._next_room = 0.0
        self._allowed = min(request.first_bytes, request.most_bytes)
        self.chunks_touched = self.chunks_let_go = 0
        self.refused: str | None = None

    def hold_first(self) -> None:
        """Hold what is held before the target starts."""
        self._holding.want(min(self._allowed, self._room()))
        self._holding.take_all()
        self._holding.leave_unmapped(range(len(self.chunks)))
        if self._request.ahead:
            self._reader = AheadReader(self.chunks, self._windows)

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self._holding.bytes

    @property
    def has_to_look(self) -> bool:
        """Whether there is something to let go of or to read."""
        return self._request.lag > 0 and self._holding.bytes < len(self._request.used) * CHUNK_BYTES

    def step(self, target: Target) -> bool:
        """Look once, and do what follows from it; returns False once the target has ended."""
        if self._request.lag:
            for chunk in self._looked_at():
                touched = target.has_touched(chunk)
                if touched is None:
                    return False
                self._note(chunk, touched)
            self._read_ahead()
            self._let_go(target)
        elif target.has_ended():
            return False
        self.follow_room()
        return True

    def follow_room(self) -> None:
        """Hold less at once where memory is short, and more once there was room for a while."""
        now = time.monotonic()
        if now < self._next_room:
            return
        self._next_room = now + ROOM_SECONDS
        room = min(self._room(), self._request.most_bytes)
        if room < self._holding.bytes - ROOM_STEP_BYTES or room < self._allowed - ROOM_STEP_BYTES:
            self._allowed, self._room_since = room, None
            self._holding.want(room)
        elif room < self._allowed + ROOM_STEP_BYTES:
            self._room_since = None
        elif self._room_since is None:
            self._room_since = now
        elif now - self._room_since > GROWS_AFTER_SECONDS:
            self._allowed = room
            self._holding.want(room)
            if not self._request.lag:  # nobody will bring the chunks by
                self._holding.take_all()

    def report(self) -> KeeperReport:
        """What was done up to now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return KeeperReport(
            held_bytes=self._holding.bytes,
            most_held_bytes=self._holding.most_bytes,
            chunks_touched=self.chunks_touched,
            chunks_let_go=self.chunks_let_go,
            chunks_read_ahead=self._reader.reads if self._reader else 0,
            cpu_seconds=used.ru_utime + used.ru_stime,
            refused=self._holding.refused or self.refused,
        )

    def _room(self) -> int:
        return room_bytes(self._groups, self._holding.bytes, self._request.headroom_bytes)

    def _looked_at(self) -> Iterable[int]:
        """The chunks that come next in the learned order, and every now and then all that are not held."""
        self._looks += 1
        if self._looks % WHOLE_LOOK:
            return list(self._order.ahead(LOOKED_AHEAD, self._holding.__contains__))
        return [chunk for chunk in self._request.used if chunk not in self._holding]

    def _note(self, chunk: int, touched: bool) -> None:
        if touched and chunk not in self._touched:
            self._asked.discard(chunk)
            self.chunks_touched += 1
            self._touched.add(chunk)
            self._used.append(chunk)
            self._order.touched(chunk)
        elif not touched:
            self._touched.discard(chunk)

    def _read_ahead(self) -> None:
        if self._reader is not None and self._used:
            for chunk in self._order.ahead(self._request.ahead, self._holding.__contains__):
                if chunk not in self._touched and chunk not in self._asked:
                    self._asked.add(chunk)
                    self._reader.ask(chunk)

    def _let_go(self, target: Target) -> None:
        while len(self._used) > self._request.lag:
            chunk = self._used.popleft()
            if self._holding.take(chunk):
                self._touched.discard(chunk)
                continue
            problem = target.let_go(chunk)
            self.refused = self.refused or problem
            self.chunks_let_go += 1
            self._touched.discard(chunk)


def _candidates(request: KeeperRequest) -> Iterable[int]:
    """Where the target may be: the processes of its group, or what descends from this one's parent."""
    if request.target_group is not None:
        found: Iterable[int] = Group(Path(request.target_group)).processes()
    else:
        found = descendants(processes(), {os.getppid()})
    return [pid for pid in found if pid != os.getpid()]


def _go_first() -> None:
    """Come before llama.cpp's threads, which spin on every processor, and be the first to go where memory runs out."""
    for call in (
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
        lambda: Path("/proc/self/oom_score_adj").write_text("1000"),
    ):
        try:
            call()
        except OSError:  # without CAP_SYS_NICE it comes late, which is slower and not wrong
            continue


class _Stopped(Exception):  # noqa: N818 - nothing is wrong
    """SIGTERM came, or standard input ended."""


def _stop(_number: int, _frame: object) -> None:
    raise _Stopped


def _pause(seconds: float) -> None:
    """Wait; raises _Stopped where standard input has ended."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        raise _Stopped


def _say(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be a keeper until told to stop."""
    signal.signal(signal.SIGTERM, _stop)
    request = KeeperRequest.parse(sys.stdin.readline())
    ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX: threads need no memory of their own
    _go_first()
    keeper = Keeper(request)
    try:
        _say({"started": True})
        if not sys.stdin.readline():
            return
        keeper.hold_first()
        _say({"ready": True, "held_bytes": keeper.held_bytes})
        while True:
            follow(keeper, request)
    except _Stopped:
        _say(asdict(keeper.report()))


def follow(keeper: Keeper, request: KeeperRequest) -> None:
    """Wait for a target, and follow it to its end."""
    while (target := find_target(_candidates(request), request.files, keeper.chunks)) is None:
        keeper.follow_room()
        _pause(SEARCH_SECONDS)
    with target:
        while keeper.step(target):
            _pause(LOOK_SECONDS if keeper.has_to_look else ROOM_SECONDS)


if __name__ == "__main__":
    main()
