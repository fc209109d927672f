"""The windows of an inference: load, prompt and decode, each with its own times and counters."""

from statistics import median

from pagelab.analysis.counters import (
    faults_between,
    gained,
    grown,
    less,
    reads_between,
    refaults_between,
    share,
    swap_between,
)
from pagelab.analysis.raw_trial import RawInference
from pagelab.analysis.sources import sources_between
from pagelab.analysis.token_times import steady_from, token_percentile
from pagelab.store.observation import ObservedOthers, Snapshot
from pagelab.store.record import Decode, Disturbance, Faults, Load, Refaults, Sources, Steady, Swap, Tokens, WindowReads

NAMED_FROM_FRACTION = 0.01  # of one processor
OTHERS_NAMED = 5


def load_of(raw: RawInference) -> Load:
    """The load window: from the start of the process to its line that generation begins."""
    return Load(seconds=raw.seen.ready_seconds)


def prompt_of(raw: RawInference, prompt_tokens: int | None) -> Tokens:
    """The prompt window: from ready to the first generated token, which comes with the last prompt token."""
    if raw.seen.ready_seconds is None or not raw.token_seconds or raw.token_seconds[0] < raw.seen.ready_seconds:
        return Tokens(tokens=prompt_tokens)
    seconds = raw.token_seconds[0] - raw.seen.ready_seconds
    return Tokens(tokens=prompt_tokens, seconds=seconds, tokens_per_second=_rate(prompt_tokens, seconds))


def decode_of(raw: RawInference) -> Decode:
    """The decode window: from the first token to the last, so one token fewer than were generated."""
    arrivals = raw.token_seconds
    if len(arrivals) < 2:
        return Decode()
    tokens, seconds = len(arrivals) - 1, arrivals[-1] - arrivals[0]
    return Decode(
        tokens=tokens,
        seconds=seconds,
        tokens_per_second=_rate(tokens, seconds),
        token_p50_seconds=token_percentile(arrivals, 50),
        token_p90_seconds=token_percentile(arrivals, 90),
        token_p99_seconds=token_percentile(arrivals, 99),
    )


def steady_of(raw: RawInference) -> Steady:
    """Decoding without its beginning."""
    first = steady_from(raw.token_seconds)
    if first is None:
        return Steady()
    arrivals = raw.token_seconds[first:]
    tokens, seconds = len(arrivals) - 1, arrivals[-1] - arrivals[0]
    return Steady(from_token=first, tokens=tokens, seconds=seconds, tokens_per_second=_rate(tokens, seconds))


def _rate(tokens: int | None, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None


def reads_of(raw: RawInference, swap_on_model_disk: bool) -> WindowReads:
    """Reads in each window."""
    return WindowReads(
        load=reads_between(_began(raw), raw.seen.at_ready, swap_on_model_disk),
        prompt=reads_between(raw.seen.at_ready, raw.seen.at_first_token, swap_on_model_disk),
        decode=reads_between(raw.seen.at_first_token, raw.seen.at_last_token, swap_on_model_disk),
    )


def _began(raw: RawInference) -> Snapshot:
    """The start; a process that has not started has read nothing: its counter begins at 0, or at what a keeper read."""
    return raw.seen.at_start.model_copy(update={"process_read_bytes": raw.seen.at_start.process_read_bytes or 0})


def sources_of(
    raw: RawInference, swap_on_model_disk: bool, weights_bytes: int, page_added_bytes: int | None
) -> Sources:
    """Where the bytes of decode came from, each by independent counters, one of them what a trace saw."""
    if raw.decode_boundaries is None:
        return Sources()
    first, last = raw.decode_boundaries
    before = reads_between(_began(raw), first, swap_on_model_disk)
    whole = (before.model_bytes or 0) >= weights_bytes
    return sources_between(first, last, swap_on_model_disk, whole, raw.page_bytes, page_added_bytes)


def disturbance_of(raw: RawInference) -> Disturbance:
    """What else happened to the host while decoding; what took processor time is counted from the prompt on."""
    began, ended = raw.seen.interference_at_ready, raw.seen.interference_at_last_token
    if raw.decode_boundaries is None or began is None or ended is None:
        return Disturbance()
    first, last = raw.decode_boundaries
    written = gained(first.device_written_bytes, last.device_written_bytes)
    swapped = gained(first.swapped_out_bytes, last.swapped_out_bytes)
    stolen, ticks = gained(began.stolen_ticks, ended.stolen_ticks), gained(began.all_ticks, ended.all_ticks)
    seconds, others = grown(began.monotonic_seconds, ended.monotonic_seconds), raw.seen.others
    run, delay = grown(began.run_seconds, ended.run_seconds), grown(began.run_delay_seconds, ended.run_delay_seconds)
    return Disturbance(
        disk_written_bytes=less(written, swapped),
        throttled_seconds=grown(began.throttled_seconds, ended.throttled_seconds),
        thermal_events=gained(began.thermal_events, ended.thermal_events),
        stolen_fraction=share(stolen, ticks),
        other_cpu_seconds=others.cpu_seconds if others else None,
        other_cpu_fraction=share(others.cpu_seconds if others else None, (seconds or 0.0) * (ended.processors or 0)),
        other_processes=_named(others, seconds),
        run_delay_seconds=delay,
        run_delay_fraction=share(delay, None if run is None or delay is None else run + delay),
        cpu_stall_fraction=share(grown(began.cpu_stall_seconds, ended.cpu_stall_seconds), seconds),
        memory_stall_fraction=share(grown(began.memory_stall_seconds, ended.memory_stall_seconds), seconds),
    )


def _named(others: ObservedOthers | None, seconds: float | None) -> str | None:
    """The busiest others and how much of one processor each took, "python3 (98%), make (3%)"."""
    if others is None or not seconds:
        return None
    shares = [(other.name, other.cpu_seconds / seconds) for other in others.busiest]
    named = [f"{name} ({fraction:.0%})" for name, fraction in shares if fraction >= NAMED_FROM_FRACTION]
    return ", ".join(named[:OTHERS_NAMED]) or None


def limits_of(raw: RawInference) -> list[int]:
    """The limits that the group was seen to have while decoding, in bytes."""
    seen = _sampled_while_decoding(raw, "group_limit_bytes")
    points = (raw.seen.at_first_token, raw.seen.at_last_token)
    return seen + [point.group.limit_bytes for point in points if point is not None and point.group.limit_bytes]


def events_of(raw: RawInference) -> tuple[Faults, Refaults, Swap]:
    """Faults, refaults and swapping while decoding."""
    if raw.decode_boundaries is None:
        return Faults(), Refaults(), Swap()
    first, last = raw.decode_boundaries
    return faults_between(first, last), refaults_between(first, last), swap_between(first, last)


def resident_at_first_bytes_of(raw: RawInference) -> int | None:
    """The first look at the weights in the page cache after the first token; None where decoding was shorter."""
    return next(iter(_sampled_while_decoding(raw, "model_resident_bytes")), None)


def resident_bytes_of(raw: RawInference) -> float | None:
    """Median of the weights' bytes in the page cache: samples taken while decoding, and one after the last token.

    The last one is there however short the decoding was.
    """
    return _median_while_decoding(raw, "model_resident_bytes", raw.seen.resident_at_last_bytes)


def non_file_bytes_of(raw: RawInference) -> float | None:
    """Median of what the group was charged beside page cache, taken in the same way."""
    last = raw.seen.at_last_token.group.non_file_bytes if raw.seen.at_last_token else None
    return _median_while_decoding(raw, "group_non_file_bytes", last)


def _sampled_while_decoding(raw: RawInference, name: str) -> list[int]:
    """What the sampler saw of a counter from the first token to the last; empty without a sampler or without tokens."""
    if raw.samples is None or not raw.token_seconds:
        return []
    return raw.samples.between(raw.token_seconds[0], raw.token_seconds[-1], name)


def _median_while_decoding(raw: RawInference, name: str, at_last: int | None) -> float | None:
    if raw.samples is None or len(raw.token_seconds) < 2:
        return None
    seen = _sampled_while_decoding(raw, name)
    if at_last is not None:
        seen.append(at_last)
    return float(median(seen)) if seen else None
