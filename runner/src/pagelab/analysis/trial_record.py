"""From what a trial saw to its record: pure, so that the same raw files give the same trial.json anywhere."""

from pagelab.analysis import windows
from pagelab.analysis.bound import bound_of
from pagelab.analysis.raw_trial import RawInference
from pagelab.analysis.validity import judge
from pagelab.config.schema import Config
from pagelab.host.cgroup import GroupCounters
from pagelab.store.observation import Observation
from pagelab.store.record import (
    Access,
    KeeperRecord,
    Limit,
    Memory,
    Rereads,
    Residency,
    SwapUsed,
    Throughput,
    TrialRecord,
    Validity,
)

BINDING_BELOW_FRACTION = 0.99  # of the weights in RAM while decoding; with more, pinning was not binding


def refused_record(seen: Observation) -> TrialRecord:
    """The record of a trial that the host or llama.cpp refused."""
    record = _bare(seen)
    record.limit = Limit(non_file_bytes=seen.calibrated_non_file_bytes)
    record.validity = Validity(valid=False, reasons=[seen.refused or "it was not run to its end"])
    return record


def timed_record(seen: Observation, raw: RawInference) -> TrialRecord:
    """The record with the times of its windows alone: what has to be known to cut a trace into them."""
    record = _bare(seen)
    record.load = windows.load_of(raw)
    record.prompt = windows.prompt_of(raw, raw.engine.prompt_tokens)
    record.decode = windows.decode_of(raw)
    record.steady = windows.steady_of(raw)
    record.time_to_first_token_seconds = raw.token_seconds[0] if raw.token_seconds else None
    return record


def trial_record(
    timed: TrialRecord, seen: Observation, raw: RawInference, access: Access, config: Config
) -> TrialRecord:
    """Everything that trial.json says, verdict included.

    Args:
        timed: the record with the times of its windows; the rest is filled in.
        seen: what the trial saw.
        raw: its inference, with the other raw files.
        access: what its trace says; empty where nothing was traced, or the trace cannot be read.
        config: the configuration of the run.
    """
    record, on_model_disk = timed, seen.swap_on_model_disk
    record.reads = windows.reads_of(raw, on_model_disk)
    record.sources = windows.sources_of(raw, on_model_disk, seen.model.weights_bytes, access.page_added_bytes)
    record.access = access
    record.faults, record.refaults, record.swap = windows.events_of(raw)
    record.memory = Memory(
        before=seen.before.memory,
        peak_bytes=seen.peak_bytes,
        non_file_bytes=windows.non_file_bytes_of(raw),
    )
    record.swap_used = SwapUsed(before_bytes=seen.before.swap_used_bytes)
    if seen.after is not None:
        record.memory.after, record.swap_used.after_bytes = seen.after.memory, seen.after.swap_used_bytes
    record.disturbance = windows.disturbance_of(raw)
    record.residency = _residency(seen, raw)
    record.limit = _limit(seen, raw, record.residency)
    record.keeper = _keeper(seen)
    record.engine = raw.engine
    record.trace = seen.trace
    record.command = seen.command
    record.exit_status = raw.seen.exit_status
    _add_ratios(record, seen, config.disk.vendor_bytes_per_second)
    record.validity = judge(record, seen, raw, config)
    return record


def _bare(seen: Observation) -> TrialRecord:
    return TrialRecord(
        trial=seen.trial,
        factors=seen.factors,
        repetition=seen.repetition,
        order=seen.order,
        started_at=seen.before.time,
        weights_bytes=seen.model.weights_bytes,
        model_file_bytes=seen.model.file_bytes,
        validity=Validity(valid=False, reasons=["it was not judged"]),
    )


def _residency(seen: Observation, raw: RawInference) -> Residency:
    """The share of the weights in the page cache; anonymous and repacked ones are elsewhere, so theirs stays absent."""
    mapped = seen.factors.weights == "mmap" and not raw.engine.repacked_bytes

    def fraction(resident_bytes: float | None) -> float | None:
        return None if resident_bytes is None else min(1.0, resident_bytes / seen.model.weights_bytes)

    return Residency(
        target_fraction=seen.factors.resident,
        before_fraction=fraction(seen.resident_before_bytes),
        at_first_fraction=fraction(windows.resident_at_first_bytes_of(raw)) if mapped else None,
        achieved_fraction=fraction(windows.resident_bytes_of(raw)) if mapped else None,
        after_fraction=fraction(raw.seen.resident_at_last_bytes) if mapped else None,
        evicted_bytes=seen.evicted_bytes,
        before_load_bytes=seen.resident_before_bytes,
    )


def _keeper(seen: Observation) -> KeeperRecord:
    keeper = seen.keeper
    if keeper is None or keeper.ended_early:
        return KeeperRecord()

    def bytes_of(chunks: int | None) -> int | None:
        return None if chunks is None else chunks * keeper.chunk_bytes

    return KeeperRecord(
        held_bytes=keeper.held_bytes,
        memory_bytes=keeper.memory_bytes,
        let_go_bytes=bytes_of(keeper.chunks_let_go),
        read_ahead_bytes=bytes_of(keeper.chunks_read_ahead),
        cpu_seconds=keeper.cpu_seconds,
    )


def _limit(seen: Observation, raw: RawInference, residency: Residency) -> Limit:
    """What was applied, and whether it was binding until the last token."""
    if not seen.factors.limited:
        return Limit()
    last, pressure = raw.seen.at_last_token, seen.pressure
    limits = windows.limits_of(raw) if pressure.limit_bytes is not None else []
    return Limit(
        bytes=pressure.limit_bytes,
        least_bytes=min(limits, default=None),
        most_bytes=max(limits, default=None),
        pinned_bytes=pressure.pinned_bytes,
        non_file_bytes=seen.calibrated_non_file_bytes,
        share_bytes=pressure.share_bytes,
        hits=last.limit_hits if last else None,
        effective=_was_binding(seen, raw, residency, limits),
    )


def _was_binding(seen: Observation, raw: RawInference, residency: Residency, limits: list[int]) -> bool | None:
    """Whether the pressure kept something out of RAM until the last token; None where no counter says so.

    A group's limit is binding when the kernel had to hold the group there. Pinning without a fence has no such counter:
    it is binding when part of the weights was not in RAM while decoding, or when something was swapped out for them.
    """
    last, pressure = raw.seen.at_last_token, seen.pressure
    if not pressure.in_force:
        return False
    if last is not None and pressure.limit_bytes is not None:
        return limit_was_reached(last.limit_hits, last.group, max([pressure.limit_bytes, *limits]))
    if residency.achieved_fraction is not None:
        return residency.achieved_fraction < BINDING_BELOW_FRACTION
    if last is not None and last.swapped_out_bytes is not None:
        return last.swapped_out_bytes > (raw.seen.at_start.swapped_out_bytes or 0)
    return None


def limit_was_reached(hits: int | None, counters: GroupCounters, limit_bytes: int) -> bool | None:
    """Whether the kernel had to hold the group at its limit; None where the counters could not be read.

    `limit_bytes` is the highest that the limit was.
    """
    if hits is None or counters.memory_bytes is None:
        return None
    return hits > 0 and counters.memory_bytes <= limit_bytes


def _add_ratios(record: TrialRecord, seen: Observation, vendor_bytes_per_second: int | None) -> None:
    """Fill in what follows from the measured values: rereads.factor = decode.model_bytes / weights_bytes."""
    decode = record.reads.decode
    if decode.model_bytes is not None:
        record.rereads = Rereads(factor=decode.model_bytes / record.weights_bytes)
    if decode.device_bytes is not None and record.decode.seconds:
        record.throughput = Throughput(read_bytes_per_second=decode.device_bytes / record.decode.seconds)
    record.readahead = seen.readahead
    record.bound = bound_of(record, seen)
    if vendor_bytes_per_second and record.throughput.read_bytes_per_second is not None:
        record.bound.fraction_of_vendor = record.throughput.read_bytes_per_second / vendor_bytes_per_second
