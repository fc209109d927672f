"""Calibration: how much memory llama.cpp needs beside the weights, measured for a model and its settings."""

from pagelab.errors import InferenceError
from pagelab.inference.llama_cpp import command_line
from pagelab.observe.inference import watch
from pagelab.pressure.residency import evict
from pagelab.trial import Bench, Notify, put_back_afterwards, trial_group


def measure_anonymous_bytes(bench: Bench, notify: Notify) -> int:
    """Run the inference of the trials once in a group without a limit; returns bytes.

    The answer is the highest charge of the group that is no page cache: anonymous memory (KV cache, compute buffers,
    heap) and the kernel memory charged to the group, page tables for one. The weights are mapped from the file in this
    run, so they are no part of it, whatever the trials' `weights` factor says.

    Raises:
        InferenceError: llama.cpp failed, so nothing was measured.
        HostError: the host refused a step.
    """
    settings = bench.config.inference
    command = command_line(bench.build, bench.model.path, settings, anonymous_weights=False)
    with put_back_afterwards(bench.journal), trial_group(bench.journal, "calibration") as group:
        evict(bench.model.path)
        watched = watch(command, bench.counters(group), settings.tokens, bench.config.trial_timeout_seconds, notify)
    highest = watched.sampler.highest("group_anonymous_bytes") if watched.sampler else None
    boundaries = [watched.at_ready, watched.at_first, watched.at_last]
    charged = [point.group.not_file_bytes for point in boundaries if point and point.group.not_file_bytes is not None]
    if watched.exit_status != 0 or not charged:
        last = watched.log.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InferenceError(
            f"the calibration run of {bench.model.path.name} failed with status {watched.exit_status} ({last[0]}); "
            f"try it by hand: {' '.join(command)}"
        )
    return max(*charged, highest or 0)
