"""The windows of a watched inference: load, prompt and decode, each with its own times and counters."""

from dataclasses import replace
from statistics import median

from pagelab.analysis.sources import sources_between
from pagelab.observe.counters import (
    Snapshot,
    faults_between,
    gained,
    less,
    reads_between,
    refaults_between,
    swap_between,
)
from pagelab.observe.inference import Watched
from pagelab.store.record import Disturbance, Faults, Load, Refaults, Sources, Swap, Tokens, WindowReads


def load_of(watched: Watched) -> Load:
    """The load window: from the start of the process to its line that generation begins."""
    return Load(seconds=watched.ready_seconds)


def prompt_of(watched: Watched, prompt_tokens: int | None) -> Tokens:
    """The prompt window: from ready to the first generated token, which comes with the last prompt token."""
    if watched.ready_seconds is None or not watched.token_seconds:
        return Tokens(tokens=prompt_tokens)
    return _rate(prompt_tokens, watched.token_seconds[0] - watched.ready_seconds)


def decode_of(watched: Watched) -> Tokens:
    """The decode window: from the first token to the last, so one token fewer than were generated."""
    if len(watched.token_seconds) < 2:
        return Tokens()
    return _rate(len(watched.token_seconds) - 1, watched.token_seconds[-1] - watched.token_seconds[0])


def _rate(tokens: int | None, seconds: float) -> Tokens:
    rate = tokens / seconds if tokens and seconds > 0 else None
    return Tokens(tokens=tokens, seconds=seconds, tokens_per_second=rate)


def reads_of(watched: Watched, swap_on_model_disk: bool) -> WindowReads:
    """Reads in each window."""
    return WindowReads(
        load=reads_between(_began(watched), watched.at_ready, swap_on_model_disk),
        prompt=reads_between(watched.at_ready, watched.at_first, swap_on_model_disk),
        decode=reads_between(watched.at_first, watched.at_last, swap_on_model_disk),
    )


def _began(watched: Watched) -> Snapshot:
    """The start; a process that has not started has read nothing, so its counter begins at 0."""
    return replace(watched.at_start, process_read_bytes=0)


def sources_of(watched: Watched, swap_on_model_disk: bool, weights_bytes: int) -> Sources:
    """Where the bytes of decode came from, each by independent counters."""
    if watched.at_first is None or watched.at_last is None:
        return Sources()
    before = reads_between(_began(watched), watched.at_first, swap_on_model_disk)
    whole = (before.model_bytes or 0) >= weights_bytes
    return sources_between(watched.at_first, watched.at_last, swap_on_model_disk, whole)


def disturbance_of(watched: Watched) -> Disturbance:
    """What else happened to the host while decoding; strain of the processors is counted from the prompt on."""
    first, last = watched.at_first, watched.at_last
    began, ended = watched.strain_at_ready, watched.strain_at_last
    if first is None or last is None or began is None or ended is None:
        return Disturbance()
    written = gained(first.device_written_bytes, last.device_written_bytes)
    swapped = gained(first.swapped_out_bytes, last.swapped_out_bytes)
    stolen, ticks = gained(began.stolen_ticks, ended.stolen_ticks), gained(began.all_ticks, ended.all_ticks)
    throttled = (began.throttled_seconds, ended.throttled_seconds)
    return Disturbance(
        disk_written_bytes=less(written, swapped),
        throttled_seconds=None if throttled[0] is None or throttled[1] is None else throttled[1] - throttled[0],
        thermal_events=gained(began.thermal_events, ended.thermal_events),
        stolen_fraction=stolen / ticks if stolen is not None and ticks else None,
    )


def limits_of(watched: Watched) -> list[int]:
    """The limits that the group was seen to have while decoding, in bytes."""
    seen = _sampled_while_decoding(watched, "group_limit_bytes")
    points = (watched.at_first, watched.at_last)
    return seen + [point.group.limit_bytes for point in points if point is not None and point.group.limit_bytes]


def events_of(watched: Watched) -> tuple[Faults, Refaults, Swap]:
    """Faults, refaults and swapping while decoding."""
    first, last = watched.at_first, watched.at_last
    if first is None or last is None:
        return Faults(), Refaults(), Swap()
    return faults_between(first, last), refaults_between(first, last), swap_between(first, last)


def resident_at_first_bytes_of(watched: Watched) -> int | None:
    """The first look at the weights in the page cache after the first token; None where decoding was shorter."""
    return next(iter(_sampled_while_decoding(watched, "model_resident_bytes")), None)


def resident_bytes_of(watched: Watched) -> float | None:
    """Median of the weights' bytes in the page cache: samples taken while decoding, and one after the last token.

    The last one is there however short the decoding was.
    """
    return _median_while_decoding(watched, "model_resident_bytes", watched.resident_at_last_bytes)


def anonymous_bytes_of(watched: Watched) -> float | None:
    """Median of what the group was charged beside page cache, taken in the same way."""
    last = watched.at_last.group.not_file_bytes if watched.at_last else None
    return _median_while_decoding(watched, "group_anonymous_bytes", last)


def _sampled_while_decoding(watched: Watched, name: str) -> list[int]:
    """What the sampler saw of a counter from the first token to the last; empty without a sampler or without tokens."""
    if watched.sampler is None or not watched.token_seconds:
        return []
    return watched.sampler.between(watched.token_seconds[0], watched.token_seconds[-1], name)


def _median_while_decoding(watched: Watched, name: str, at_last: int | None) -> float | None:
    if watched.sampler is None or len(watched.token_seconds) < 2:
        return None
    seen = _sampled_while_decoding(watched, name)
    if at_last is not None:
        seen.append(at_last)
    return float(median(seen)) if seen else None
