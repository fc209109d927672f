"""The times of one CPU's raw file: they never fall, but for damage and for steps of the clock."""

import numpy as np
from numpy.typing import NDArray

SLACK_NS = 1_000_000
"""By how much a time may be before an earlier one of its CPU: clocks that the kernel corrects step back a little."""


class TimeOrder:
    """Judges pages or records, each with the times of its first and last event, by those around them.

    `through_ns` is how far the file has got with those that fit.
    """

    def __init__(self) -> None:
        self.through_ns = 0

    def fitting(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which ones fit, shape of `ends`; `begins` may have one entry more, of one that is judged the next time."""
        reached = np.append(self.through_ns, ends)[: len(begins)]
        if (begins >= reached - SLACK_NS).all():
            self.through_ns = max(self.through_ns, int(ends.max(initial=0)))
            return np.ones(len(ends), dtype=np.bool_)
        kept = np.zeros(len(ends), dtype=np.bool_)
        for one in range(len(ends)):
            if begins[one] >= self.through_ns - SLACK_NS and not self._runs_ahead(one, begins, ends):
                kept[one] = True
                self.through_ns = max(self.through_ns, int(ends[one]))
        return kept

    def _runs_ahead(self, one: int, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
        """Whether one ends after the next one begins, and it is not the next one that is out of order."""
        following = begins[one + 1 : one + 3]
        if not len(following) or ends[one] <= following[0] + SLACK_NS:
            return False
        next_fits = following[0] >= self.through_ns - SLACK_NS
        next_but_one_follows = len(following) == 2 and ends[one] <= following[1] + SLACK_NS
        return bool(next_fits and not next_but_one_follows)
