"""What looking at an inference costs: decode with and without it in pairs, and the lab's own time around a trial.

Sampling is compared over whole inferences, one with and one without it. Inferences under pressure differ by a fifth
among themselves, so tracing is compared within each: its events are on and off for a few tokens in turn, and the
spans of a pair follow each other.

Run as root, after `make provision`, by `make bench`, which gives it mounts of its own for tracefs.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pagelab.analysis.analyze import derive
from pagelab.analysis.summary import spread_of
from pagelab.config.load import load_config
from pagelab.config.schema import Config
from pagelab.host.journal import Journal, exclusive, restore
from pagelab.host.page_cache import evict
from pagelab.host.storage import disk_of
from pagelab.host.tracefs import Instance, tracefs
from pagelab.inference.build import command_line, open_build
from pagelab.models.catalog import model_path
from pagelab.models.gguf_map import read_gguf_map
from pagelab.observe.counters import Counters
from pagelab.observe.inference import watch
from pagelab.observe.tensors import TensorResidency
from pagelab.observe.tracer import choose
from pagelab.pressure.applied import applied
from pagelab.run.plan import make_plan
from pagelab.run.trial import put_back_afterwards, run_trial, tells_first_token, trial_group
from pagelab.run.trial_setup import Calibration, TrialSetup
from pagelab.store.run_store import RunStore

LAB = Path("/var/lib/pagelab")
STATE = LAB / "state"  # where `pagelab restore` and the next start look for what a killed benchmark left changed
PROJECT = Path(__file__).parents[1]
REPETITIONS = 7
SETTLING, SPAN, SPANS = 8, 4, 16  # tokens before the first span, of a span, and spans
TOKENS = SETTLING + SPAN * SPANS + 1
TRACES = {
    "requests traced": {"page_cache": "off"},
    "requests and faults traced (the default)": {},
    "also pages that enter the cache": {"page_cache": "entered"},
    "also pages that leave it": {"page_cache": "all"},
}
ANONYMOUS_BYTES = 96 << 20  # more than the quick start's model ever needs beside its weights


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def inference(
    setup: TrialSetup, resident: float, directory: Path, *, sampled: bool, on_token: Callable[[int], None]
) -> list[float]:
    """When each token of one watched inference came, in seconds."""
    config, model = setup.config, setup.model
    trial = next(one for one in make_plan(config).trials if one.factors.resident == resident)
    command = command_line(setup.build, model.path, config.inference)
    with put_back_afterwards(setup.journal), trial_group(setup.journal, "bench") as group:
        evict(*model.parts)
        sizes = setup.sizes(trial.factors, ANONYMOUS_BYTES)
        with TensorResidency(model) as tensors, applied(trial.factors, sizes, group) as pressure:
            counters, told = (
                Counters(group, setup.disk, tensors),
                tells_first_token(pressure, lambda _window, count: on_token(count)),
            )
            with setup.tracer(directory) as tracer:
                watched = watch(command, counters, config.inference.tokens, 600, told, sampled=sampled)
    traced = tracer.finish(watched.seen.started_monotonic_seconds)
    if traced is not None and traced.lost_events:
        say(f"  {traced.lost_events} events were lost")
    return watched.token_seconds


def compare_sampling(setup: TrialSetup, resident: float, directory: Path) -> None:
    """Interleaved pairs of inferences, the order within a pair alternating."""
    ratios = []
    for number in range(REPETITIONS):
        rates = {}
        for sampled in (True, False) if number % 2 == 0 else (False, True):
            stamps = inference(setup, resident, directory, sampled=sampled, on_token=lambda _count: None)
            rates[sampled] = (len(stamps) - 1) / (stamps[-1] - stamps[0])
        ratios.append(rates[True] / rates[False])
    say_ratios("sampling", resident, ratios)


def compare_tracing(setup: TrialSetup, name: str, resident: float, directory: Path) -> None:
    """Pairs of neighbouring spans of tokens within an inference; every other inference begins with a traced one."""
    config = Config.model_validate(setup.config.model_dump() | {"trace": TRACES[name]})
    setup = replace(setup, config=config, recorders=choose(config.trace, setup.model.path))
    ratios = []
    for number in range(REPETITIONS):
        switch = Switch(on_at_first=number % 2 == 0)
        stamps = inference(setup, resident, directory, sampled=True, on_token=switch.hear)
        rates = [SPAN / (stamps[start + SPAN] - stamps[start]) for start in range(SETTLING, len(stamps) - SPAN, SPAN)]
        pairs = zip(rates[::2], rates[1::2], strict=False)
        ratios += [first / second if switch.on_at_first else second / first for first, second in pairs]
    say_ratios(name, resident, ratios)


class Switch:
    """Turns the events of the lab's trace instance off and on in turn, every SPAN tokens after the first few."""

    def __init__(self, *, on_at_first: bool) -> None:
        self.on_at_first = on_at_first
        self._files: list[Path] = []

    def hear(self, tokens: int) -> None:
        """Hear of a token."""
        if tokens == 1:
            self._files = [
                path for path in Instance(tracefs()).path.glob("events/*/*/enable") if path.read_text()[0] == "1"
            ]
        span, within = divmod(tokens - SETTLING - 1, SPAN)
        if within == 0 and span >= 0:
            on = (span % 2 == 0) == self.on_at_first
            for path in self._files:
                path.write_text("1" if on else "0")


def say_ratios(name: str, resident: float, ratios: list[float]) -> None:
    """The median, the extremes, and how sure their mean is."""
    spread = spread_of(ratios)
    assert spread is not None
    assert spread.interval is not None
    low, high = spread.interval
    say(
        f"decode with {name} / without, resident {resident:g}: {spread.median:.3f} ({spread.minimum:.3f}-"
        f"{spread.maximum:.3f}), {len(ratios)} pairs; 95 % interval of their mean {low:.3f} to {high:.3f}"
    )


def time_around(setup: TrialSetup, directory: Path) -> None:
    """Seconds of a trial that are not llama.cpp's, in the median of the baseline's trials."""
    own = []
    trial = next(one for one in make_plan(setup.config).trials if one.factors.resident == 1.0)
    for number in range(REPETITIONS):
        store = RunStore.create(directory, "bench", "here", f"run-{number}")
        started = time.monotonic()
        calibration = Calibration(ANONYMOUS_BYTES, ANONYMOUS_BYTES, 0, None)
        run_trial(setup, trial, calibration, store, lambda _phase, _tokens: None)
        whole = time.monotonic() - started
        record, _ = derive(store, trial.number, setup.config)
        own.append(whole - (record.time_to_first_token_seconds or 0.0) - (record.decode.seconds or 0.0))
    say(f"the lab's own time around one inference: {statistics.median(own):.2f} s  ({min(own):.2f}-{max(own):.2f})")


def main() -> int:
    """Measure on the quick start's model."""
    quick = load_config(PROJECT / "runner" / "configs" / "quickstart.yml")
    config = Config.model_validate(quick.model_dump() | {"inference": {"tokens": TOKENS}, "repetitions": 1})
    path = model_path(config.models[0], LAB / "models")
    with tempfile.TemporaryDirectory(dir=LAB) as name, exclusive(STATE):
        directory = Path(name)
        restore(STATE)
        setup = TrialSetup(
            config, open_build(LAB / "llama.cpp" / "current"), read_gguf_map(path), disk_of(path), Journal(STATE)
        )
        try:
            for resident in (1.0, 0.5):
                compare_sampling(setup, resident, directory)
            for trace in TRACES:
                compare_tracing(setup, trace, 0.5, directory)
            time_around(setup, directory / "results")
        finally:
            restore(STATE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
