"""Calibration: how much memory llama.cpp keeps beside the weights, measured for a model and its settings."""

from dataclasses import dataclass
from statistics import median

from pagelab.errors import InferenceError
from pagelab.host.knobs import HUGE_PAGES_FILE, Setting
from pagelab.host.page_cache import evict
from pagelab.inference.llama_cpp import command_line
from pagelab.observe.counters import Counters
from pagelab.observe.inference import Watched, watch
from pagelab.observe.tensors import TensorResidency
from pagelab.run.trial import Bench, Notify, put_back_afterwards, trial_group

TOKENS_UNDER_PRESSURE = 8


@dataclass(frozen=True)
class Calibration:
    """Bytes that llama.cpp's group is charged beside page cache.

    Anonymous memory (KV cache, compute buffers, heap) and the kernel memory charged to the group, page tables for one.
    `needed_bytes` is the most it ever held without a limit; `kept_bytes` what it kept in RAM while decoding at the
    lowest limit, the rest being cold and swapped out. A limit of kept_bytes + share leaves that share to the weights;
    needed_bytes + share would leave more, by whatever had been swapped out. `evicted_bytes` of the model
    were in the page cache before, put there by whoever read it last.
    """

    needed_bytes: int
    kept_bytes: int
    evicted_bytes: int


def calibrate(bench: Bench, huge_pages: str, notify: Notify) -> Calibration:
    """Run the inference of the trials once without a limit, and its first tokens once at the lowest limit.

    The weights are mapped from the file in both, so they are no part of the answer, whatever the trials' `weights`
    factor says.

    Raises:
        InferenceError: llama.cpp failed, so nothing was measured.
        HostError: the host refused a step.
    """
    evicted = evict(*bench.model.parts)
    free = _run(bench, huge_pages, None, bench.config.inference.tokens, notify)
    needed = max(_charged(free, 0.0), default=0)
    if free.exit_status != 0 or needed == 0:
        last = (free.log.strip().splitlines() or ["it printed nothing"])[-1]
        raise InferenceError(
            f"the calibration run of {bench.model.path.name} ended with status {free.exit_status} ({last.strip()}); "
            "look at the model file and at the inference settings"
        )
    limit = needed + bench.config.memory.floor
    squeezed = _run(bench, huge_pages, limit, min(bench.config.inference.tokens, TOKENS_UNDER_PRESSURE), notify)
    kept = _charged(squeezed, squeezed.token_seconds[0]) if squeezed.token_seconds else []
    return Calibration(needed, min(needed, round(median(kept))) if kept else needed, evicted)


def _run(bench: Bench, huge_pages: str, limit_bytes: int | None, tokens: int, notify: Notify) -> Watched:
    settings = bench.config.inference.model_copy(update={"tokens": tokens})
    command = command_line(bench.build, bench.model.path, settings, anonymous_weights=False)
    with put_back_afterwards(bench.journal), trial_group(bench.journal, "calibration") as group:
        if huge_pages != "default":
            Setting(HUGE_PAGES_FILE, huge_pages).apply(bench.journal)
        evict(*bench.model.parts)
        if limit_bytes is not None:
            group.set_limit(limit_bytes)
        with TensorResidency(bench.model) as tensors:
            counters = Counters(group, bench.disk, tensors)
            return watch(command, counters, tokens, bench.config.trial_timeout_seconds, notify)


def _charged(watched: Watched, since_seconds: float) -> list[int]:
    """What the group was charged beside page cache, sampled from a time on and at the boundaries after it."""
    sampled = watched.sampler.between(since_seconds, float("inf"), "group_anonymous_bytes") if watched.sampler else []
    ready = watched.at_ready if since_seconds == 0.0 else None
    points = [point.group.not_file_bytes for point in (ready, watched.at_first, watched.at_last) if point is not None]
    return sampled + [value for value in points if value is not None]
