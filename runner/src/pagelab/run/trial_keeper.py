"""The keeper of a trial, where its strategy has one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from pagelab.config.factors import Factors
from pagelab.host.cgroup import Group
from pagelab.inference.build import threads_of
from pagelab.keeper.chunks import CHUNK_BYTES
from pagelab.keeper.plan import duties_of, headroom_bytes, keeper_request
from pagelab.keeper.process import KeeperProcess
from pagelab.keeper.request import KeeperRequest
from pagelab.run.trial_setup import TrialSetup
from pagelab.store.observation import ObservedKeeper
from pagelab.store.record import ReadaheadWindow
from pagelab.units import KIB


class TrialKeeper:
    """A keeper in the trial's group; without a process it is the kernel that decides, and nothing is done.

    `memory_bytes` is what the group is charged for it beside pages of files.
    """

    def __init__(self, process: KeeperProcess | None = None, memory_bytes: int = 0) -> None:
        self._process = process
        self.memory_bytes = memory_bytes

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process, which reads for llama.cpp."""
        return () if self._process is None else (self._process.pid,)

    def hold(self) -> None:
        """Hold what is held before llama.cpp starts, now that the group has its limit."""
        if self._process is not None:
            self._process.hold()

    def observed(self) -> ObservedKeeper | None:
        """End it, and say what it did."""
        if self._process is None:
            return None
        report = self._process.finish()
        if report is None:
            return ObservedKeeper(chunk_bytes=CHUNK_BYTES, ended_early=True)
        return ObservedKeeper(
            memory_bytes=self.memory_bytes,
            held_first_bytes=self._process.held_first_bytes,
            chunk_bytes=CHUNK_BYTES,
            **asdict(report),
        )


@contextmanager
def trial_keeper(
    setup: TrialSetup, factors: Factors, group: Group, readahead: ReadaheadWindow
) -> Iterator[TrialKeeper]:
    """Start the keeper that the strategy asks for; it ends with the context.

    Raises:
        HostError: it did not start.
    """
    if factors.strategy == "kernel":
        yield TrialKeeper()
        return
    with KeeperProcess(_request(setup, factors, group, readahead), group) as process:
        yield TrialKeeper(process, group.counters().non_file_bytes or 0)


def _request(setup: TrialSetup, factors: Factors, group: Group, readahead: ReadaheadWindow) -> KeeperRequest:
    """What it is asked for: to hold the share that a trial names, or all that fits beside what is being read."""
    duties, model = duties_of(factors.strategy), setup.model
    if factors.held == "auto":
        threads = threads_of(setup.config.inference_with(factors))
        headroom = headroom_bytes(duties, (readahead.effective_kib or 0) * KIB, threads)
        most = setup.sizes(factors, 0).share_bytes(factors.resident) - headroom
    else:
        headroom, most = 0, round(factors.held * model.weights_bytes)
    return keeper_request(model, duties, most, most, headroom, groups=[group], target_group=group)
