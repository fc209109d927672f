"""What makes a trial invalid, one reason at a time; each starts from a trial that is valid."""

import pytest
from example_run import factors

from pagelab.observe.inference import Watched
from pagelab.record import (
    EngineTimings,
    Limit,
    Reads,
    Residency,
    Tokens,
    TrialRecord,
    Validity,
    WindowReads,
)
from pagelab.validity import judge

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
        "decode": Tokens(tokens=TOKENS - 1, seconds=1.0, tokens_per_second=TOKENS - 1),
        "reads": WindowReads(decode=Reads(model_bytes=5000)),
        "residency": Residency(target_fraction=0.5, achieved_fraction=0.48),
        "limit": Limit(bytes=600, share_bytes=500, effective=True),
        "engine": EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1, repacked_bytes=0),
        "validity": Validity(valid=False),
    }
    return TrialRecord(**(values | changes))


def watched(**changes):
    values = {"at_start": None, "token_seconds": [float(second) for second in range(TOKENS)], "exit_status": 0}
    return Watched(**(values | changes))


def verdict(trial, seen=None, oom_kills=0, repack_asked=False):
    return judge(trial, seen or watched(), oom_kills, TOKENS, repack_asked)


def test_a_sound_trial_is_valid_and_draws_no_warning():
    assert verdict(record()) == Validity(valid=True)


@pytest.mark.parametrize(
    ("trial", "seen", "oom_kills", "words"),
    [
        (record(), watched(timed_out=True, exit_status=-9), 0, "longer than trial_timeout_seconds"),
        (record(), watched(exit_status=-9), 1, "ran out of memory"),
        (record(), watched(exit_status=-9), 0, "killed from outside"),
        (record(), watched(exit_status=1), 0, "ended with status 1"),
        (record(), watched(token_seconds=[0.0, 1.0]), 0, "2 tokens were stamped"),
        (record(limit=Limit(bytes=600, effective=False)), watched(), 0, "not felt"),
        (record(engine=EngineTimings(decode_runs=TOKENS - 1, repacked_bytes=10**6)), watched(), 0, "repacked 1 MB"),
        (record(engine=EngineTimings(decode_runs=3)), watched(), 0, "4 generated of 8"),
    ],
)
def test_what_spoils_a_trial_is_said(trial, seen, oom_kills, words):
    found = verdict(trial, seen, oom_kills)
    assert not found.valid
    assert any(words in reason for reason in found.reasons), found.reasons


def test_repacking_that_was_asked_for_is_no_fault():
    engine = EngineTimings(decode_seconds=0.99, decode_runs=TOKENS - 1, repacked_bytes=10**6)
    assert verdict(record(engine=engine), repack_asked=True).valid


def test_a_baseline_that_reads_the_model_again_is_none():
    baseline = FACTORS.model_copy(update={"resident": 1.0})
    calm = record(factors=baseline, limit=Limit(), reads=WindowReads(decode=Reads(model_bytes=10)))
    assert verdict(calm).valid
    assert not verdict(record(factors=baseline, limit=Limit())).valid


def test_clocks_that_disagree_by_more_than_two_percent_are_warned_of():
    slow = EngineTimings(decode_seconds=0.9, decode_runs=TOKENS - 1)
    assert "llama.cpp's 0.900 s" in verdict(record(engine=slow)).warnings[0]
    # Sampling is in our time and beside llama.cpp's decode time; 8 tokens were sampled and 7 decoded.
    sampling = EngineTimings(decode_seconds=0.9, decode_runs=TOKENS - 1, sampling_seconds=0.1)
    assert verdict(record(engine=sampling)).warnings == []


def test_another_share_than_the_one_asked_for_is_warned_of():
    other = Residency(target_fraction=0.5, achieved_fraction=0.6)
    assert verdict(record(residency=other)).warnings == [
        "60.0% of the weights were resident while decoding, 50.0% were left room for"
    ]
