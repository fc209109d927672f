"""The raw files of a run, as trials leave them: one with a trace that was recorded, one without, one refused."""

import shutil
from pathlib import Path

import pyarrow as pa
from example_counters import FIRST, changed
from example_run import factors, run_record

from pagelab.analysis.raw_trial import RawInference, Samples
from pagelab.host.cpu_interference import CpuInterference
from pagelab.store.observation import (
    Observation,
    ObservedHost,
    ObservedInference,
    ObservedModel,
    ObservedPressure,
    Snapshot,
)
from pagelab.store.record import HostMemory, Traced
from pagelab.store.run_store import RunStore
from pagelab.units import MIB
from raw_traces import SAMPLE

CONFIG = """\
experiment: quickstart
models: [{name: gemma-3-270m, source: {file: /m.gguf, sha256: "%s"}}]
inference: {tokens: 8}
"""
TOKENS = 8
ARRIVALS = [0.06 + 0.03 * token for token in range(TOKENS)]  # within the recorded trace, which lasts 0.3 s
READY = 0.02
PROCESSOR = CpuInterference(throttled_seconds=0.0, thermal_events=0, stolen_ticks=0, all_ticks=100)
LOG = """\
load_tensors: CPU_Mapped model buffer size = 235.16 MiB
common_perf_print: load time = 20.00 ms
common_perf_print: prompt eval time = 40.00 ms / 5 tokens
common_perf_print: eval time = 208.00 ms / 7 runs
"""


def inference(**changes: object) -> ObservedInference:
    """An inference that ended well; half of its 64 MiB of weights were in RAM."""
    reading = changed(FIRST, process_read_bytes=70 * MIB, limit_hits=3, memory_bytes=40 * MIB, file_bytes=32 * MIB)
    values: dict[str, object] = {
        "at_start": FIRST,
        "at_ready": reading,
        "at_first_token": reading,
        "at_last_token": changed(reading, process_read_bytes=110 * MIB, device_read_bytes=5000 + 41 * MIB),
        "interference_at_ready": PROCESSOR,
        "interference_at_last_token": CpuInterference(0.0, 0, 0, 200),
        "started_monotonic_seconds": 100.0,
        "ready_seconds": READY,
        "resident_at_last_bytes": 32 * MIB,
    }
    return ObservedInference.model_validate(values | changes)


def observation(number: int = 1, resident: float = 0.5, **changes: object) -> Observation:
    """What a trial saw."""
    moment = ObservedHost(
        time="2026-11-23T10:15:00+00:00", memory=HostMemory(total_bytes=25 * 10**9), swap_used_bytes=0
    )
    values: dict[str, object] = {
        "trial": number,
        "factors": factors(resident),
        "repetition": 1,
        "order": number,
        "model": ObservedModel(weights_bytes=64 * MIB, file_bytes=64 * MIB, bytes_per_token=64 * MIB),
        "calibrated_non_file_bytes": 8 * MIB,
        "disk_read_bytes_per_second": 1e9,
        "page_bytes": 4096,
        "before": moment,
        "after": moment,
        "command": ["llama-cli"],
        "evicted_bytes": 0,
        "resident_before_bytes": 0,
        "pressure": ObservedPressure(limit_bytes=40 * MIB, share_bytes=32 * MIB),
        "oom_kills": 0,
        "inference": inference(),
    }
    return Observation.model_validate(values | changes)


def raw_inference(
    seen: ObservedInference | None = None, token_seconds: list[float] | None = None, samples: Samples | None = None
) -> RawInference:
    """What is read back of an inference."""
    arrivals = ARRIVALS if token_seconds is None else token_seconds
    return RawInference(seen or inference(), 4096, arrivals, samples, LOG)


def write_raw(store: RunStore, seen: Observation) -> None:
    """The files of one trial."""
    directory, number = store.trial_directory(seen.trial), seen.trial
    if seen.inference is not None:
        (directory / "llama.log").write_text(LOG)
        (directory / "output.txt").write_text("text")
        store.write_trial_table(number, "tokens", pa.table({"arrival_seconds": ARRIVALS}))
        looks = {"seconds": ARRIVALS, "model_resident_bytes": [32 * MIB] * TOKENS}
        store.write_trial_table(number, "samples", pa.table(looks))
    if seen.trace is not None:
        shutil.copytree(SAMPLE, store.trace_directory(number))
    store.write_observation(seen)


def raw_run(results: Path) -> RunStore:
    """A run of which nothing is derived yet: a traced trial, a baseline without a trace, and a refused one."""
    run = run_record(trials_planned=3, trials_done=3)
    store = RunStore.create(results, run.experiment, run.host, run.run_id)
    store.write_run(run)
    store.write_config(CONFIG % ("0" * 64))
    write_raw(store, observation(1, trace=Traced(recorders=["tracefs"], profiles=["block", "page"], lost_events=0)))
    write_raw(store, observation(2, resident=1.0, pressure=ObservedPressure(), inference=baseline()))
    write_raw(store, observation(3, resident=0.0, inference=None, refused="mlock refused"))
    return store


def baseline() -> ObservedInference:
    """An inference that read nothing while decoding."""
    reading: Snapshot = changed(FIRST, process_read_bytes=70 * MIB)
    return inference(at_ready=reading, at_first_token=reading, at_last_token=reading)
