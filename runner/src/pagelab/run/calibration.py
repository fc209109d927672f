"""Calibration: how much memory llama.cpp keeps beside the weights, measured for a model and its settings."""

from itertools import pairwise
from statistics import median

from pagelab.config.factors import Factors
from pagelab.errors import InferenceError, shown
from pagelab.host.page_cache import evict
from pagelab.host.procfs import meminfo_bytes
from pagelab.inference.build import command_line
from pagelab.observe.counters import Counters
from pagelab.observe.inference import Notify, Watched, watch
from pagelab.observe.tensors import TensorResidency
from pagelab.run.trial import put_back_afterwards, set_factors, trial_group
from pagelab.run.trial_setup import Calibration, TrialSetup
from pagelab.units import format_bytes

TOKENS_UNDER_PRESSURE = 8


def calibrate(setup: TrialSetup, factors: Factors, notify: Notify) -> Calibration:
    """Run the inference of the trials once without pressure, and its first tokens once at the lowest limit.

    What llama.cpp takes is not known before the first run, which is therefore kept to what the host can spare.

    `factors` come from `Factors.calibrated`. The weights are mapped from the file in both runs and not repacked, so
    they are no part of the answer, whatever the trials do with them. Where these repack, a third run says how long a
    token takes then, if two copies of the weights fit.

    Raises:
        InferenceError: llama.cpp failed, or needs more than the host can spare, so nothing was measured.
        HostError: the host refused a step.
    """
    evicted = evict(*setup.model.parts)
    spare = spare_bytes(meminfo_bytes()["MemAvailable"], setup.config.memory.os_reserve)
    free, was_killed = _run(setup, factors, spare, setup.config.inference.tokens, notify)
    if was_killed:
        raise InferenceError(
            f"llama.cpp takes more than the {format_bytes(spare)} of memory that this host can spare for "
            f"{shown(setup.model.path.name, 80)} and a context of {setup.config.inference.context}; "
            "lower inference.context, or stop other programs"
        )
    needed = max(_charged(free, 0.0), default=0)
    if free.seen.exit_status != 0 or needed == 0:
        last = (free.log.strip().splitlines() or ["it printed nothing"])[-1]
        raise InferenceError(
            f"the calibration run of {setup.model.path.name} ended with status "
            f"{free.seen.exit_status} ({shown(last.strip(), 200)}); "
            "look at the model file and at the inference settings"
        )
    limit = needed + setup.config.memory.floor
    squeezed, _ = _run(setup, factors, limit, min(setup.config.inference.tokens, TOKENS_UNDER_PRESSURE), notify)
    kept = _charged(squeezed, squeezed.token_seconds[0]) if squeezed.token_seconds else []
    kept_bytes = min(needed, round(median(kept))) if kept else needed
    computing, repacks = free, setup.config.inference_with(factors).repack
    if repacks and needed + 2 * setup.model.weights_bytes <= spare:
        computing, _ = _run(setup, factors, spare, setup.config.inference.tokens, notify, repack=True)
    intervals = [later - earlier for earlier, later in pairwise(computing.token_seconds)]
    return Calibration(needed, kept_bytes, evicted, median(intervals) if intervals else None)


def spare_bytes(available: int, os_reserve_bytes: int) -> int:
    """What of the available memory may be taken: the host keeps its reserve, or half where that is less."""
    return available - min(os_reserve_bytes, available // 2)


def _run(
    setup: TrialSetup, factors: Factors, limit_bytes: int, tokens: int, notify: Notify, repack: bool = False
) -> tuple[Watched, bool]:
    """Run llama.cpp under a limit; also says whether the kernel killed it there."""
    settings = setup.config.inference_with(factors).model_copy(update={"tokens": tokens, "repack": repack})
    command = command_line(setup.builds[factors.engine], setup.model.path, settings)
    with put_back_afterwards(setup.journal), trial_group(setup.journal, "calibration") as group:
        set_factors(factors, setup, group)
        evict(*setup.model.parts)
        group.set_limit(limit_bytes)
        with TensorResidency(setup.model) as tensors:
            counters = Counters(group, setup.disk, tensors)
            watched = watch(command, counters, tokens, setup.config.trial_timeout_seconds, notify)
            return watched, bool(group.oom_kills())


def _charged(watched: Watched, since_seconds: float) -> list[int]:
    """What the group was charged beside page cache, sampled from a time on and at the boundaries after it."""
    seen, sampler = watched.seen, watched.sampler
    sampled = sampler.between(since_seconds, float("inf"), "group_non_file_bytes") if sampler else []
    ready = seen.at_ready if since_seconds == 0.0 else None
    points = [point.group.non_file_bytes for point in (ready, seen.at_first_token, seen.at_last_token) if point]
    return sampled + [value for value in points if value is not None]
