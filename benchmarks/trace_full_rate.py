"""Whether the recorder keeps up with the disk: random reads at its full rate, and what of it was lost.

Run as root, by `make bench`, which gives it mounts of its own for tracefs. With fio where it is
installed: 4 KiB, random, past the page cache, 32 requests under way.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc

from pagelab.config.model_specs import SyntheticSpec
from pagelab.config.schema import TraceSettings
from pagelab.host.journal import Journal, exclusive, restore
from pagelab.host.storage import disk_of
from pagelab.models.gguf_map import read_gguf_map
from pagelab.models.synthetic import write_synthetic
from pagelab.observe.tracer import Tracer, choose
from pagelab.store.files import read_table
from pagelab.traces.convert import convert

SECONDS = 30
STATE = Path("/var/lib/pagelab/state")  # where `pagelab restore` and the next start look for what a killed run left
PLACE = Path("/var/tmp")  # noqa: S108 - on a disk, which /tmp need not be
SPEC = SyntheticSpec.model_validate({"architecture": "llama", "layers": 58, "width": 2048, "feed_forward": 8192})


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fio(file: Path) -> list[str]:
    """The command that reads a file at random, as fast as the disk can."""
    options = {"filename": file, "rw": "randread", "bs": "4k", "direct": 1, "ioengine": "libaio", "iodepth": 32}
    options |= {"runtime": SECONDS, "time_based": 1, "readonly": "", "name": "full-rate", "output-format": "terse"}
    return ["fio", *(f"--{name}={value}" if value != "" else f"--{name}" for name, value in options.items())]


def measure(directory: Path) -> None:
    """Read with and without the recorder, and hold its trace against the disk's own counter."""
    file = directory / "model.gguf"
    write_synthetic(SPEC, file)
    settings, disk = TraceSettings.model_validate({"page_cache": False, "most_bytes": "4GiB"}), disk_of(file)
    subprocess.run(fio(file), stdout=subprocess.DEVNULL, check=True)  # without the recorder, and warm
    journal = Journal(STATE)
    tracer = Tracer(settings, choose(settings, file), read_gguf_map(file), disk, journal, directory / "trace")
    with tracer:
        before, started = disk.read_and_written_bytes()[0], time.monotonic()
        subprocess.run(fio(file), stdout=subprocess.DEVNULL, check=True)
        after, seconds = disk.read_and_written_bytes()[0], time.monotonic() - started
    traced = tracer.finish(started)
    journal.undo()
    if traced is None or before is None or after is None:
        raise SystemExit("nothing was recorded here")
    convert(directory / "trace", directory)
    table = read_table(directory / "block_io.parquet", ["operation", "bytes"])
    reads = table.filter(pc.equal(table["operation"], "read"))
    seen, counted, cpu = pc.sum(reads["bytes"]).as_py(), after - before, traced.recorder_cpu_seconds or 0.0
    rate = reads.num_rows / seconds
    say(f"{rate:.0f} reads/s for {seconds:.0f} s: {traced.lost_events} events lost, {cpu:.2f} s of CPU for recording")
    say(f"bytes in the trace less those of the disk's own counter: {seen - counted} of {counted}")


def main() -> int:
    """Measure where fio is installed."""
    if shutil.which("fio") is None:
        say("the recorder at the disk's full rate: not measured, fio is not installed (apt-get install fio)")
        return 0
    with tempfile.TemporaryDirectory(dir=PLACE) as name, exclusive(STATE):
        restore(STATE)
        measure(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
