"""Computes every derived file of a run from its raw files, after each trial and again anywhere.

Raw are, of each trial, observation.json and the files that it lists (log, output, tokens, samples, residency, trace).
Derived are trial.json; block_io.parquet and page_cache.parquet (from trace/) and what `analysis.access` computes from
them; of the run summary.parquet and derived.json. Only the run's own directory is read, and the same raw files give the
same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from pagelab.analysis.access.pattern import analyse_trial
from pagelab.analysis.raw_trial import read_inference
from pagelab.analysis.trial_record import refused_record, timed_record, trial_record
from pagelab.analysis.trial_table import summary_table
from pagelab.config.load import parse_config
from pagelab.config.schema import Config
from pagelab.errors import StoreError, TraceError, shown
from pagelab.store.observation import Observation
from pagelab.store.record import Access, TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.store.verify import Finding, refuse, shortened, verify
from pagelab.traces.convert import convert


@dataclass
class Analysed:
    """How it went: the numbers of the trials that were computed again, and of the trials that could not be.

    `notes` are sentences on trials: what of their traces could not be read, and why one failed.
    """

    computed: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def analyse_run(store: RunStore) -> Analysed:
    """Compute a run's derived files again.

    A trial whose raw files cannot be used, or are not what was recorded, is left as it is, which is noted.

    Raises:
        StoreError: the run's own files are damaged, it has no raw files, or the disk refused.
    """
    damage, found = verify(store), Analysed()
    refuse(store, [one for one in damage if one.kind == "run"])
    config = read_config(store)
    numbers = store.observed_trials()
    if not numbers and store.read_run().trials_done:
        raise StoreError(f"{store.directory} has no observation.json in any trial: restore its raw files from a copy")
    lost = {one.trial for one in damage if one.kind == "recorded" and one.trial is not None}
    for number in sorted({*numbers, *lost}):
        _analyse_trial(store, number, config, [one for one in damage if one.trial == number], found)
    found.notes += [str(one) for one in damage if one.trial is None and one.kind != "derived"]
    edited = {one.trial for one in damage if one.kind == "derived" and one.trial in found.failed}
    store.write_summary(summary_table(store.read_trials(without=edited)))
    return found


def _analyse_trial(store: RunStore, number: int, config: Config, damage: Sequence[Finding], found: Analysed) -> None:
    try:
        refuse(store, [one for one in damage if one.kind == "recorded"])
        _, notes = derive(store, number, config)
    except (StoreError, TraceError) as error:
        found.failed.append(number)
        notes = [f"left as it is: {error}"]
    else:
        found.computed.append(number)
        notes += shortened(f"{one.name} {one.what}: computed again" for one in damage if one.kind == "derived")
        notes += shortened(str(one) for one in damage if one.kind == "other")
    found.notes += [f"trial {number:03d}: {note}" for note in notes]


def read_config(store: RunStore) -> Config:
    """The configuration that a run was made with; StoreError where it is missing, ConfigError where it is damaged."""
    return parse_config(store.read_config_text(), str(store.config_path))


def derive(store: RunStore, number: int, config: Config, traced: bool = True) -> tuple[TrialRecord, list[str]]:
    """Write all files that follow from a trial's raw files, trial.json last; not `traced`, without those of its trace.

    Returns:
        The record, and what could not be read of the trace.

    Raises:
        StoreError: a raw file is missing or damaged or holds what cannot be, or the disk refused.
        TraceError: the trace cannot be read.
    """
    try:
        return _derive(store, number, config, traced)
    except ValidationError as error:
        first = error.errors()[0]
        what = shown(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        raise StoreError(
            f"the raw files of trial {number:03d} give what cannot be ({what}): repeat the trial"
        ) from error


def _derive(store: RunStore, number: int, config: Config, traced: bool) -> tuple[TrialRecord, list[str]]:
    seen, notes = store.read_observation(number), list[str]()
    if seen.factors.model not in {model.name for model in config.models}:
        raise StoreError(
            f"trial {number:03d} is of the model {seen.factors.model!r:.60}, which {store.config_path} lacks"
        )
    if seen.inference is None:
        record = refused_record(seen)
    else:
        raw = read_inference(store, number, seen.inference, seen.page_bytes)
        timed = timed_record(seen, raw)
        access, notes = _access(store, seen, timed) if traced else (Access(), [])
        record = trial_record(timed, seen, raw, access, config)
    store.write_trial(record)
    return record, notes


def _access(store: RunStore, seen: Observation, timed: TrialRecord) -> tuple[Access, list[str]]:
    """What the trace says, as files and as headlines; empty where nothing was recorded."""
    if seen.trace is None or not seen.trace.recorders:
        return Access(), []
    converted = convert(store.trace_directory(seen.trial), store.trial_directory(seen.trial), store.owner)
    store.made(seen.trial, converted.rows)
    return analyse_trial(store, timed, converted.notes), converted.notes
