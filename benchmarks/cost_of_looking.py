"""What watching an inference costs: decode with and without sampling in pairs, and the lab's own time around a trial.

Run as root, after `make provision`, by `make bench`. Prints ratios; both sides of a pair are from one run.
"""

import statistics
import sys
import tempfile
import time
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


def decode_rate(bench: Bench, resident: float, sampled: bool) -> float:
    """Tokens a second of one watched inference."""
    config, model = bench.config, bench.model
    trial = next(one for one in make_plan(config).trials if one.factors.resident == resident)
    command = command_line(bench.build, model.path, config.inference, anonymous_weights=False)
    with put_back_afterwards(bench.journal), trial_group(bench.journal, "bench") as group:
        evict(model.path)
        sizes = bench.sizes(ANONYMOUS_BYTES)
        with TensorResidency(model) as tensors, applied(trial.factors, sizes, group) as pressure:
            counters = Counters(group, bench.disk, tensors)
            told = pressure.told(lambda _window, _tokens: None)
            watched = watch(command, counters, config.inference.tokens, 600, told, sampled=sampled)
    stamps = watched.token_seconds
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def compare_sampling(bench: Bench, resident: float) -> None:
    """Interleaved pairs, the order within a pair alternating."""
    ratios = []
    for number in range(PAIRS):
        first = number % 2 == 0
        one, other = decode_rate(bench, resident, first), decode_rate(bench, resident, not first)
        ratios.append(one / other if first else other / one)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    say(f"decode with sampling / without, resident {resident:g}: {middle:.3f}  ({low:.3f}-{high:.3f})")


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
            for resident in (1.0, 0.5):
                compare_sampling(bench, resident)
            time_around(bench, state / "results")
        finally:
            restore(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
