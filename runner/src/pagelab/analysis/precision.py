"""How well the speed of a combination is known."""

from collections.abc import Sequence

from pagelab.analysis.bootstrap import median_interval


def relative_interval(rates: Sequence[float]) -> float | None:
    """The width of the 95 % interval of the median of a speed, its highest value over its lowest less 1.

    0.05 says that the highest lies 5 % above the lowest. None where no interval is known: of fewer than three rates, or
    where one is not above 0.
    """
    interval = median_interval(rates) if min(rates, default=0.0) > 0 else None
    return None if interval is None else interval[1] / interval[0] - 1
