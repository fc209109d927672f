"""What a slow machine has no time for: a session that takes 90 minutes has no result at all."""

import os
import time

import pytest

NO_TIME = "no time is left"
NOT_COMPILED = "the newest engine is not compiled here"
# When all of it began, setting up the lab included, where whoever calls pytest says so: seconds since the epoch.
STARTED = float(os.environ.get("PAGELAB_TEST_STARTED") or time.time())


def skip_when_late(minutes: float) -> None:
    """Skip what need not be seen each time, once all of it has lasted so long, or PAGELAB_TEST_TIMES as long."""
    lasted = (time.time() - STARTED) / 60
    if lasted > minutes * float(os.environ.get("PAGELAB_TEST_TIMES", "1")):
        pytest.skip(f"{NO_TIME}: the tests have lasted {lasted:.0f} minutes; PAGELAB_TEST_TIMES=3 allows more")
