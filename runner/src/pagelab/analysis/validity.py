"""Whether a trial may enter an aggregate: reasons why not, and warnings."""

import signal
from collections.abc import Iterator

from pagelab.analysis.raw_trial import RawInference
from pagelab.config.schema import Config
from pagelab.store.observation import Observation, ObservedInference
from pagelab.store.record import Disturbance, TrialRecord, Validity
from pagelab.units import MIB, format_bytes

CLOCK_TOLERANCE = 0.02  # between our stamps and llama.cpp's own timings of decode
BASELINE_REREAD_LIMIT = 0.01  # of the weights that a baseline may read again while decoding
CLOCK_LATENCY_SECONDS = 0.015  # between the writing of a token and its stamp, beside two busy threads
OTHERS_SHARE = 0.05  # of what the disk delivered while decoding, by others than the trial
OTHERS_BYTES = 64 * MIB
THROTTLED_SHARE = 0.01
STOLEN_SHARE = 0.05
COMPETING_WARNED = 0.02  # of the time of all processors, by other processes
COMPETING_SHARE = 0.05
COMPETING_SECONDS = 0.1  # less says nothing: the kernel tells the CPU time of each process in steps of 0.01 s
SOURCES_TOLERANCE = 0.05  # of what was read, between independent counters of it
RESIDENCY_TOLERANCE = 0.03  # of the weights, between the share that was asked for and the one that was seen


def judge(record: TrialRecord, seen: Observation, raw: RawInference, config: Config) -> Validity:
    """Judge a trial by its record, which has no verdict yet, and by what was seen around it."""
    reasons = [
        *_ending(raw.seen, seen.oom_kills),
        *_token_reasons(record, raw, config.inference.tokens),
        *_clock_reasons(record),
        *_eviction_reasons(record),
        *_pressure_reasons(record),
        *_keeper_reasons(seen),
        *_weights_reasons(record, config.inference_with(record.factors).repack),
        *_swap_reasons(seen, config),
        *_disturbance_reasons(record),
        *_trace_reasons(record),
    ]
    return Validity(valid=not reasons, reasons=reasons, warnings=list(_warnings(record)))


def _ending(seen: ObservedInference, oom_kills: int | None) -> Iterator[str]:
    if seen.timed_out:
        yield "it took longer than trial_timeout_seconds and was stopped"
    elif oom_kills:
        yield "the kernel killed a process because the group ran out of memory: raise memory.floor, or add swap"
    elif seen.exit_status == -signal.SIGKILL:
        yield "llama.cpp was killed from outside"
    elif seen.exit_status != 0:
        yield f"llama.cpp ended with status {seen.exit_status}: llama.log says why"


def _token_reasons(record: TrialRecord, raw: RawInference, tokens: int) -> Iterator[str]:
    stamped = len(raw.token_seconds)
    generated = None if record.engine.decode_runs is None else record.engine.decode_runs + 1
    if generated == tokens and stamped < tokens:
        yield (
            f"{tokens - stamped} of {tokens} tokens printed nothing, so they have no stamp: "
            "take another inference.seed, prompt or model"
        )
    elif stamped != tokens or (generated is not None and generated != tokens):
        yield f"{stamped} tokens were stamped and {generated} generated of {tokens} asked for"


def _clock_reasons(record: TrialRecord) -> Iterator[str]:
    """Our decode lies between llama.cpp's own, and its own with all that it does not account for."""
    ours, bounds = record.decode.seconds, engine_decode_bounds(record)
    if ours is None or bounds is None:
        return
    least, most = bounds
    tolerance = CLOCK_TOLERANCE * ours + CLOCK_LATENCY_SECONDS
    if not least - tolerance <= ours <= most + tolerance:
        yield f"the clocks disagree: {ours:.3f} s of decode by ours, {least:.3f} to {most:.3f} s by llama.cpp's"


def _eviction_reasons(record: TrialRecord) -> Iterator[str]:
    if record.residency.before_fraction:
        yield (
            f"{record.residency.before_fraction:.1%} of the model was in the page cache before the trial, "
            "where no limit of this trial holds it"
        )


def _pressure_reasons(record: TrialRecord) -> Iterator[str]:
    reread = record.reads.decode.model_bytes
    if record.limit.effective is False:
        yield (
            "the pressure was not binding to the end (limit.effective); for pinning set memory.fence_reserve, "
            "or lower memory.os_reserve"
        )
    no_pressure = record.factors.resident >= 1.0 and record.factors.weights == "mmap"
    if no_pressure and reread is not None and reread > BASELINE_REREAD_LIMIT * record.weights_bytes:
        yield f"the baseline read {format_bytes(reread)} of the model while decoding: something else took its memory"


def _keeper_reasons(seen: Observation) -> Iterator[str]:
    if seen.keeper is None:
        return
    if seen.keeper.ended_early:
        yield "the keeper ended before llama.cpp did, so the kernel decided: look for what killed it"
    elif seen.keeper.refused:
        yield f"the kernel refused the keeper something ({seen.keeper.refused}): start through `make`, which allows it"


def _weights_reasons(record: TrialRecord, repack_asked: bool) -> Iterator[str]:
    if record.engine.decode_seconds is not None and record.engine.repacked_bytes is None:
        yield "llama.cpp's log names no buffer of weights, so that repacking would go unseen: look at llama.log"
    if record.engine.repacked_bytes and not repack_asked:
        yield f"llama.cpp repacked {format_bytes(record.engine.repacked_bytes)} of weights into anonymous memory"


def _swap_reasons(seen: Observation, config: Config) -> Iterator[str]:
    """Swap areas that are no disk, or on another one than `memory.swap_disk` declares; unseen ones pass."""
    if not seen.factors.limited:
        return
    for area in seen.swap:
        if area.compressed_memory:
            where = "compressed memory"
        elif area.on_model_disk is False and config.memory.swap_disk == "same":
            where = "on another disk than memory.swap_disk declares"
        else:
            continue
        yield f"swap is {area.path}, which is {where}: what was swapped did not come from the disk that the model is on"


def _disturbance_reasons(record: TrialRecord) -> Iterator[str]:
    seen, reads = record.disturbance, record.reads.decode
    if noticeable(reads.other_bytes, reads.device_bytes):
        yield f"others read {format_bytes(reads.other_bytes or 0)} from the model's disk while decoding: stop them"
    if noticeable(seen.disk_written_bytes, reads.device_bytes):
        yield f"{format_bytes(seen.disk_written_bytes or 0)} were written to the model's disk while decoding: stop that"
    if (seen.throttled_seconds or 0.0) > THROTTLED_SHARE * (record.decode.seconds or 0.0):
        yield f"a CPU quota held llama.cpp back for {seen.throttled_seconds:.2f} s: give it whole CPUs"
    if _competing_fraction(seen) > COMPETING_SHARE:
        yield _competing_words(record)
    if seen.thermal_events:
        yield f"the processor slowed itself down {seen.thermal_events} times for its heat: cool it, or pause longer"


def _competing_words(record: TrialRecord) -> str:
    """Who took processor time, and how long llama.cpp waited for a processor."""
    seen = record.disturbance
    who = f": {seen.other_processes}" if seen.other_processes else ""
    return (
        f"other processes took {seen.other_cpu_fraction or 0.0:.0%} of the CPU time while decoding, and llama.cpp "
        f"waited {seen.run_delay_fraction or 0.0:.0%} of its time for a processor{who}; stop them"
    )


def _competing_fraction(seen: Disturbance) -> float:
    """The share of the processors' time that others took; 0 where it is too little to say anything."""
    return (seen.other_cpu_fraction or 0.0) if (seen.other_cpu_seconds or 0.0) >= COMPETING_SECONDS else 0.0


def _waited_for_others(seen: Disturbance) -> bool:
    """Whether llama.cpp waited for a processor, and others can be why: they took at least as much time as it waited.

    It also waits without them: for the kernel's own threads, which reclaim memory and complete reads for it, and for
    the recorder of a trace. On two processors that was 14 % in a traced trial that was alone.
    """
    waited, taken = seen.run_delay_seconds or 0.0, seen.other_cpu_seconds or 0.0
    return taken >= waited >= COMPETING_SECONDS and (seen.run_delay_fraction or 0.0) > COMPETING_SHARE


def _trace_reasons(record: TrialRecord) -> Iterator[str]:
    if record.trace is None:
        return
    if record.trace.lost_events:
        yield f"the trace lost {record.trace.lost_events} events: record less (trace.issues, trace.page_cache)"
    if record.trace.ended_early:
        why = record.trace.ended_early
        yield f"the trace could not be recorded to its end ({why}): free space on its disk, or set trace.block to off"
    if "block" in record.trace.capped or record.trace.capped == record.trace.profiles:
        yield "the trace reached trace.most_bytes and ended early: raise it, or generate fewer tokens"


def noticeable(bytes_of_others: int | None, device_bytes: int | None) -> bool:
    """Whether traffic of others on the disk is more than a trial may have: a share of its own, and more than noise.

    A read in flight at a window's boundary is counted for the process before it and for the device after it, up to one
    readahead window a thread; less than OTHERS_BYTES says nothing.
    """
    return bytes_of_others is not None and bytes_of_others > max(OTHERS_BYTES, OTHERS_SHARE * (device_bytes or 0))


def _warnings(record: TrialRecord) -> Iterator[str]:
    if record.disturbance.stolen_fraction and record.disturbance.stolen_fraction > STOLEN_SHARE:
        yield (
            f"the hypervisor gave {record.disturbance.stolen_fraction:.0%} of the CPU time to others: "
            "repeat at a quiet time, or on a machine of its own"
        )
    taken = _competing_fraction(record.disturbance)
    if taken <= COMPETING_SHARE and (taken > COMPETING_WARNED or _waited_for_others(record.disturbance)):
        yield _competing_words(record)
    apart = record.sources.model.disagreement_fraction
    if apart is not None and apart > SOURCES_TOLERANCE and record.factors.weights == "mmap" and _many(record):
        yield f"counters of what was read of the model are {apart:.0%} apart (sources.model): trust none to the percent"
    if record.trace is not None and record.trace.capped:
        yield (
            "the trace of the page cache reached trace.most_bytes and ended early, only requests of the disk were "
            "traced to the end: raise it, or set trace.page_cache to faults"
        )
    achieved, share = record.residency.achieved_fraction, record.limit.share_bytes
    if achieved is None or share is None:
        return
    asked = share / record.weights_bytes
    leaves_room = record.factors.strategy != "kernel" and achieved < asked  # for what it reads ahead
    if abs(achieved - asked) > RESIDENCY_TOLERANCE and not leaves_room:
        yield (
            f"{achieved:.1%} of the weights were resident while decoding, {asked:.1%} were left room for"
            f"{_non_file_words(record)}"
        )


def _non_file_words(record: TrialRecord) -> str:
    """What else the group's limit had to hold: the usual reason for a share that is not the one asked for."""
    kept, calibrated = record.memory.non_file_bytes, record.limit.non_file_bytes
    if kept is None or calibrated is None:
        return ""
    return f"; memory beside page cache took {format_bytes(kept)}, {format_bytes(calibrated)} was calibrated"


def _many(record: TrialRecord) -> bool:
    """Whether enough was read for shares of it to mean something."""
    return (record.reads.decode.device_bytes or 0) > OTHERS_BYTES


def engine_decode_bounds(record: TrialRecord) -> tuple[float, float] | None:
    """The least and the most that decoding took by llama.cpp's clock, in seconds.

    The least is its decode time with the choosing of the same tokens (it samples one token more than it decodes); the
    most adds all that it does not account for, some of which belongs to other windows.
    """
    engine, tokens = record.engine, record.decode.tokens
    if engine.decode_seconds is None or not tokens:
        return None
    least = engine.decode_seconds + (engine.sampling_seconds or 0.0) * tokens / (tokens + 1)
    return least, least + (engine.unaccounted_seconds or 0.0)
