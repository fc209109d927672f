"""How many random inputs are tried: a fifth of what docs/reliability.md has figures of, or all with PAGELAB_FUZZ=1."""

import os

SHARE = float(os.environ.get("PAGELAB_FUZZ", "0.2"))


def how_many(whole: int) -> int:
    """That share of a number of inputs, one at least."""
    return max(1, round(SHARE * whole))
