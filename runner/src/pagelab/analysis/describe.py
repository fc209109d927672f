"""From what was watched to the record of a trial; nothing here touches the host but to read its memory."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pagelab.analysis import windows
from pagelab.analysis.validity import Surroundings, judge
from pagelab.config.schema import Config
from pagelab.host.procfs import meminfo_bytes, swap_areas
from pagelab.host.storage import Disk
from pagelab.host.swap import SwapPlace
from pagelab.inference.llama_cpp import parse_timings
from pagelab.models.gguf_map import GgufMap, bytes_per_token
from pagelab.observe.inference import Watched
from pagelab.pressure.applied import Applied
from pagelab.pressure.limit import limit_was_felt
from pagelab.run.plan import PlannedTrial
from pagelab.store.record import (
    Bound,
    HostMemory,
    Limit,
    Memory,
    Rereads,
    Residency,
    SwapUsed,
    Throughput,
    Traced,
    TrialRecord,
    Validity,
)

FELT_BELOW_FRACTION = 0.99  # pinning was felt when less of the weights than this was in RAM while decoding


@dataclass(frozen=True)
class Moment:
    """The host's memory at one moment."""

    time: str
    memory: HostMemory
    swap_used_bytes: int


@dataclass(frozen=True)
class Circumstances:
    """What surrounded an inference; sizes in bytes."""

    command: list[str]
    before: Moment
    after: Moment
    evicted_bytes: int | None
    resident_before_bytes: int
    swap: list[SwapPlace]
    model_disk: Disk
    pressure: Applied
    pressure_in_force: bool
    anonymous_bytes: int
    peak_bytes: int | None
    oom_kills: int | None
    trace: Traced | None = None

    @property
    def swap_on_model_disk(self) -> bool:
        """Whether the model's disk also serves swap; so it is taken to be where the kernel does not show it."""
        return any(place.is_on(self.model_disk) is not False for place in self.swap)


def now() -> Moment:
    """Read the host's memory and swap in use."""
    found = meminfo_bytes()
    memory = HostMemory(
        total_bytes=found.get("MemTotal"),
        free_bytes=found.get("MemFree"),
        available_bytes=found.get("MemAvailable"),
        cached_bytes=found.get("Cached"),
        locked_bytes=found.get("Mlocked"),
    )
    return Moment(datetime.now(UTC).isoformat(), memory, sum(area.used_bytes for area in swap_areas()))


def describe(
    trial: PlannedTrial,
    model: GgufMap,
    disk_read_bytes_per_second: float | None,
    config: Config,
    seen: Circumstances,
    watched: Watched,
) -> TrialRecord:
    """The record of a trial, judged."""
    faults, refaults, swap = windows.events_of(watched)
    engine = parse_timings(watched.log)
    residency = _residency(trial, model, seen, watched)
    swap_on_model_disk = seen.swap_on_model_disk
    record = TrialRecord(
        trial=trial.number,
        factors=trial.factors,
        repetition=trial.repetition,
        order=trial.number,
        started_at=seen.before.time,
        weights_bytes=model.weights_bytes,
        model_file_bytes=model.file_bytes,
        load=windows.load_of(watched),
        prompt=windows.prompt_of(watched, engine.prompt_tokens),
        decode=windows.decode_of(watched),
        time_to_first_token_seconds=watched.token_seconds[0] if watched.token_seconds else None,
        reads=windows.reads_of(watched, swap_on_model_disk),
        sources=windows.sources_of(watched, swap_on_model_disk, model.weights_bytes),
        faults=faults,
        refaults=refaults,
        swap=swap,
        memory=Memory(
            before=seen.before.memory,
            after=seen.after.memory,
            peak_bytes=seen.peak_bytes,
            non_file_bytes=windows.anonymous_bytes_of(watched),
        ),
        swap_used=SwapUsed(before_bytes=seen.before.swap_used_bytes, after_bytes=seen.after.swap_used_bytes),
        disturbance=windows.disturbance_of(watched),
        residency=residency,
        limit=_limit(trial, seen, watched, residency),
        engine=engine,
        trace=seen.trace,
        command=seen.command,
        exit_status=watched.exit_status,
        validity=Validity(valid=False),
    )
    _add_ratios(record, model, disk_read_bytes_per_second)
    record.validity = judge(record, watched, config, Surroundings(seen.oom_kills, strange_swap(seen, config)))
    return record


def strange_swap(seen: Circumstances, config: Config) -> list[str]:
    """Swap areas that are no disk, or on another one than `memory.swap_disk` declares; unseen ones pass."""
    found = []
    for place in seen.swap:
        if place.is_compressed_memory:
            found.append(f"{place.area.path}, which is compressed memory")
        elif place.is_on(seen.model_disk) is False and config.memory.swap_disk == "same":
            found.append(f"{place.area.path}, which is on another disk than memory.swap_disk declares")
    return found


def _residency(trial: PlannedTrial, model: GgufMap, seen: Circumstances, watched: Watched) -> Residency:
    """The share of the weights in the page cache; anonymous weights are not in there, so theirs stays absent."""
    mapped = trial.factors.weights == "mmap"

    def fraction(resident_bytes: float | None) -> float | None:
        return None if resident_bytes is None else min(1.0, resident_bytes / model.weights_bytes)

    return Residency(
        target_fraction=trial.factors.resident,
        before_fraction=fraction(seen.resident_before_bytes),
        at_first_fraction=fraction(windows.resident_at_first_bytes_of(watched)) if mapped else None,
        achieved_fraction=fraction(windows.resident_bytes_of(watched)) if mapped else None,
        after_fraction=fraction(watched.resident_at_last_bytes) if mapped else None,
        evicted_bytes=seen.evicted_bytes,
        before_load_bytes=seen.resident_before_bytes,
    )


def _limit(trial: PlannedTrial, seen: Circumstances, watched: Watched, residency: Residency) -> Limit:
    """What was applied, and whether it was felt until the last token.

    A group's limit is felt when the kernel had to hold the group there. Pinning without a fence has no such counter: it
    is felt when part of the weights was not in RAM while decoding, or when something was swapped out for them.
    """
    if not trial.limited:
        return Limit()
    last, pressure = watched.at_last, seen.pressure
    limits = windows.limits_of(watched) if pressure.limit_bytes is not None else []
    effective: bool | None = None
    if not seen.pressure_in_force:
        effective = False
    elif last is not None and pressure.limit_bytes is not None:
        effective = limit_was_felt(last.limit_hits, last.group, max([pressure.limit_bytes, *limits]))
    elif residency.achieved_fraction is not None:
        effective = residency.achieved_fraction < FELT_BELOW_FRACTION
    elif last is not None and last.swapped_out_bytes is not None:
        effective = last.swapped_out_bytes > (watched.at_start.swapped_out_bytes or 0)
    return Limit(
        bytes=pressure.limit_bytes,
        least_bytes=min(limits, default=None),
        most_bytes=max(limits, default=None),
        pinned_bytes=pressure.pinned_bytes,
        non_file_bytes=seen.anonymous_bytes,
        share_bytes=pressure.share_bytes,
        hits=last.limit_hits if last else None,
        effective=effective,
    )


def _add_ratios(record: TrialRecord, model: GgufMap, disk_read_bytes_per_second: float | None) -> None:
    """Fill in what follows from the measured values.

    rereads.factor = decode.model_bytes / weights_bytes. bound.tokens_per_second = disk rate / ((1 - resident) * bytes
    that one token touches): with a perfect choice of what stays in RAM, only the missing share is read for each token.
    """
    decode, rate = record.reads.decode, record.decode.tokens_per_second
    if decode.model_bytes is not None:
        record.rereads = Rereads(factor=decode.model_bytes / record.weights_bytes)
    if decode.device_bytes is not None and record.decode.seconds:
        record.throughput = Throughput(read_bytes_per_second=decode.device_bytes / record.decode.seconds)
    missing = (1 - record.factors.resident) * bytes_per_token(model)
    if missing > 0 and disk_read_bytes_per_second and rate:
        bound = disk_read_bytes_per_second / missing
        record.bound = Bound(tokens_per_second=bound, fraction_of_bound=rate / bound)
