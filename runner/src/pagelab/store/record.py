"""The shapes of a run's JSON files. A value that could not be read is absent, never 0.

Sizes are bytes and times are seconds, unrounded. Counters belong to one of three windows of a trial:
`load` (start of the process until the model is ready), `prompt` (until the first generated token) and
`decode` (from the first generated token until the last).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pagelab import __version__
from pagelab.config.factors import Factors
from pagelab.config.model_specs import Sha256

SCHEMA_VERSION = 2  # 1 had no observation.json, so nothing of it can be computed again
WINDOWS = ("load", "prompt", "decode")


def _inside(name: str) -> str:
    if not name or name.startswith("/") or "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError("it does not name a file below its directory")
    return name


PathInside = Annotated[str, AfterValidator(_inside)]
"""The path of a file below a directory, which leads nowhere else."""


Natural = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A count, or bytes."""
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole; where two clocks or two counters are divided, which may give a little more than 1, an `Amount`."""


class Record(BaseModel):
    """Base of everything that is written: no unknown keys, no infinity, and absent values left out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def document(self) -> dict[str, Any]:
        """The record as plain JSON values, without the values that are absent."""
        return self.model_dump(mode="json", exclude_none=True)


class Tokens(Record):
    """Tokens processed in a window, by the lab's own monotonic clock."""

    tokens: Natural | None = None
    seconds: Amount | None = None
    tokens_per_second: Amount | None = None


class Decode(Tokens):
    """The decode window, and how long its tokens took.

    A percentile is the least time from one token to the next that so many percent of them did not exceed, absent where
    fewer tokens came than the one in so many that exceeds it: p90 needs ten tokens, p99 a hundred.
    """

    token_p50_seconds: Amount | None = None
    token_p90_seconds: Amount | None = None
    token_p99_seconds: Amount | None = None


class Steady(Record):
    """Decoding without its beginning: from the token of the number `from_token` on (0 is the first generated one).

    Absent where there are too few tokens to tell, or no end of the beginning was seen (docs/statistics.md).
    """

    from_token: Natural | None = None
    tokens: Natural | None = None
    seconds: Amount | None = None
    tokens_per_second: Amount | None = None


class Load(Record):
    """From the start of the process until llama.cpp says that it begins to generate."""

    seconds: Amount | None = None


class Reads(Record):
    """Bytes read in one window and where they came from.

    `device_bytes` is what the model's disk delivered to everyone; `process_bytes` what the inference process had
    submitted for itself (all threads); `swap_bytes` what the kernel swapped in; `model_bytes` the process's reads
    less the swapped-in ones; `other_bytes` what the device delivered beyond those two.
    """

    model_bytes: Natural | None = None
    swap_bytes: Natural | None = None
    other_bytes: Natural | None = None
    process_bytes: Natural | None = None
    device_bytes: Natural | None = None


class WindowReads(Record):
    """Reads in each window."""

    load: Reads = Reads()
    prompt: Reads = Reads()
    decode: Reads = Reads()


class Rereads(Record):
    """`factor` is decode.model_bytes over the bytes of the weights: how many times decoding read the model again."""

    factor: Amount | None = None


class Throughput(Record):
    """Bytes that the model's disk delivered during decode, over the seconds of decode."""

    read_bytes_per_second: Amount | None = None


class Access(Record):
    """What was read while decoding, in which order, in which sizes, how often again, from the trial's trace.

    All is absent where nothing was traced; the formulas are in docs/access.md, and access.json has the same and more
    for every window. `reads`, `read_bytes`, `swap_bytes`, `other_bytes`, `sequential_fraction_notes`, latencies and
    queue depths are of the traced disk and every reader, the rest of the model's files. `model_bytes_source` says what
    the latter were counted from (requests placed by the extents of the files, or pages that entered the page cache),
    `order` what the order of reads goes by.

    Three rules for "sequential": `sequential_fraction` the sound one (share of bytes, several streams, readahead
    windows merged, offsets of the file), `sequential_fraction_notes` the notes' rule (starts of two reads under 256
    sectors apart), `sequential_fraction_next` (a read starts where the one before ended).

    `distinct_bytes` were read at least once; `reread_factor` is model_bytes over them, `coverage_fraction` they over
    the model's files. `read_amplification` is model_bytes over the distinct bytes read that the process mapped too, and
    `read_amplification_per_token` the same with each token for itself.
    """

    model_bytes_source: Literal["block", "page_cache"] | None = None
    order: Literal["issue", "completion", "page_cache"] | None = None
    reads: Natural | None = None
    read_bytes: Natural | None = None
    model_reads: Natural | None = None
    model_bytes: Natural | None = None
    model_bytes_per_token: Amount | None = None
    swap_bytes: Natural | None = None
    other_bytes: Natural | None = None
    page_added_bytes: Natural | None = None
    mean_read_bytes: Amount | None = None
    median_read_bytes: Amount | None = None
    sequential_fraction: Share | None = None
    sequential_fraction_notes: Amount | None = None
    sequential_fraction_next: Amount | None = None
    mean_run_bytes: Amount | None = None
    median_run_bytes: Amount | None = None
    n50_run_bytes: Natural | None = None
    forward_fraction: Share | None = None
    backward_fraction: Share | None = None
    distinct_bytes: Natural | None = None
    reread_factor: Amount | None = None
    coverage_fraction: Amount | None = None
    read_amplification: Amount | None = None
    read_amplification_per_token: Amount | None = None
    latency_p50_seconds: Amount | None = None
    latency_p90_seconds: Amount | None = None
    latency_p99_seconds: Amount | None = None
    latency_max_seconds: Amount | None = None
    queue_depth_mean: Amount | None = None
    queue_depth_p50: Natural | None = None
    queue_depth_p99: Natural | None = None
    busy_fraction: Amount | None = None


class Faults(Record):
    """Page faults of the process during decode, by all its threads (/proc/PID/stat)."""

    major: Natural | None = None
    minor: Natural | None = None


class Refaults(Record):
    """Pages of the group that came back after having been evicted, during decode (memory.stat workingset_refault_*)."""

    file_pages: Natural | None = None
    anon_pages: Natural | None = None


class Swap(Record):
    """Bytes swapped in and out during decode (host-wide counters of /proc/vmstat)."""

    in_bytes: Natural | None = None
    out_bytes: Natural | None = None


class Disturbance(Record):
    """What else happened to the host while decoding.

    `disk_written_bytes` by anyone on the model's disk, less what was swapped out. `throttled_seconds`: time for
    which a CPU quota held the processes back (cpu.stat). `thermal_events`: times that a core or package was slowed
    down for its heat. `stolen_fraction`: share of the CPU time that the hypervisor gave to others (steal of
    /proc/stat). `other_cpu_seconds`: CPU time that other processes of the host took, `other_cpu_fraction` its share
    of the time of all processors, `other_processes` the busiest of them. `run_delay_seconds`: time for which
    llama.cpp's threads could have run and waited for a processor, `run_delay_fraction` its share of the time in
    which they could (schedstat). `cpu_stall_fraction`, `memory_stall_fraction`: share of the time in which some
    task of the host, the trial's among them, waited for a processor or for memory (PSI).
    """

    disk_written_bytes: Natural | None = None
    throttled_seconds: Amount | None = None
    thermal_events: Natural | None = None
    stolen_fraction: Share | None = None
    other_cpu_seconds: Amount | None = None
    other_cpu_fraction: Share | None = None
    other_processes: str | None = None
    run_delay_seconds: Amount | None = None
    run_delay_fraction: Share | None = None
    cpu_stall_fraction: Share | None = None
    memory_stall_fraction: Share | None = None


class HostMemory(Record):
    """/proc/meminfo at one moment."""

    total_bytes: Natural | None = None
    free_bytes: Natural | None = None
    available_bytes: Natural | None = None
    cached_bytes: Natural | None = None
    locked_bytes: Natural | None = None


class Memory(Record):
    """The host before and after the trial, and what the trial's group was charged.

    `peak_bytes` is the most it ever was. `non_file_bytes` is what it kept beside page cache while decoding (median):
    anonymous and shared memory, page tables and other memory of the kernel.
    """

    before: HostMemory = HostMemory()
    after: HostMemory = HostMemory()
    peak_bytes: Natural | None = None
    non_file_bytes: Amount | None = None


class SwapUsed(Record):
    """Swap in use on the host."""

    before_bytes: Natural | None = None
    after_bytes: Natural | None = None


class ModelSources(Record):
    """Bytes of the model file read during decode, by counters that know nothing of each other.

    `process_bytes`: read_bytes of /proc/PID/io less what was swapped in. `refault_bytes`: pages of the file that came
    back after eviction (workingset_refault_file of the group), which leaves out pages read for the first time.
    `device_bytes`: what the model's disk completed less what was swapped in from it, so reads of others are in it.
    `page_cache_bytes`: pages of the model file that entered the page cache, where they were traced.
    """

    process_bytes: Natural | None = None
    refault_bytes: Natural | None = None
    device_bytes: Natural | None = None
    page_cache_bytes: Natural | None = None
    disagreement_fraction: Share | None = None


class SwapSources(Record):
    """Bytes swapped in during decode.

    `host_bytes`: pswpin of /proc/vmstat. `refault_bytes`: anonymous pages of the group that came back
    (workingset_refault_anon). `group_bytes`: pswpin of the group's memory.stat, on kernels that have it there.
    """

    host_bytes: Natural | None = None
    refault_bytes: Natural | None = None
    group_bytes: Natural | None = None
    disagreement_fraction: Share | None = None


class OtherSources(Record):
    """Bytes that others read during decode.

    `device_bytes`: what the model's disk completed less what the inference process had submitted. `host_bytes`: pgpgin
    of /proc/vmstat (submitted to all disks) less the same. `group_bytes`: what the disk completed less rbytes of the
    group's io.stat (cgroup v2).
    """

    device_bytes: Natural | None = None
    host_bytes: Natural | None = None
    group_bytes: Natural | None = None
    disagreement_fraction: Share | None = None


class Sources(Record):
    """Where the bytes that were read during decode came from, each from independent counters.

    A `disagreement_fraction` is the largest less the smallest value over the bytes that all disks were asked for in
    the window (or the largest value, where that is more), so that 0.01 means one percent of what was read.
    """

    model: ModelSources = ModelSources()
    swap: SwapSources = SwapSources()
    other: OtherSources = OtherSources()


class Residency(Record):
    """Share of the weights in RAM: what was asked, and what was seen.

    `before_fraction`, and `before_load_bytes`, after eviction and before the process starts; `at_first_fraction` at the
    first look after the first token; `achieved_fraction` the median while decoding; `after_fraction` after the last
    token. `evicted_bytes` is what of the file was in the page cache before it was evicted, whoever had put it there.
    """

    target_fraction: Share | None = None
    achieved_fraction: Share | None = None
    before_fraction: Share | None = None
    at_first_fraction: Share | None = None
    after_fraction: Share | None = None
    evicted_bytes: Natural | None = None
    before_load_bytes: Natural | None = None


class Limit(Record):
    """The pressure that was applied; `bytes` is the group's limit, `pinned_bytes` the locked dummy memory.

    A limit that follows what the group holds beside the weights moves: `bytes` is then where it began, `least_bytes`
    and `most_bytes` the range while decoding. `non_file_bytes` is what the calibration saw beside page cache.

    `share_bytes` is the page cache that this leaves to the weights. `effective` says whether the pressure was binding:
    the kernel had to reclaim to keep the group below its limit or, for pinning without a fence, the model was not
    resident as a whole while decoding. All is absent where no pressure was asked.
    """

    bytes: Natural | None = None
    least_bytes: Natural | None = None
    most_bytes: Natural | None = None
    pinned_bytes: Natural | None = None
    non_file_bytes: Natural | None = None
    share_bytes: Natural | None = None
    hits: Natural | None = None
    effective: bool | None = None


class KeeperRecord(Record):
    """What the keeper did, where the strategy is not the kernel's alone (docs/keeper.md).

    `held_bytes` of the weights were locked after the last token, and `memory_bytes` are what it took for itself. In the
    whole trial `let_go_bytes` were dropped after their use, and `read_ahead_bytes` were asked for before it.
    """

    held_bytes: Natural | None = None
    memory_bytes: Natural | None = None
    let_go_bytes: Natural | None = None
    read_ahead_bytes: Natural | None = None
    cpu_seconds: Amount | None = None


class ReadaheadWindow(Record):
    """How far the kernel reads ahead in the model's file: as its disk, or its file system, is set, and in effect.

    `effective_kib` is what one page fault brings in for a file opened and advised as llama.cpp does (which doubles the
    window); absent where the file is too small to tell.
    """

    disk_kib: Natural | None = None
    effective_kib: Natural | None = None


class PolicyBound(Record):
    """The best for one way of deciding what stays in RAM; `missing_bytes_per_token` have to be read for each token.

    `tokens_per_second` where reading and computing overlap, `serial_tokens_per_second` where they do not;
    `fraction_of_bound` is the share of the former that the trial reached.
    """

    missing_bytes_per_token: Amount | None = None
    tokens_per_second: Amount | None = None
    serial_tokens_per_second: Amount | None = None
    fraction_of_bound: Amount | None = None


class Bound(Record):
    """The best that disk and processor allow (pagelab.analysis.bound); formulas are in docs/bound.md.

    `read_bytes_per_second` is the highest rate that is known of the disk, from `read_rate_source`.
    `tokens_per_second` and `fraction_of_bound` are those of `best`, the best possible residency.
    `pattern_bytes_per_second` is what the disk delivers for random reads of the size and depth that the trial's had.
    `fraction_of_vendor` is what the disk delivered while decoding over what its vendor states.
    """

    read_bytes_per_second: Amount | None = None
    read_rate_source: Literal["direct", "page cache", "random", "this trial"] | None = None
    compute_seconds_per_token: Amount | None = None
    tokens_per_second: Amount | None = None
    fraction_of_bound: Amount | None = None
    pattern_bytes_per_second: Amount | None = None
    fraction_of_vendor: Amount | None = None
    best: PolicyBound = PolicyBound()
    random: PolicyBound = PolicyBound()
    lru: PolicyBound = PolicyBound()


class EngineTimings(Record):
    """llama.cpp's own clock, from its log, to hold against ours.

    Its decode time leaves out the choosing of tokens, which it counts as `sampling_seconds`, and what it does not
    account for (`unaccounted_seconds`, where its build prints that): printing, and page faults of its own program
    outside of decoding. Ours holds all three.
    """

    load_seconds: Amount | None = None
    prompt_seconds: Amount | None = None
    prompt_tokens: Natural | None = None
    decode_seconds: Amount | None = None
    decode_runs: Natural | None = None
    sampling_seconds: Amount | None = None
    unaccounted_seconds: Amount | None = None
    repacked_bytes: Natural | None = None


class Traced(Record):
    """How the recording of reads went; absent where nothing was to be recorded.

    `recorders` is empty where the host allowed none; `notes` then say why. `lost_events` were counted by the kernel.
    `capped`: the profiles whose recording ended early, at trace.most_bytes. `same_disk`: the raw files were written to
    the model's disk (after the inference, as far as memory held them). `raw_bytes` is their size before compression.
    `ended_early`: what kept a recorder from recording to the end, absent where nothing did.
    """

    recorders: list[str] = Field(default_factory=list)
    profiles: list[str] = Field(default_factory=list)
    lost_events: Natural | None = None
    capped: list[str] = Field(default_factory=list)
    same_disk: bool = False
    raw_bytes: Natural | None = None
    recorder_cpu_seconds: Amount | None = None
    ended_early: str | None = None
    notes: list[str] = Field(default_factory=list)


class Validity(Record):
    """Whether the trial may enter an aggregate. `reasons` say why not; `warnings` do not make it invalid."""

    valid: bool
    reasons: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _follows_from_reasons(self) -> Self:
        if self.valid == bool(self.reasons):
            raise ValueError(f"valid is {str(self.valid).lower()}, with {len(self.reasons)} reasons why not")
        return self


class TrialRecord(Record):
    """trial.json: everything about one measured run.

    `derived_files` has the sha256 of every other derived file of the trial, by its name in the trial's directory.
    """

    schema_version: int = SCHEMA_VERSION
    trial: Natural
    factors: Factors
    repetition: Natural
    order: Natural
    started_at: str
    weights_bytes: Positive
    model_file_bytes: Natural
    load: Load = Load()
    prompt: Tokens = Tokens()
    decode: Decode = Decode()
    steady: Steady = Steady()
    time_to_first_token_seconds: Amount | None = None
    reads: WindowReads = WindowReads()
    sources: Sources = Sources()
    rereads: Rereads = Rereads()
    throughput: Throughput = Throughput()
    access: Access = Access()
    faults: Faults = Faults()
    refaults: Refaults = Refaults()
    swap: Swap = Swap()
    memory: Memory = Memory()
    swap_used: SwapUsed = SwapUsed()
    disturbance: Disturbance = Disturbance()
    residency: Residency = Residency()
    limit: Limit = Limit()
    readahead: ReadaheadWindow = ReadaheadWindow()
    keeper: KeeperRecord = KeeperRecord()
    bound: Bound = Bound()
    engine: EngineTimings = EngineTimings()
    trace: Traced | None = None
    command: list[str] = Field(default_factory=list)
    exit_status: int | None = None
    validity: Validity
    derived_files: dict[PathInside, Sha256] = Field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """What the trial says under dotted names, the columns of summary.parquet: `reads.decode.model_bytes`."""
        return flatten(self.model_dump(mode="json", exclude_none=True, exclude={"derived_files"}))


class Identity(Record):
    """What must be equal for two runs to be the same experiment."""

    config_sha256: str
    llama_cpp_commit: str
    llama_cpp_sha256: str
    other_engines_sha256: dict[str, str] = Field(default_factory=dict)
    image_digest: str | None = None
    model_sha256: dict[str, str]
    pagelab_version: str = __version__


CheckVerdict = Literal["pass", "warn", "fail", "info"]


class CheckRecord(Record):
    """One preflight check: what was found, why it matters, and what would fix it."""

    name: str
    verdict: CheckVerdict
    found: str
    why: str
    fix: str | None = None


class RunRecord(Record):
    """run.json: what was run, where, and how it ended. Written incomplete first, complete last.

    `trials_planned` are all trials of the plan up to now. The last of them, one for each number in `repeated`, came by
    the budget (`until`): each repeats the combination of the trial of that number.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str
    experiment: str
    host: str
    status: Literal["incomplete", "complete"]
    identity: Identity
    manifest: dict[str, Any]
    started_at: str
    ended_at: str | None = None
    trials_planned: Natural
    repeated: list[Positive] = Field(default_factory=list)
    trials_done: Natural = 0
    preflight: list[CheckRecord] = Field(default_factory=list)
    forced: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


def flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones: `reads.decode.model_bytes`."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat
