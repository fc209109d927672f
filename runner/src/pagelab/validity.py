"""Whether a trial may enter an aggregate: reasons why not, and warnings."""

import signal
from collections.abc import Iterator

from pagelab.observe.inference import Watched
from pagelab.record import TrialRecord, Validity
from pagelab.units import format_bytes

CLOCK_TOLERANCE = 0.02  # between our stamps and llama.cpp's own timings of decode
BASELINE_REREAD_LIMIT = 0.01  # of the weights that a baseline may read again while decoding
RESIDENCY_TOLERANCE = 0.05  # of the weights, between the share that was asked for and the one that was seen


def judge(record: TrialRecord, watched: Watched, oom_kills: int | None, tokens: int, repack_asked: bool) -> Validity:
    """Judge a trial by its record (without a verdict yet) and by how its process ended."""
    reasons = [
        *_ending(watched, oom_kills),
        *_token_reasons(record, watched, tokens),
        *_pressure_reasons(record),
        *_weights_reasons(record, repack_asked),
    ]
    return Validity(valid=not reasons, reasons=reasons, warnings=list(_warnings(record)))


def _ending(watched: Watched, oom_kills: int | None) -> Iterator[str]:
    if watched.timed_out:
        yield "it took longer than trial_timeout_seconds and was stopped"
    elif oom_kills:
        yield "the kernel killed a process because the group ran out of memory: raise memory.floor, or add swap"
    elif watched.exit_status == -signal.SIGKILL:
        yield "llama.cpp was killed from outside"
    elif watched.exit_status != 0:
        yield f"llama.cpp ended with status {watched.exit_status}: llama.log says why"


def _token_reasons(record: TrialRecord, watched: Watched, tokens: int) -> Iterator[str]:
    stamped = len(watched.token_seconds)
    generated = None if record.engine.decode_runs is None else record.engine.decode_runs + 1
    if stamped != tokens or (generated is not None and generated != tokens):
        yield f"{stamped} tokens were stamped and {generated} generated of {tokens} asked for"


def _pressure_reasons(record: TrialRecord) -> Iterator[str]:
    reread = record.reads.decode.model_bytes
    if record.limit.effective is False:
        yield (
            "the pressure was not felt to the end (limit.effective); for pinning set memory.fence_reserve, "
            "or lower memory.os_reserve"
        )
    no_pressure = record.factors.resident >= 1.0 and record.factors.weights == "mmap"
    if no_pressure and reread is not None and reread > BASELINE_REREAD_LIMIT * record.weights_bytes:
        yield f"the baseline read {format_bytes(reread)} of the model while decoding: something else took its memory"


def _weights_reasons(record: TrialRecord, repack_asked: bool) -> Iterator[str]:
    if record.engine.repacked_bytes and not repack_asked:
        yield f"llama.cpp repacked {format_bytes(record.engine.repacked_bytes)} of weights into anonymous memory"


def _warnings(record: TrialRecord) -> Iterator[str]:
    ours, theirs = record.decode.seconds, engine_decode_seconds(record)
    if ours and theirs and abs(ours - theirs) > CLOCK_TOLERANCE * ours:
        yield f"our clock counts {ours:.3f} s of decode and llama.cpp's {theirs:.3f} s"
    achieved, share = record.residency.achieved_fraction, record.limit.share_bytes
    if achieved is None or share is None:
        return
    asked = share / record.weights_bytes
    if abs(achieved - asked) > RESIDENCY_TOLERANCE:
        yield (
            f"{achieved:.1%} of the weights were resident while decoding, {asked:.1%} were left room for"
            f"{_anonymous_words(record)}"
        )


def _anonymous_words(record: TrialRecord) -> str:
    """What else the group's limit had to hold: the usual reason for a share that is not the one asked for."""
    kept, calibrated = record.memory.anonymous_bytes, record.limit.anonymous_bytes
    if kept is None or calibrated is None:
        return ""
    return f"; anonymous memory took {format_bytes(kept)}, {format_bytes(calibrated)} was calibrated"


def engine_decode_seconds(record: TrialRecord) -> float | None:
    """Decode by llama.cpp's clock with the choosing of the same tokens; it samples one token more than it decodes."""
    engine, tokens = record.engine, record.decode.tokens
    if engine.decode_seconds is None or engine.sampling_seconds is None or not tokens:
        return engine.decode_seconds
    return engine.decode_seconds + engine.sampling_seconds * tokens / (tokens + 1)
