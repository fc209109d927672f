"""One measured run: the experiment of the notes, step by step, and its clean-up."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pagelab.analysis.describe import Circumstances, describe, now
from pagelab.config.schema import Config
from pagelab.host.cgroup import Group, new_group
from pagelab.host.journal import Journal
from pagelab.host.knobs import settings_for
from pagelab.host.page_cache import evict
from pagelab.host.procfs import meminfo_bytes
from pagelab.host.storage import Disk
from pagelab.host.swap import swap_places
from pagelab.inference.llama_cpp import Build, command_line
from pagelab.models.gguf_map import GgufMap
from pagelab.observe.counters import Counters
from pagelab.observe.inference import Watched, watch
from pagelab.observe.tensors import TensorResidency
from pagelab.observe.tracer import NOTHING, Choice, Place, Tracer
from pagelab.pressure.applied import Sizes, applied
from pagelab.run.plan import PlannedTrial
from pagelab.store.files import Owner, write_text
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore

Notify = Callable[[str, int], None]  # the phase that has begun, and the tokens generated so far


@dataclass(frozen=True)
class Bench:
    """What all trials of one model share on this host.

    `skip_eviction` is for finding out what an eviction is good for: such trials are invalid.
    """

    config: Config
    build: Build
    model: GgufMap
    disk: Disk
    journal: Journal
    disk_read_bytes_per_second: float | None = None
    recorders: Choice = NOTHING
    skip_eviction: bool = False

    def tracer(self, directory: Path, owner: Owner | None = None) -> Tracer:
        """What records the reads of a trial, into a directory."""
        return Tracer(self.config.trace, self.recorders, self.model, self.disk, self.journal, Place(directory, owner))

    def sizes(self, anonymous_bytes: int) -> Sizes:
        """What the pressure's sizes are computed from."""
        host_bytes, model = meminfo_bytes()["MemTotal"], self.model
        return Sizes(model.weights_ranges(), model.weights_bytes, anonymous_bytes, host_bytes, self.config.memory)


def run_trial(bench: Bench, trial: PlannedTrial, anonymous_bytes: int, store: RunStore, notify: Notify) -> TrialRecord:
    """Run one trial, write its files, and leave the host as it was.

    Raises:
        HostError: the host refused a step; nothing is written unless the inference had ended.
        InferenceError: llama.cpp cannot be started.
        StoreError: the result cannot be written.
    """
    config, factors, model = bench.config, trial.factors, bench.model
    command = command_line(bench.build, model.path, config.inference, factors.weights == "anonymous")
    before = now()

    with put_back_afterwards(bench.journal), trial_group(bench.journal, f"trial-{trial.number:03d}") as group:
        notify("settings", 0)
        for setting in settings_for(factors, bench.disk, group):
            setting.apply(bench.journal)

        notify("evict", 0)
        os.sync()  # what others wrote before is not written back while this trial decodes
        evicted_bytes = None if bench.skip_eviction else evict(*model.parts)

        notify("pressure", 0)
        with TensorResidency(model) as tensors, applied(factors, bench.sizes(anonymous_bytes), group) as pressure:
            counters, told = Counters(group, bench.disk, tensors), pressure.told(notify)
            with bench.tracer(store.trace_directory(trial.number), store.owner) as tracer:
                watched = watch(command, counters, config.inference.tokens, config.trial_timeout_seconds, told)
            peak_bytes, oom_kills, in_force = group.peak_bytes(), group.oom_kills(), pressure.in_force

        seen = Circumstances(
            command=command,
            before=before,
            after=now(),
            evicted_bytes=evicted_bytes,
            resident_before_bytes=tensors.before_bytes,
            swap=swap_places(),
            model_disk=bench.disk,
            pressure=pressure,
            pressure_in_force=in_force,
            anonymous_bytes=anonymous_bytes,
            peak_bytes=peak_bytes,
            oom_kills=oom_kills,
            trace=tracer.finish(watched.started_monotonic),
        )
        record = describe(trial, model, bench.disk_read_bytes_per_second, config, seen, watched)
        write_trial(store, record, watched, tensors)
    return record


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


def write_trial(store: RunStore, record: TrialRecord, watched: Watched, tensors: TensorResidency) -> None:
    """Write the files of a trial, trial.json last: its presence says that the trial is finished."""
    directory = store.trial_directory(record.trial)
    write_text(directory / "llama.log", watched.log, store.owner)
    write_text(directory / "output.txt", watched.text.decode(errors="replace"), store.owner)
    store.write_trial_table(record.trial, "tokens", watched.tokens_table())
    store.write_trial_table(record.trial, "residency", tensors.table())
    if watched.sampler is not None:
        store.write_trial_table(record.trial, "samples", watched.sampler.table())
    store.write_trial(record)
