"""One measured run: the experiment of the notes, step by step, and its clean-up.

A trial observes and writes what it saw; what follows from that is computed by pagelab.analysis.analyze.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pagelab.config.factors import Factors
from pagelab.host.cgroup import Group, new_group
from pagelab.host.journal import Journal
from pagelab.host.page_cache import evict
from pagelab.host.readahead import effective_readahead_kib
from pagelab.inference.build import command_line
from pagelab.observe.counters import Counters
from pagelab.observe.host_memory import observed_host, observed_swap
from pagelab.observe.inference import Notify, Watched, watch
from pagelab.observe.tensors import TensorResidency
from pagelab.pressure.applied import Applied, applied
from pagelab.run.plan import PlannedTrial
from pagelab.run.trial_keeper import trial_keeper
from pagelab.run.trial_setup import Calibration, TrialSetup
from pagelab.store.files import write_text
from pagelab.store.observation import Observation, ObservedSetting
from pagelab.store.record import ReadaheadWindow
from pagelab.store.run_store import RunStore


def run_trial(setup: TrialSetup, trial: PlannedTrial, found: Calibration, store: RunStore, notify: Notify) -> None:
    """Run one trial, write what it saw, and leave the host as it was.

    Raises:
        HostError: the host refused a step; nothing is written unless the inference had ended.
        InferenceError: llama.cpp cannot be started.
        StoreError: the result cannot be written.
    """
    config, factors, model = setup.config, trial.factors, setup.model
    seen = setup.observation(trial, found)
    seen.command = command_line(
        setup.builds[factors.engine], model.path, config.inference_with(factors), factors.weights
    )

    with put_back_afterwards(setup.journal), trial_group(setup.journal, f"trial-{trial.number:03d}") as group:
        notify("settings", 0)
        seen.settings = set_factors(factors, setup, group)

        notify("evict", 0)
        os.sync()  # what others wrote before is not written back while this trial decodes
        seen.evicted_bytes = None if setup.skip_eviction else evict(*model.parts)
        seen.readahead = ReadaheadWindow() if setup.skip_eviction else observed_readahead(setup, factors)

        notify("pressure", 0)
        with (
            TensorResidency(model) as tensors,
            trial_keeper(setup, factors, group, seen.readahead) as keeper,
            applied(factors, setup.sizes(factors, found.kept_bytes, keeper.memory_bytes), group) as pressure,
        ):
            keeper.hold()
            counters, told = Counters(group, setup.disk, tensors, keeper.pids), tells_first_token(pressure, notify)
            with setup.tracer(store.trace_directory(trial.number), store.owner) as tracer:
                watched = watch(seen.command, counters, config.inference.tokens, config.trial_timeout_seconds, told)
            seen.keeper = keeper.observed()
            seen.peak_bytes, seen.oom_kills, seen.pressure = group.peak_bytes(), group.oom_kills(), pressure.observed()

        seen.inference, seen.resident_before_bytes = watched.seen, tensors.before_bytes
        seen.after, seen.swap = observed_host(), observed_swap(setup.disk)
        seen.trace = tracer.finish(watched.seen.started_monotonic_seconds)
        write_raw_files(store, seen, watched, tensors)


def refuse_trial(
    setup: TrialSetup, trial: PlannedTrial, calibration: Calibration, store: RunStore, reason: str
) -> None:
    """Write down that a trial could not be run."""
    seen = setup.observation(trial, calibration)
    seen.refused = reason
    store.write_observation(seen)


def set_factors(factors: Factors, setup: TrialSetup, group: Group) -> list[ObservedSetting]:
    """Set the kernel settings that are factors, and say what they were before."""
    wanted = factors.settings(setup.disk, group)
    return [
        # Where the file really is: the link to a file system's has a UUID in it, which is nobody's to know.
        ObservedSetting(file=str(one.file.resolve()), value=one.value, before=one.apply(setup.journal))
        for one in wanted
    ]


def observed_readahead(setup: TrialSetup, factors: Factors) -> ReadaheadWindow:
    """How far the kernel reads ahead in the model's file: by its setting, and in effect, which leaves it evicted."""
    return ReadaheadWindow(
        disk_kib=setup.disk.readahead_kib(),
        effective_kib=effective_readahead_kib(setup.model.largest_part, setup.config.maps_weights(factors)),
    )


def tells_first_token(pressure: Applied, notify: Notify) -> Notify:
    """Passes on what is notified, and tells the pressure of the first token."""

    def told(window: str, tokens: int) -> None:
        if tokens == 1:
            pressure.first_token()
        notify(window, tokens)

    return told


@contextmanager
def put_back_afterwards(journal: Journal) -> Iterator[None]:
    """Undo on every way out what the journal holds."""
    try:
        yield
    finally:
        journal.undo()


@contextmanager
def trial_group(journal: Journal, name: str) -> Iterator[Group]:
    """A fresh control group, journalled before it is made; whatever runs in it is killed when the context ends."""
    group = new_group(name)
    journal.note_group(group.path)
    group.create()
    try:
        yield group
    finally:
        group.remove()


def write_raw_files(store: RunStore, seen: Observation, watched: Watched, tensors: TensorResidency) -> None:
    """Write the raw files of a trial, observation.json last: its presence says that the trial was measured."""
    directory = store.trial_directory(seen.trial)
    write_text(directory / "llama.log", watched.log, store.owner)
    write_text(directory / "output.txt", watched.text.decode(errors="replace"), store.owner)
    store.write_trial_table(seen.trial, "tokens", watched.tokens_table())
    store.write_trial_table(seen.trial, "residency", tensors.table())
    if watched.sampler is not None:
        store.write_trial_table(seen.trial, "samples", watched.sampler.table())
    store.write_observation(seen)
