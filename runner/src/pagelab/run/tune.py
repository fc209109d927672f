"""Which strategy and readahead are fastest for a model in so much RAM: tried for real, in a group with that limit."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from pagelab.analysis.bootstrap import Interval, median_ratio_interval
from pagelab.config.schema import InferenceSettings
from pagelab.errors import InferenceError, shown
from pagelab.host.cgroup import Group
from pagelab.host.disk_rates import DiskRates
from pagelab.host.journal import Journal
from pagelab.host.kernel_setting import KernelSetting
from pagelab.host.page_cache import evict
from pagelab.host.storage import Disk
from pagelab.inference.build import Build, command_line
from pagelab.keeper.chunks import CHUNK_BYTES
from pagelab.keeper.hold import held, hold_plan
from pagelab.keeper.layout import chunks_of_every_token
from pagelab.keeper.plan import duties_of
from pagelab.models.gguf_map import GgufMap, bytes_per_token
from pagelab.observe.counters import Counters
from pagelab.observe.inference import watch
from pagelab.observe.tensors import TensorResidency
from pagelab.run.trial import put_back_afterwards, trial_group

STRATEGIES = ("kernel", "hold", "hold+behind+stream")
SHORT_READAHEAD_KIB = 128  # the kernel's own default, where a distribution or a disk has more
FINALISTS = 2  # beside stock
HOPELESS = 0.5  # of the best prediction
WORTH_IT = 1.03  # a winner is at least so much faster than stock, by the lower end of its interval above 1
TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class Candidate:
    """A strategy with a readahead; `None` leaves that as it is."""

    strategy: str
    readahead_kib: int | None = None

    @property
    def words(self) -> str:
        """Its name."""
        return self.strategy if self.readahead_kib is None else f"{self.strategy}, readahead {self.readahead_kib} KiB"


STOCK = Candidate("kernel")


@dataclass
class Tried:
    """A candidate, what the disk allows it, and tokens a second of each time that it was tried."""

    candidate: Candidate
    most_tokens_per_second: float | None
    speeds: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """The median."""
        return median(self.speeds) if self.speeds else 0.0


@dataclass(frozen=True)
class Tuned:
    """What was tried, and what is to be used: stock where nothing is faster beyond doubt.

    `ratio` is the speed of the choice over stock's, with its interval where there were enough repetitions.
    """

    tried: tuple[Tried, ...]
    chosen: Tried
    stock: Tried
    ratio: float
    interval: Interval | None


@dataclass(frozen=True)
class TuningBench:
    """What all candidates share: the model, its disk, the build, the memory that they get, and what is generated."""

    model: GgufMap
    disk: Disk
    build: Build
    journal: Journal
    ram_bytes: int
    settings: InferenceSettings

    def try_once(self, candidate: Candidate) -> float:
        """Tokens a second of the second half of what is generated, with nothing of the model in RAM before.

        Raises:
            InferenceError: llama.cpp failed.
            HostError: the host refused a step.
        """
        command = command_line(self.build, self.model.path, self.settings)
        with put_back_afterwards(self.journal), trial_group(self.journal, "tune") as group:
            if candidate.readahead_kib is not None:
                KernelSetting(self.disk.readahead_file, str(candidate.readahead_kib)).apply(self.journal)
            os.sync()
            evict(*self.model.parts)
            group.set_limit(self.ram_bytes)
            with TensorResidency(self.model) as tensors, self._keeper(candidate, group):
                counters = Counters(group, self.disk, tensors)
                watched = watch(command, counters, self.settings.tokens, TIMEOUT_SECONDS, sampled=False)
        if len(watched.token_seconds) < self.settings.tokens:
            last = (watched.log.strip().splitlines() or ["it printed nothing"])[-1]
            raise InferenceError(
                f"llama.cpp ended with status {watched.seen.exit_status} with {candidate.words} "
                f"({shown(last, 200)}); give it more --ram"
            )
        later = watched.token_seconds[len(watched.token_seconds) // 2 :]
        return 1 / median(after - before for before, after in pairwise(later))

    @contextmanager
    def _keeper(self, candidate: Candidate, group: Group) -> Iterator[None]:
        """The keeper that `pagelab hold` would start under this limit; none where the kernel is alone."""
        if candidate.strategy == STOCK.strategy:
            yield
            return
        with held(self.model, hold_plan(self.model, candidate.strategy, groups=[group]), group):
            yield


def tune(bench: TuningBench, rates: DiskRates, repetitions: int, tell: Callable[[str], None]) -> Tuned:
    """Try what may be fastest, the best few of them repeatedly beside stock, and choose.

    Raises:
        InferenceError: llama.cpp failed.
        HostError: the host refused a step.
    """
    tried = [Tried(one, predicted(one, bench, rates)) for one in candidates(bench.disk.readahead_kib())]
    best = max((one.most_tokens_per_second or 0.0 for one in tried), default=0.0)
    hopeful = [one for one in tried if one.candidate == STOCK or _may_win(one, best)]
    for one in hopeful:
        _try(one, bench, tell)
    stock, *_ = hopeful
    finalists = sorted(hopeful[1:], key=lambda one: -one.speed)[:FINALISTS]
    for _ in range(repetitions - 1):
        for one in (stock, *finalists):
            _try(one, bench, tell)
    return chosen(tried, stock, finalists)


def candidates(readahead_kib: int | None) -> list[Candidate]:
    """Stock, and each strategy with the readahead that there is, and with a short one."""
    lengths = [None] if readahead_kib in (None, SHORT_READAHEAD_KIB) else [None, SHORT_READAHEAD_KIB]
    return [Candidate(strategy, length) for strategy in STRATEGIES for length in lengths]


def predicted(candidate: Candidate, bench: TuningBench, rates: DiskRates) -> float | None:
    """Tokens a second at which the disk would be busy all the time, for a model that each token reads as a whole.

    The kernel keeps nothing of what is read by turns and does not fit (least recently used); what is held need not be
    read. None for a mixture of experts, of which it depends on the router.
    """
    model, needed = bench.model, bytes_per_token(bench.model)
    every_token = len(chunks_of_every_token(model)) * CHUNK_BYTES
    if model.experts:
        return None
    plan = hold_plan(model, candidate.strategy, groups=[])
    kept = max(0, bench.ram_bytes - plan.headroom_bytes) if duties_of(candidate.strategy).hold else 0
    missing = max(0, needed - min(kept, every_token)) if needed > bench.ram_bytes or kept else 0
    return rates.most_bytes_per_second / missing if missing else None


def chosen(tried: Sequence[Tried], stock: Tried, finalists: Sequence[Tried]) -> Tuned:
    """The fastest, if its interval says that it is faster than stock; else stock."""
    for one in sorted(finalists, key=lambda one: -one.speed):
        interval = median_ratio_interval(one.speeds, stock.speeds)
        ratio = one.speed / stock.speed if stock.speed else 0.0
        if ratio >= WORTH_IT and (interval is None or interval[0] > 1):
            return Tuned(tuple(tried), one, stock, ratio, interval)
    return Tuned(tuple(tried), stock, stock, 1.0, None)


def _may_win(tried: Tried, best: float) -> bool:
    return tried.most_tokens_per_second is None or tried.most_tokens_per_second >= HOPELESS * best


def _try(one: Tried, bench: TuningBench, tell: Callable[[str], None]) -> None:
    one.speeds.append(bench.try_once(one.candidate))
    tell(f"{one.candidate.words}: {one.speeds[-1]:.3g} tokens/s")
