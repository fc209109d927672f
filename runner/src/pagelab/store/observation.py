"""The shape of observation.json: what a trial saw, before anything is computed from it.

    trials/NNN/
      observation.json                               last of the raw files: where it is, the trial was measured
      llama.log  output.txt  tokens.parquet  samples.parquet  residency.parquet  trace/
      trial.json and the rest                        derived from the files above by pagelab.analysis.analyze

Counters are those of the kernel at one moment; what lies between two moments is for the analysis to say. A value that
could not be read is absent.
"""

import math
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from pagelab.config.factors import Factors
from pagelab.config.model_specs import Sha256
from pagelab.host.cgroup import GroupCounters
from pagelab.host.cpu_interference import CpuInterference
from pagelab.host.disk_rates import DiskRates
from pagelab.host.other_processes import OtherProcess
from pagelab.store.record import (
    SCHEMA_VERSION,
    Amount,
    HostMemory,
    Natural,
    PathInside,
    Positive,
    ReadaheadWindow,
    Record,
    Traced,
)

_Counted = TypeVar("_Counted", GroupCounters, CpuInterference)


def _counts_up(counters: _Counted) -> _Counted:
    for name, value in vars(counters).items():
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}, which no counter of the kernel can be")
    return counters


class Snapshot(Record):
    """All counters at one moment; bytes, pages or events since boot or since the group or process was made."""

    monotonic_seconds: Amount
    group: Annotated[GroupCounters, AfterValidator(_counts_up)]
    limit_hits: Natural | None = None
    process_read_bytes: Natural | None = None
    process_major_faults: Natural | None = None
    process_minor_faults: Natural | None = None
    device_read_bytes: Natural | None = None
    device_written_bytes: Natural | None = None
    swapped_in_bytes: Natural | None = None
    swapped_out_bytes: Natural | None = None
    host_read_bytes: Natural | None = None
    group_read_bytes: Natural | None = None


class ObservedOthers(Record):
    """The CPU time that other processes took from the prompt to the last token, and the busiest of them."""

    cpu_seconds: Amount
    busiest: list[OtherProcess] = Field(default_factory=list)


class ObservedInference(Record):
    """One inference. Times are seconds since the start of the process, on its monotonic clock.

    The counters were read at the start, when the model was loaded, at the first and at the last token; what was never
    reached is absent. `started_monotonic_seconds` is the start on CLOCK_MONOTONIC. `resident_at_last_bytes` of the
    weights were in the page cache after the last token. `exit_status` is negative where a signal ended the process.
    """

    at_start: Snapshot
    at_ready: Snapshot | None = None
    at_first_token: Snapshot | None = None
    at_last_token: Snapshot | None = None
    interference_at_ready: Annotated[CpuInterference, AfterValidator(_counts_up)] | None = None
    interference_at_last_token: Annotated[CpuInterference, AfterValidator(_counts_up)] | None = None
    others: ObservedOthers | None = None
    started_monotonic_seconds: Amount | None = None
    ready_seconds: Amount | None = None
    resident_at_last_bytes: Natural | None = None
    exit_status: int = 0
    timed_out: bool = False


class ObservedModel(Record):
    """Sizes of the model; `bytes_per_token` of the weights are touched by one token."""

    weights_bytes: Positive
    file_bytes: Natural
    bytes_per_token: Amount


class ObservedHost(Record):
    """The host's memory and swap in use at one moment."""

    time: str
    memory: HostMemory
    swap_used_bytes: Natural


class ObservedSwap(Record):
    """An active swap area. `on_model_disk` is absent where the kernel does not show its disk."""

    path: str
    compressed_memory: bool
    on_model_disk: bool | None = None


class ObservedPressure(Record):
    """The pressure that was applied: the group's first limit, and the locked dummy memory.

    `share_bytes` of page cache are left to the weights. `in_force` says whether the dummy memory, if there was any, was
    still locked at the end.
    """

    limit_bytes: Natural | None = None
    share_bytes: Natural | None = None
    pinned_bytes: Natural | None = None
    in_force: bool = True


class ObservedKeeper(Record):
    """What the keeper did, where the strategy had one; it ran in the trial's group.

    `memory_bytes` are what it took of the group for itself, `held_first_bytes` were held before llama.cpp started,
    `held_bytes` after the last token, and `most_held_bytes` at most. Chunks, of `chunk_bytes`, were let go after their
    use, and read ahead of it. `refused` is what the kernel said where it would not do something. `ended_early`: it was
    not there any more after the last token, and says nothing.
    """

    memory_bytes: Natural | None = None
    held_first_bytes: Natural | None = None
    held_bytes: Natural | None = None
    most_held_bytes: Natural | None = None
    chunk_bytes: Positive
    chunks_touched: Natural | None = None
    chunks_let_go: Natural | None = None
    chunks_read_ahead: Natural | None = None
    cpu_seconds: Amount | None = None
    refused: str | None = None
    ended_early: bool = False


class ObservedSetting(Record):
    """A kernel setting while the trial ran, and what it was before."""

    file: str
    value: str
    before: str | None = None


def _are_rates(rates: DiskRates) -> DiskRates:
    values = [value for value in vars(rates).values() if isinstance(value, int | float)]
    values += [value for one in rates.random for value in vars(one).values()]
    if not all(0 <= value < math.inf for value in values):
        raise ValueError("a rate, size or depth is negative or infinite, which none can be")
    return rates


class Observation(Record):
    """observation.json.

    `calibrated_non_file_bytes` is what the calibration saw the group hold beside page cache, and
    `compute_seconds_per_token` its median time from one token to the next, with all weights in RAM. `disk_rates` were
    measured before the trials (`disk_read_bytes_per_second` is what older versions measured). `refused` says why there
    was no inference; all that follows it is then absent. `raw_files` has the sha256 of every other raw file of the
    trial, by its path in the trial's directory.
    """

    schema_version: int = SCHEMA_VERSION
    trial: Natural
    factors: Factors
    repetition: Natural
    order: Natural
    model: ObservedModel
    calibrated_non_file_bytes: Natural
    compute_seconds_per_token: Amount | None = None
    disk_read_bytes_per_second: Amount | None = None
    disk_rates: Annotated[DiskRates, AfterValidator(_are_rates)] | None = None
    page_bytes: Positive
    before: ObservedHost
    refused: str | None = None
    after: ObservedHost | None = None
    command: list[str] = Field(default_factory=list)
    settings: list[ObservedSetting] = Field(default_factory=list)
    readahead: ReadaheadWindow = ReadaheadWindow()
    evicted_bytes: Natural | None = None
    resident_before_bytes: Natural | None = None
    swap: list[ObservedSwap] = Field(default_factory=list)
    pressure: ObservedPressure = ObservedPressure()
    keeper: ObservedKeeper | None = None
    peak_bytes: Natural | None = None
    oom_kills: Natural | None = None
    inference: ObservedInference | None = None
    trace: Traced | None = None
    raw_files: dict[PathInside, Sha256] = Field(default_factory=dict)

    @property
    def swap_on_model_disk(self) -> bool:
        """Whether the model's disk also serves swap; so it is taken to be where the kernel does not show it."""
        return any(area.on_model_disk is not False for area in self.swap)
