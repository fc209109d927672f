"""What an experiment in progress shows, and that an interrupt is not lost in it."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pagelab.commands import cli
from pagelab.terminal.progress import TerminalObserver


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in cli.STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_an_interrupt_that_python_dropped_comes_at_the_next_token() -> None:
    with TerminalObserver(1, stopped=cli._stop_was_asked_for) as observer:
        observer.phase("decode", 1)
        with suppress(KeyboardInterrupt):  # as a finalizer does, whose exceptions go nowhere
            cli._interrupt(signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            observer.phase("decode", 2)
