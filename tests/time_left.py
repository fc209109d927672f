"""What a slow machine has no time for: a session that takes 90 minutes has no result at all."""

import os
import time

import pytest

NO_TIME = "no time is left"
STARTED = time.monotonic()  # conftest.py loads this first


def skip_when_late(minutes: float) -> None:
    """Skip what need not be seen each time, once the session has lasted so long, or PAGELAB_TEST_TIMES as long."""
    lasted = (time.monotonic() - STARTED) / 60
    if lasted > minutes * float(os.environ.get("PAGELAB_TEST_TIMES", "1")):
        pytest.skip(f"{NO_TIME}: the session has lasted {lasted:.0f} minutes; PAGELAB_TEST_TIMES=3 allows more")
