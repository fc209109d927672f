"""Computes every derived file of a run again from its raw files, on this machine or another one.

Derived are, of each traced trial, block_io.parquet and page_cache.parquet (from trace/), what `analysis.access`
computes from them, and `access` in trial.json; and of the run summary.parquet. Nothing that was measured is touched,
only the run's own directory is read, and the same raw files give the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pagelab.analysis.access.pattern import analyse_trial
from pagelab.analysis.summary import summary_table
from pagelab.errors import StoreError, TraceError
from pagelab.store.files import Owner
from pagelab.store.record import Access, TrialRecord
from pagelab.store.run_store import RunStore


class Converted(Protocol):
    """What the conversion of a trace's raw files answers: `notes` say in sentences what of them could not be read."""

    @property
    def notes(self) -> Sequence[str]:
        """What could not be read, and anything else a reader of the numbers has to know."""


Convert = Callable[[Path, Path, Owner | None], Converted]
"""From the directory of the raw files to tables in another directory, which belong to an owner."""


@dataclass(frozen=True)
class Analysed:
    """What became of a run: the numbers of trials computed again, of those without a trace, and of those that failed.

    `notes` are sentences on trials: what of their raw files could not be read, and why one failed.
    """

    computed: tuple[int, ...]
    untraced: tuple[int, ...]
    failed: tuple[int, ...]
    notes: tuple[str, ...]


def analyse_run(store: RunStore, convert: Convert | None = None) -> Analysed:
    """Compute a run's derived files again.

    A trial without a trace is left as it is, and so is one whose trace.json or tables cannot be used, which is noted.

    Raises:
        StoreError: the run's own files are damaged, or the disk refused.
    """
    computed, untraced, failed, notes = [], [], [], []
    for record in store.read_trials():
        number = record.trial
        if not store.trace_directory(number).is_dir():
            untraced.append(number)
            continue
        try:
            access, found = derive(store, record, convert)
        except (StoreError, TraceError) as error:
            failed.append(number)
            found = [f"left as it is: {error}"]
        else:
            store.write_trial(with_access(record, access))
            computed.append(number)
        notes += [f"trial {number:03d}: {note}" for note in found]
    store.write_summary(summary_table(store.read_trials()))
    return Analysed(tuple(computed), tuple(untraced), tuple(failed), tuple(notes))


def with_access(record: TrialRecord, access: Access) -> TrialRecord:
    """The record with what its trace says; pages that entered the page cache are one more source of the model's bytes.

    It makes `sources.model.disagreement_fraction` larger where it is further from the reads of the process than the
    others are. What all disks were asked for is the scale there: the reads of the process and of others.
    """
    traced, sources = access.page_added_bytes, record.sources.model_copy(deep=True)
    own, others = sources.model.process_bytes, sources.other.host_bytes
    sources.model.page_cache_bytes = traced
    if traced is not None and own is not None:
        scale = max(traced, own + (others or 0))
        apart = abs(traced - own) / scale if scale else 0.0
        sources.model.disagreement_fraction = max(apart, sources.model.disagreement_fraction or 0.0)
    return record.model_copy(update={"access": access, "sources": sources})


def derive(store: RunStore, record: TrialRecord, convert: Convert | None = None) -> tuple[Access, list[str]]:
    """Write the files that follow from a trial's trace, all but trial.json.

    Returns:
        What trial.json says of the trace, and what could not be read of the raw files.

    Raises:
        StoreError: trace.json is missing or damaged, or the disk refused.
    """
    if convert is None:
        from pagelab.traces.convert import convert as convert_trace

        convert = convert_trace
    number = record.trial
    notes = list(convert(store.trace_directory(number), store.trial_directory(number), store.owner).notes)
    return analyse_trial(store, record, notes), notes
