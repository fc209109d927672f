"""The language of hypotheses, and known answers for them."""

import pytest
from example_run import trial_record

from pagelab.analysis.hypotheses import judge_hypotheses
from pagelab.config.expectation import parse_expectation
from pagelab.config.schema import Hypothesis
from pagelab.report import wording
from pagelab.store.record import Validity


def trials():
    """Speeds 10, 20, 90 in RAM, and 1, 2 and an invalid 1000 out of it."""
    speeds = [(1.0, 10.0), (1.0, 20.0), (1.0, 90.0), (0.0, 1.0), (0.0, 2.0), (0.0, 1000.0)]
    return [
        trial_record(
            number, resident, speed, validity=Validity(valid=speed != 1000.0, reasons=["no"] * (speed == 1000.0))
        )
        for number, (resident, speed) in enumerate(speeds, start=1)
    ]


def verdict(expect):
    return judge_hypotheses([Hypothesis(claim="c", expect=expect)], trials())[0]


@pytest.mark.parametrize(
    ("expect", "left", "right", "holds"),
    [
        ("median(decode.tokens_per_second | resident=1.0) >= 20", 20, 20, True),
        ("median(decode.tokens_per_second | resident=1) > 20", 20, 20, False),
        ("mean(decode.tokens_per_second | resident=1.0) <= 40", 40, 40, True),
        ("max(decode.tokens_per_second | resident=0.0) < 3", 2, 3, True),
        ("min(decode.tokens_per_second) < 1e0", 1, 1, False),
        (
            "median(decode.tokens_per_second | resident=1.0) >= 10 * median(decode.tokens_per_second | resident=0.0)",
            20,
            15,
            True,
        ),
        ("min(decode.tokens_per_second | resident=1) > max(decode.tokens_per_second | resident=0)", 10, 2, True),
    ],
)
def test_known_answers(expect, left, right, holds):
    found = verdict(expect)
    assert (found.left, found.right, found.holds) == (left, right, holds)


def test_invalid_trials_are_left_out_and_counted_unless_asked_for():
    expect = "max(decode.tokens_per_second | resident=0.0) < 3"
    usual = verdict(expect)
    assert (usual.holds, usual.trials, usual.left_out) == (True, 2, 1)
    (asked,) = judge_hypotheses([Hypothesis(claim="c", expect=expect)], trials(), include_invalid=True)
    assert (asked.holds, asked.left, asked.trials, asked.left_out) == (False, 1000, 3, 0)
    (elsewhere,) = judge_hypotheses([Hypothesis(claim="c", expect=expect.replace("0.0", "1.0"))], trials())
    assert (elsewhere.trials, elsewhere.left_out) == (3, 0)


def test_it_is_said_how_many_trials_were_left_out():
    text = wording.hypothesis(verdict("max(decode.tokens_per_second | resident=0.0) < 3"))
    assert "holds (2.00 against 3.00, from 2 trials, 1 invalid left out)" in text


def test_what_was_not_measured_is_neither_true_nor_false():
    assert verdict("median(access.sequential_fraction | resident=0.0) >= 0.8").holds is None
    assert verdict("median(decode.tokens_per_second | resident=0.7) >= 0").holds is None


@pytest.mark.parametrize(
    "text", ["", "faster", "median(x) = 3", "median(x | colour=red) > 1", "mode(x) > 1", "median(x) > 1; import os"]
)
def test_what_is_no_expectation_is_refused(text):
    with pytest.raises(ValueError, match=r"is not an expectation|unknown factor"):
        parse_expectation(text)
