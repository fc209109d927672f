"""What makes a trial invalid, one reason at a time; each starts from a trial that is valid."""

import pytest
from example_raw import inference, observation, raw_inference
from example_run import factors

from pagelab.analysis.validity import judge
from pagelab.config.schema import Config
from pagelab.store.observation import ObservedSwap
from pagelab.store.record import (
    Decode,
    Disturbance,
    EngineTimings,
    Limit,
    ModelSources,
    Reads,
    Residency,
    Sources,
    Traced,
    TrialRecord,
    Validity,
    WindowReads,
)
from pagelab.units import MIB

TOKENS = 8
FACTORS = factors(resident=0.5)


def record(**changes):
    values = {
        "trial": 1,
        "factors": FACTORS,
        "repetition": 1,
        "order": 1,
        "started_at": "2026-01-01T00:00:00+00:00",
        "weights_bytes": 1000,
        "model_file_bytes": 1100,
        "decode": Decode(tokens=TOKENS - 1, seconds=1.0, tokens_per_second=TOKENS - 1),
        "reads": WindowReads(decode=Reads(model_bytes=5000)),
        "residency": Residency(target_fraction=0.5, achieved_fraction=0.48),
        "limit": Limit(bytes=600, share_bytes=500, effective=True),
        "engine": EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1, repacked_bytes=0),
        "validity": Validity(valid=False, reasons=["no"]),
    }
    return TrialRecord(**(values | changes))


def watched(token_seconds=None, **changes):
    arrivals = [float(second) for second in range(TOKENS)] if token_seconds is None else token_seconds
    return raw_inference(inference(**changes), arrivals)


def config(repack=False, **memory):
    return Config.model_validate(
        {
            "experiment": "e",
            "models": [{"name": "m", "source": {"file": "/m.gguf", "sha256": "0" * 64}}],
            "inference": {"tokens": TOKENS, "repack": repack},
            "memory": memory,
        }
    )


def verdict(trial, raw=None, oom_kills=0, repack_asked=False, swap=(), **settings):
    seen = observation(factors=trial.factors, oom_kills=oom_kills, swap=list(swap))
    return judge(trial, seen, raw or watched(), config(repack_asked, **settings))


def test_a_sound_trial_is_valid_and_draws_no_warning():
    assert verdict(record()) == Validity(valid=True)


@pytest.mark.parametrize(
    ("trial", "seen", "oom_kills", "words"),
    [
        (record(), watched(timed_out=True, exit_status=-9), 0, "longer than trial_timeout_seconds"),
        (record(), watched(exit_status=-9), 1, "ran out of memory"),
        (record(), watched(exit_status=-9), 0, "killed from outside"),
        (record(), watched(exit_status=1), 0, "ended with status 1"),
        (record(engine=EngineTimings()), watched(token_seconds=[0.0, 1.0]), 0, "2 tokens were stamped"),
        (record(limit=Limit(bytes=600, effective=False)), watched(), 0, "not binding"),
        (record(engine=EngineTimings(decode_runs=TOKENS - 1, repacked_bytes=10**6)), watched(), 0, "repacked 1 MB"),
        (record(engine=EngineTimings(decode_runs=3)), watched(), 0, "4 generated of 8"),
    ],
)
def test_what_spoils_a_trial_is_said(trial, seen, oom_kills, words):
    found = verdict(trial, seen, oom_kills)
    assert not found.valid
    assert any(words in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize(("asked", "valid"), [(True, True), (False, False)])
def test_repacking_may_be_asked_for_by_a_factor(asked, valid):
    engine = EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1, repacked_bytes=10**6)
    trial = record(engine=engine, factors=FACTORS.model_copy(update={"repack": asked}))
    assert verdict(trial, repack_asked=not asked).valid is valid


def test_repacking_that_was_asked_for_is_no_fault():
    engine = EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1, repacked_bytes=10**6)
    assert verdict(record(engine=engine), repack_asked=True).valid


def test_a_baseline_that_reads_the_model_again_is_none():
    baseline = FACTORS.model_copy(update={"resident": 1.0})
    calm = record(factors=baseline, limit=Limit(), reads=WindowReads(decode=Reads(model_bytes=10)))
    assert verdict(calm).valid
    assert not verdict(record(factors=baseline, limit=Limit())).valid


def test_clocks_that_disagree_by_more_than_two_percent_make_it_invalid():
    slow = EngineTimings(decode_seconds=0.9, decode_runs=TOKENS - 1)
    assert "the clocks disagree: 1.000 s of decode by ours, 0.900 to 0.900 s" in verdict(record(engine=slow)).reasons[0]
    fast = EngineTimings(decode_seconds=1.1, decode_runs=TOKENS - 1, unaccounted_seconds=0.5)
    assert "1.100 to 1.600 s" in verdict(record(engine=fast)).reasons[0]
    # Sampling is in our time and beside llama.cpp's decode time; 8 tokens were sampled and 7 decoded.
    sampling = EngineTimings(decode_seconds=0.9, decode_runs=TOKENS - 1, sampling_seconds=0.1, repacked_bytes=0)
    assert verdict(record(engine=sampling)).valid
    # What llama.cpp does not account for may have been spent in any of its windows.
    elsewhere = EngineTimings(decode_seconds=0.9, decode_runs=TOKENS - 1, unaccounted_seconds=0.3, repacked_bytes=0)
    assert verdict(record(engine=elsewhere)).valid


COMPRESSED = ObservedSwap(path="/dev/zram0", compressed_memory=True)
ELSEWHERE = ObservedSwap(path="/mnt/swapfile", compressed_memory=False, on_model_disk=False)


@pytest.mark.parametrize(
    ("area", "words"), [(COMPRESSED, "which is compressed memory"), (ELSEWHERE, "which is on another disk than")]
)
def test_swap_that_is_not_where_it_was_declared_spoils_a_trial_under_pressure(area, words):
    assert words in verdict(record(), swap=[area]).reasons[0]
    baseline = record(factors=FACTORS.model_copy(update={"resident": 1.0}), limit=Limit(), reads=WindowReads())
    assert verdict(baseline, swap=[area]).valid, "nothing is swapped in a baseline"


@pytest.mark.parametrize(
    "area",
    [
        ObservedSwap(path="/swapfile", compressed_memory=False, on_model_disk=True),
        ObservedSwap(path="/unseen", compressed_memory=False),
    ],
)
def test_swap_on_the_models_disk_or_out_of_sight_spoils_nothing(area):
    assert verdict(record(), swap=[area]).valid


def test_swap_on_another_disk_may_be_declared_but_compressed_memory_may_not():
    assert verdict(record(), swap=[ELSEWHERE], swap_disk="any").valid
    assert not verdict(record(), swap=[COMPRESSED], swap_disk="any").valid


def disturbed(device=10_000 * MIB, other=0, **changes):
    reads = WindowReads(decode=Reads(model_bytes=5000, device_bytes=device, other_bytes=other))
    return record(reads=reads, disturbance=Disturbance(**changes))


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (disturbed(other=600 * MIB), "others read 629 MB"),
        (disturbed(device=100 * MIB, other=70 * MIB), "others read 73.4 MB"),
        (disturbed(disk_written_bytes=600 * MIB), "629 MB were written"),
        (disturbed(throttled_seconds=0.5), "held llama.cpp back for 0.50 s"),
        (disturbed(thermal_events=3), "slowed itself down 3 times"),
        (
            disturbed(other_cpu_seconds=2.0, other_cpu_fraction=0.5, other_processes="python3 (98%)"),
            "took 50% of the CPU time",
        ),
        (disturbed(other_cpu_seconds=2.0, other_cpu_fraction=0.5, other_processes="python3 (98%)"), "python3 (98%)"),
        (
            disturbed(other_cpu_seconds=2.0, other_cpu_fraction=0.06, run_delay_fraction=0.4),
            "waited 40% of its time for a processor",
        ),
        (record(residency=Residency(before_fraction=0.25)), "25.0% of the model was in the page cache before"),
    ],
)
def test_what_disturbed_a_trial_is_said(trial, words):
    found = verdict(trial)
    assert not found.valid
    assert any(words in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize(
    "trial",
    [
        disturbed(other=400 * MIB),
        disturbed(device=100 * MIB, other=60 * MIB),
        disturbed(disk_written_bytes=60 * MIB, throttled_seconds=0.0, thermal_events=0, stolen_fraction=0.01),
        disturbed(other_cpu_seconds=0.09, other_cpu_fraction=0.2, run_delay_seconds=0.09, run_delay_fraction=0.2),
        disturbed(other_cpu_fraction=0.01, run_delay_fraction=0.01, cpu_stall_fraction=0.9, memory_stall_fraction=0.9),
    ],
)
def test_little_noise_spoils_nothing(trial):
    assert verdict(trial) == Validity(valid=True)


def test_a_hypervisor_that_serves_others_is_warned_of():
    assert "gave 20% of the CPU time to others" in verdict(disturbed(stolen_fraction=0.2)).warnings[0]


@pytest.mark.parametrize(
    "seen",
    [
        {"other_cpu_seconds": 0.3, "other_cpu_fraction": 0.03},
        {
            "other_cpu_seconds": 1.0,
            "other_cpu_fraction": 0.015,
            "run_delay_seconds": 0.9,
            "run_delay_fraction": 0.2,
        },  # on a host of many processors
    ],
)
def test_competition_that_may_matter_is_warned_of(seen):
    found = verdict(disturbed(**seen, other_processes="dockerd (4%)"))
    assert found.valid
    assert "dockerd (4%)" in found.warnings[0]


def test_waiting_for_the_kernel_and_for_the_recorder_is_not_others_doing():
    alone = {"other_cpu_seconds": 0.05, "other_cpu_fraction": 0.01}
    assert verdict(disturbed(**alone, run_delay_seconds=0.9, run_delay_fraction=0.14)) == Validity(valid=True)


def test_a_token_that_printed_nothing_is_told_from_one_that_was_not_generated():
    engine = EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1)
    seen = watched(token_seconds=[0.0, 1.0, 2.0])
    assert "5 of 8 tokens printed nothing" in verdict(record(engine=engine), seen).reasons[0]


def test_counters_that_are_far_apart_are_warned_of():
    apart = Sources(model=ModelSources(process_bytes=100, refault_bytes=50, disagreement_fraction=0.5))
    many = WindowReads(decode=Reads(model_bytes=5000, device_bytes=100 * MIB))
    assert "50% apart" in verdict(record(sources=apart, reads=many)).warnings[0]
    few = WindowReads(decode=Reads(model_bytes=5000, device_bytes=MIB))
    assert verdict(record(sources=apart, reads=few)).warnings == [], "a few pages are soon half of what was read"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"lost_events": 3}, "the trace lost 3 events"),
        ({"ended_early": "[Errno 5] Input/output error"}, "not be recorded to its end ([Errno 5] Input/output error)"),
        ({"capped": ["block", "page"]}, "the trace reached trace.most_bytes"),
    ],
)
def test_a_trace_that_is_not_whole_spoils_a_trial_that_was_measured(told, words):
    whole = {"recorders": ["tracefs"], "profiles": ["block", "page"], "lost_events": 0}
    assert verdict(record(trace=Traced.model_validate(whole))) == Validity(valid=True)
    (reason,) = verdict(record(trace=Traced.model_validate(whole | told))).reasons
    assert words in reason


def test_another_share_than_the_one_asked_for_is_warned_of():
    other = Residency(target_fraction=0.5, achieved_fraction=0.6)
    assert verdict(record(residency=other)).warnings == [
        "60.0% of the weights were resident while decoding, 50.0% were left room for"
    ]


def test_a_log_without_buffers_of_weights_hides_whether_they_were_repacked():
    silent = EngineTimings(decode_seconds=1.0, decode_runs=TOKENS - 1)
    assert verdict(record(engine=silent)).reasons == [
        "llama.cpp's log names no buffer of weights, so that repacking would go unseen: look at llama.log"
    ]
