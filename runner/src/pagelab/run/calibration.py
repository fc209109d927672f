"""Calibration: how much memory llama.cpp keeps beside the weights, measured for a model and its settings."""

from dataclasses import dataclass
from statistics import median

from pagelab.config.factors import Factors
from pagelab.errors import InferenceError
from pagelab.host.page_cache import evict
from pagelab.inference.build import command_line
from pagelab.observe.counters import Counters
from pagelab.observe.inference import Notify, Watched, watch
from pagelab.observe.tensors import TensorResidency
from pagelab.run.trial import TrialSetup, put_back_afterwards, set_factors, trial_group

TOKENS_UNDER_PRESSURE = 8


@dataclass(frozen=True)
class Calibration:
    """Bytes that llama.cpp's group is charged beside page cache.

    That is anonymous memory (KV cache, compute buffers, heap) and the kernel's own memory that is charged to the group,
    such as page tables. `needed_bytes` is the most it ever held without a limit. `kept_bytes` is what it kept in RAM
    while decoding at the lowest limit, the rest being cold and swapped out: a limit of kept_bytes + share leaves that
    share to the weights, and needed_bytes + share would leave more. `evicted_bytes` of the model were in the page cache
    before, put there by whoever read it last.
    """

    needed_bytes: int
    kept_bytes: int
    evicted_bytes: int


def calibrate(setup: TrialSetup, factors: Factors, notify: Notify) -> Calibration:
    """Run the inference of the trials once without a limit, and its first tokens once at the lowest limit.

    `factors` come from `Factors.calibrated`. The weights are mapped from the file in both runs, so they are no part of
    the answer, whatever the trials' `weights` factor says.

    Raises:
        InferenceError: llama.cpp failed, so nothing was measured.
        HostError: the host refused a step.
    """
    evicted = evict(*setup.model.parts)
    free = _run(setup, factors, None, setup.config.inference.tokens, notify)
    needed = max(_charged(free, 0.0), default=0)
    if free.seen.exit_status != 0 or needed == 0:
        last = (free.log.strip().splitlines() or ["it printed nothing"])[-1]
        raise InferenceError(
            f"the calibration run of {setup.model.path.name} ended with status "
            f"{free.seen.exit_status} ({last.strip()}); "
            "look at the model file and at the inference settings"
        )
    limit = needed + setup.config.memory.floor
    squeezed = _run(setup, factors, limit, min(setup.config.inference.tokens, TOKENS_UNDER_PRESSURE), notify)
    kept = _charged(squeezed, squeezed.token_seconds[0]) if squeezed.token_seconds else []
    return Calibration(needed, min(needed, round(median(kept))) if kept else needed, evicted)


def _run(setup: TrialSetup, factors: Factors, limit_bytes: int | None, tokens: int, notify: Notify) -> Watched:
    settings = setup.config.inference.model_copy(update={"tokens": tokens})
    command = command_line(setup.build, setup.model.path, settings, factors.arguments())
    with put_back_afterwards(setup.journal), trial_group(setup.journal, "calibration") as group:
        set_factors(factors, setup, group)
        evict(*setup.model.parts)
        if limit_bytes is not None:
            group.set_limit(limit_bytes)
        with TensorResidency(setup.model) as tensors:
            counters = Counters(group, setup.disk, tensors)
            return watch(command, counters, tokens, setup.config.trial_timeout_seconds, notify)


def _charged(watched: Watched, since_seconds: float) -> list[int]:
    """What the group was charged beside page cache, sampled from a time on and at the boundaries after it."""
    seen, sampler = watched.seen, watched.sampler
    sampled = sampler.between(since_seconds, float("inf"), "group_non_file_bytes") if sampler else []
    ready = seen.at_ready if since_seconds == 0.0 else None
    points = [point.group.non_file_bytes for point in (ready, seen.at_first_token, seen.at_last_token) if point]
    return sampled + [value for value in points if value is not None]
