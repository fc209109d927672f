"""Percentiles of the times of tokens, and where steady decoding begins, for series whose answer is known."""

import math
from collections.abc import Iterable
from itertools import accumulate

import pytest
from example_raw import raw_inference
from example_run import dice_of

from pagelab.analysis.token_times import steady_from, token_percentile
from pagelab.analysis.windows import decode_of, steady_of
from pagelab.store.record import Steady


def arrivals(times: Iterable[float]) -> list[float]:
    """When tokens come that take these times each, after the first at 2 s."""
    return list(accumulate(times, initial=2.0))


def wave(count: int, middle: float = 1.0) -> list[float]:
    """Times around one value that come back every five tokens, so that all batches are equal; exact in binary."""
    return [middle + (index % 5 - 2) / 16 for index in range(count)]


class TestPercentiles:
    def test_known_answers(self) -> None:
        seconds = arrivals(number / 64 for number in range(100, 0, -1))
        assert [token_percentile(seconds, percent) for percent in (50, 90, 99)] == [50 / 64, 90 / 64, 99 / 64]

    def test_it_is_always_one_that_occurred(self) -> None:
        assert token_percentile(arrivals([1.0, 2.0]), 50) == 1.0
        assert token_percentile(arrivals([1.0, 2.0, 4.0]), 50) == 2.0

    @pytest.mark.parametrize(("percent", "tokens"), [(50, 2), (90, 10), (99, 100)])
    def test_too_few_tokens_have_none(self, percent: int, tokens: int) -> None:
        assert token_percentile(arrivals([1.0] * (tokens - 1)), percent) == 1.0
        assert token_percentile(arrivals([1.0] * (tokens - 2)), percent) is None

    def test_in_the_record(self) -> None:
        found = decode_of(raw_inference(token_seconds=arrivals([0.5] * 10 + [1.0] * 5)))
        assert (found.token_p50_seconds, found.token_p90_seconds, found.token_p99_seconds) == (0.5, 1.0, None)
        assert found.tokens == 15


class TestSteady:
    def test_slow_first_tokens_are_cut(self) -> None:
        for slow in (5, 20, 35):
            assert steady_from(arrivals([4.0] * slow + wave(100 - slow))) == slow

    def test_fast_first_tokens_are_cut(self) -> None:
        """As where the beginning of the model was still in RAM."""
        assert steady_from(arrivals([0.125] * 10 + wave(90))) == 10

    def test_nothing_is_cut_of_what_is_steady(self) -> None:
        assert steady_from(arrivals(wave(100))) == 0

    def test_what_becomes_slower_and_slower_has_none(self) -> None:
        assert steady_from(arrivals(1 + index / 64 for index in range(100))) is None

    def test_what_lasts_for_more_than_half_is_no_beginning(self) -> None:
        assert steady_from(arrivals([4.0] * 60 + wave(40))) == 0

    def test_too_few_tokens_have_none(self) -> None:
        assert steady_from(arrivals(wave(50))) == 0
        assert steady_from(arrivals(wave(49))) is None
        assert steady_from([]) is None

    def test_it_is_the_least_standard_error(self) -> None:
        """Against the definition: of all cuts up to half-way, the one with the least squared error of the mean."""
        dice = dice_of(5)
        for _ in range(20):
            times = [dice.uniform(1, 2) + 3 * math.exp(-index / 9) for index in range(120)]
            batches = [sum(times[begin : begin + 5]) / 5 for begin in range(0, 120, 5)]
            errors = []
            for cut in range(13):
                kept = batches[cut:]
                mean = sum(kept) / len(kept)
                errors.append(sum((value - mean) ** 2 for value in kept) / len(kept) ** 2)
            best = errors.index(min(errors))
            assert steady_from(arrivals(times)) == (None if best == 12 else 5 * best)

    def test_in_the_record(self) -> None:
        found = steady_of(raw_inference(token_seconds=arrivals([4.0] * 10 + wave(93, middle=0.5))))
        assert (found.from_token, found.tokens) == (10, 93)
        assert found.seconds == pytest.approx(sum(wave(93, middle=0.5)))
        assert found.tokens_per_second == pytest.approx(93 / sum(wave(93, middle=0.5)))
        assert steady_of(raw_inference()) == Steady()
