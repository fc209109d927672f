"""The language of hypotheses; what becomes of them is in tests/unit/analysis/test_hypotheses.py."""

import pytest

from pagelab.config.expectation import Aggregate, Expectation, parse_expectation

RATE = "decode.tokens_per_second"
IN_RAM, OUT = (Aggregate("median", RATE, (("resident", share),)) for share in ("1.0", "0"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"median({RATE} | resident=1.0) >= 20", Expectation(IN_RAM, ">=", 20, None)),
        (f" median( {RATE}|resident = 1.0 )<-1.5e-3 ", Expectation(IN_RAM, "<", -0.0015, None)),
        (f"median({RATE} | resident=1.0) > median({RATE} | resident=0)", Expectation(IN_RAM, ">", 1, OUT)),
        (f"median({RATE} | resident=1.0) <= 10 * median({RATE} | resident=0)", Expectation(IN_RAM, "<=", 10, OUT)),
        (f"max({RATE}) > 1", Expectation(Aggregate("max", RATE, ()), ">", 1, None)),
        (
            "mean(decode.token_p99_seconds | resident=0.0, model=m-2) < 1",
            Expectation(
                Aggregate("mean", "decode.token_p99_seconds", (("resident", "0.0"), ("model", "m-2"))), "<", 1, None
            ),
        ),
    ],
)
def test_known_answers(text: str, expected: Expectation) -> None:
    assert parse_expectation(text) == expected


@pytest.mark.parametrize(
    "text", ["", "faster", "median(x) = 3", "median(x | colour=red) > 1", "mode(x) > 1", "median(x) > 1; import os"]
)
def test_what_is_no_expectation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an expectation|unknown factor"):
        parse_expectation(text)
