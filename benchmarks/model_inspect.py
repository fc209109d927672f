"""How long `pagelab model inspect` takes to read a model with a large vocabulary, beside `gguf.GGUFReader`.

The model has VOCABULARY tokens with as many merges, as models of today have. Reading is timed, and the whole command
beside it, most of which is Python's start. Prints one table, medians of REPETITIONS interleaved runs.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from pagelab.models.gguf_map import read_gguf_map

VOCABULARY = 150_000
REPETITIONS = 5
COMMAND = [sys.executable, "-m", "pagelab", "model", "inspect"]


def main() -> None:
    """Write the model, then time the three ways of looking into it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pagelab-bench-") as name:
        path = Path(name) / "wide.gguf"
        write_model(path)
        report(measure(path))


def write_model(path: Path) -> None:
    """A header as large as that of a real model, and few weights."""
    writer = GGUFWriter(path, "llama")
    tokens = [f"token{number:06d}" for number in range(VOCABULARY)]
    writer.add_block_count(1)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges([f"{token[:5]} {token[5:]}" for token in tokens])
    writer.add_tensor("output.weight", np.ones((1024, 1024), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure(path: Path) -> dict[str, list[float]]:
    """Seconds of every run, by what was run; interleaved."""
    ways: dict[str, Callable[[], object]] = {
        "reading, pagelab": lambda: read_gguf_map(path),
        "reading, gguf.GGUFReader": lambda: GGUFReader(path),
        "the whole command": lambda: subprocess.run([*COMMAND, path], stdout=subprocess.DEVNULL, check=True),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPETITIONS):
        for way, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """One line each, with the ratio to the reader of the gguf package."""
    reader = statistics.median(seconds["reading, gguf.GGUFReader"])
    for what, values in seconds.items():
        middle = statistics.median(values)
        spread = f"({min(values):.3f}-{max(values):.3f})"
        print(f"{what:26} {middle:6.3f} s  {spread}  {middle / reader:.3f} x gguf.GGUFReader")  # noqa: T201


if __name__ == "__main__":
    main()
