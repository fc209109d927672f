"""How long each token of decode took, and from which token on decoding was steady.

The end of the beginning is found by MSER-5: K. P. White, Simulation 69, 1997, and K. P. White, M. J. Cobb and
S. C. Spratt, Proceedings of the Winter Simulation Conference, 2000. Of the means of five token times each, the first
are left out whose lack makes the standard error of the mean of the others least.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import fsum

BATCH_TOKENS = 5
MINIMUM_BATCHES = 10


def token_percentile(arrivals: Sequence[float], percent: int) -> float | None:
    """The least time from one token to the next that so many percent did not exceed (nearest rank), in seconds.

    None where the tokens are fewer than the one in so many that exceeds it: the 99th percentile needs 100.
    """
    if len(arrivals) < max(2, 100 / (100 - percent)):
        return None
    times = sorted(later - earlier for earlier, later in pairwise(arrivals))
    return times[-(-percent * len(times) // 100) - 1]


def steady_from(arrivals: Sequence[float]) -> int | None:
    """The number of the token, from 0, with which steady decoding begins, by MSER-5 on the times between tokens.

    None under 51 tokens (ten batches), and where the best cut is the latest that is looked at, half-way: then the
    beginning may not be over.
    """
    times = [later - earlier for earlier, later in pairwise(arrivals)]
    batches = [
        fsum(times[begin : begin + BATCH_TOKENS]) / BATCH_TOKENS
        for begin in range(0, len(times) - BATCH_TOKENS + 1, BATCH_TOKENS)
    ]
    if len(batches) < MINIMUM_BATCHES:
        return None
    errors = _squared_errors(batches)
    latest = len(batches) // 2
    cut = min(range(latest + 1), key=lambda index: errors[index])
    return None if cut == latest else cut * BATCH_TOKENS


def _squared_errors(values: Sequence[float]) -> list[float]:
    """For each place, the squared standard error of the mean of the values from there on, but for a factor near 1.

    From the end, by the method of B. P. Welford, Technometrics 4, 1962.
    """
    errors, mean, squares = [], 0.0, 0.0
    for count, value in enumerate(reversed(values), start=1):
        distance = value - mean
        mean += distance / count
        squares += distance * (value - mean)
        errors.append(squares / count**2)
    return errors[::-1]
