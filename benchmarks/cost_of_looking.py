"""What looking at an inference costs: decode with and without it in pairs, and the lab's own time around a trial.

Run as root, after `make provision`, by `make bench`, which gives it mounts of its own for tracefs. Prints ratios; both
sides of a pair are from one run.
"""

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pagelab.config import Config, load_config
from pagelab.host.journal import Journal, exclusive, restore
from pagelab.host.storage import disk_of
from pagelab.inference.llama_cpp import command_line, open_build
from pagelab.models.catalog import model_path
from pagelab.models.gguf_map import read_gguf_map
from pagelab.observe.counters import Counters
from pagelab.observe.inference import watch
from pagelab.observe.tensors import TensorResidency
from pagelab.observe.tracer import NOTHING, Choice
from pagelab.plan import make_plan
from pagelab.pressure.applied import applied
from pagelab.pressure.residency import evict
from pagelab.store import RunStore
from pagelab.trial import Bench, put_back_afterwards, run_trial, trial_group

LAB = Path("/var/lib/pagelab")
PROJECT = Path(__file__).parents[1]
PAIRS = 7
ANONYMOUS_BYTES = 96 << 20  # more than the quick start's model ever needs beside its weights


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Look:
    """How an inference is looked at."""

    sampled: bool = True
    recorders: Choice = NOTHING


# Each is held against the one without it.
LOOKS = {
    "sampling": (Look(), Look(sampled=False)),
    "sampling and the block trace": (Look(recorders=Choice(block="tracefs")), Look()),
    "sampling and the page trace": (Look(recorders=Choice(pages=True)), Look()),
}


def decode_rate(bench: Bench, resident: float, look: Look, directory: Path) -> float:
    """Tokens a second of one watched inference."""
    config, model = bench.config, bench.model
    trial = next(one for one in make_plan(config).trials if one.factors.resident == resident)
    command = command_line(bench.build, model.path, config.inference, anonymous_weights=False)
    with put_back_afterwards(bench.journal), trial_group(bench.journal, "bench") as group:
        evict(model.path)
        sizes = bench.sizes(ANONYMOUS_BYTES)
        with TensorResidency(model) as tensors, applied(trial.factors, sizes, group) as pressure:
            counters, told = Counters(group, bench.disk, tensors), pressure.told(lambda _window, _tokens: None)
            with replace(bench, recorders=look.recorders).tracer(directory) as tracer:
                watched = watch(command, counters, config.inference.tokens, 600, told, sampled=look.sampled)
    traced = tracer.finish(watched.started_monotonic)
    if traced is not None and traced.lost_events:
        say(f"  {traced.lost_events} events were lost")
    stamps = watched.token_seconds
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def compare_looks(bench: Bench, name: str, resident: float, directory: Path) -> None:
    """Interleaved pairs, the order within a pair alternating."""
    ratios = []
    for number in range(PAIRS):
        pair = LOOKS[name] if number % 2 == 0 else LOOKS[name][::-1]
        rates = [decode_rate(bench, resident, look, directory) for look in pair]
        with_it, without = rates if number % 2 == 0 else rates[::-1]
        ratios.append(with_it / without)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    say(f"decode with {name} / without, resident {resident:g}: {middle:.3f}  ({low:.3f}-{high:.3f})")


def time_around(bench: Bench, directory: Path) -> None:
    """Seconds of a trial that are not llama.cpp's, in the median of the baseline's trials."""
    own = []
    trial = next(one for one in make_plan(bench.config).trials if one.factors.resident == 1.0)
    for number in range(PAIRS):
        store = RunStore.create(directory, "bench", "here", f"run-{number}")
        started = time.monotonic()
        record = run_trial(bench, trial, ANONYMOUS_BYTES, store, lambda _phase, _tokens: None)
        whole = time.monotonic() - started
        own.append(whole - (record.time_to_first_token_seconds or 0.0) - (record.decode.seconds or 0.0))
    say(f"the lab's own time around one inference: {statistics.median(own):.2f} s  ({min(own):.2f}-{max(own):.2f})")


def main() -> int:
    """Measure on the quick start's model."""
    quick = load_config(PROJECT / "runner" / "configs" / "quickstart.yml")
    config = Config.model_validate(quick.model_dump() | {"inference": {"tokens": 32}, "repetitions": 1})
    path = model_path(config.models[0], LAB / "models")
    with tempfile.TemporaryDirectory(dir=LAB) as name, exclusive(LAB / "state"):
        state = Path(name)
        bench = Bench(
            config, open_build(LAB / "llama.cpp" / "current"), read_gguf_map(path), disk_of(path), Journal(state)
        )
        try:
            for resident, name in itertools.product((1.0, 0.5), LOOKS):
                compare_looks(bench, name, resident, state)
            time_around(bench, state / "results")
        finally:
            restore(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
