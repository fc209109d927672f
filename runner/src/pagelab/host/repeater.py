"""A thread that looks at something again and again, without taking more of a processor than a measurement bears."""

import threading
import time
from collections.abc import Callable
from typing import Self

SHARE_OF_A_CORE = 0.01  # a call that takes long is made less often, never at the decoder's cost


class Repeater:
    """Makes a call every `interval_seconds`, or as seldom as `share_of_a_core` wants; use it as a context.

    `clock` says what a call costs: by default the time that it took, with time.thread_time only the processor's.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[], None],
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        share_of_a_core: float = SHARE_OF_A_CORE,
    ) -> None:
        self._call = call
        self._interval = interval_seconds
        self._clock = clock
        self._share = share_of_a_core
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Make the first call, and go on."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; the last call has ended when this returns."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            before = self._clock()
            self._call()
            cost = self._clock() - before
            if self._stop.wait(max(self._interval - cost, cost * (1 / self._share - 1))):
                return
