"""What an experiment in progress looks like on the terminal: one bar, or plain lines where there is no terminal."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pagelab.store.record import TrialRecord
from pagelab.terminal.plain import plain
from pagelab.units import format_bytes, format_seconds


class TerminalObserver:
    """Shows trial, phase and time left; an experiment.Observer. Use it as a context.

    `stopped` says whether the user asked for the end: Python drops an interrupt that arrives in a finalizer, so it is
    asked again at every phase and token.
    """

    def __init__(
        self, planned: int, console: Console | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._stopped = stopped
        self._console = console or Console(highlight=False, stderr=True)
        self._planned = planned
        self._label = ""
        self._expected_tokens = 1
        self._trial_seconds: list[float] = []
        self._began = time.monotonic()
        self._done = 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[phase]}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("preflight", total=max(planned, 1), phase="", left="")

    def __enter__(self) -> "TerminalObserver":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; the lines above it stay."""
        self._bar.stop()

    def note(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(plain(f"• {sentence}"), soft_wrap=True)

    def begin(self, label: str, expected_tokens: int) -> None:
        """A calibration or a trial begins."""
        self._label, self._expected_tokens, self._began = label, expected_tokens, time.monotonic()
        if not self._console.is_terminal:
            self.note(f"{label} …")

    def phase(self, name: str, tokens: int) -> None:
        """Move the bar within the trial; KeyboardInterrupt where the end was asked for."""
        if self._stopped():
            raise KeyboardInterrupt
        within = tokens / self._expected_tokens if name == "decode" else 0.0
        phase = f"{name} {tokens}/{self._expected_tokens}" if name == "decode" else name
        position = f"trial {min(self._done + 1, self._planned)}/{self._planned}"
        self._bar.update(
            self._task,
            completed=self._done + (0.0 if self._label.startswith("calibrate") else within),
            description=plain(f"{position}  {self._label}").plain,
            phase=phase,
            left=self._left(within),
        )

    def trial_done(self, record: TrialRecord, done: int, planned: int) -> None:
        """A line a trial, with what matters of it."""
        self._done, self._planned = done, planned
        self._trial_seconds.append(time.monotonic() - self._began)
        rate, read = record.decode.tokens_per_second, record.reads.decode.model_bytes
        parts = [f"trial {done}/{planned}  {self._label}:"]
        parts.append(f"{rate:.3g} tokens/s" if rate is not None else "no speed")
        if read is not None:
            parts.append(f", {format_bytes(read)} of the model read while decoding")
        if not record.validity.valid:
            parts.append(f" — INVALID: {'; '.join(record.validity.reasons)}")
        self._console.print(plain(f"{parts[0]} {''.join(parts[1:])}"), soft_wrap=True)
        self._bar.update(self._task, completed=done, total=planned)

    def planned(self, trials: int) -> None:
        """The bar has to go further than was known."""
        self._planned = trials
        self._bar.update(self._task, total=max(trials, 1))

    def _left(self, within: float) -> str:
        """Time left, from the mean of the trials so far; unknown before the first has ended."""
        if not self._trial_seconds:
            return "time left: not known yet"
        mean = sum(self._trial_seconds) / len(self._trial_seconds)
        return f"about {format_seconds(max(0.0, (self._planned - self._done - within) * mean))} left"
