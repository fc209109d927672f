"""How fast raw traces become tables, beside the ways that people take without the lab.

Everything is timed as whole processes bound to one core, interleaved, and medians are printed; the time that a process
spent on the core (CPU) says more than the time that passed where the machine has other work.

1. A trace of the ring buffer, of page faults and readahead and of requests alone, to Parquet with tensors and experts.
2. The decoding of the raw trace alone, to columns in the order of time, beside the kernel's own text of the same events
   (as `trace_pipe` gives it), read by a regular expression in Python to tuples. Of the text, a part of the events; time
   for each event is compared. What the kernel needs to make the text is not counted.
3. A recording of blktrace: `pagelab trace import blktrace` beside blkparse to text, awk and a loop in Python, as in the
   experiment's notes, counting completions alone so that both give the same answer. Needs blkparse (Debian: blktrace).

Run by `make bench`; `--events 100000000` shows that memory does not grow with the length of a trace.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import large_traces
import pyarrow.parquet as pq

PAGELAB = [sys.executable, "-m", "pagelab"]
TEXT_EVENTS = 400_000
BLKTRACE_RECORDS = 12_000_000
RATE_TARGET, REGEX_TARGET, NOTES_TARGET, RSS_TARGET_MB = 2.0, 12.0, 8.0, 600

CONVERT = """
import sys
from pathlib import Path
from pagelab.traces.convert import convert
result = convert(Path(sys.argv[1]), Path(sys.argv[2]))
assert not result.notes, result.notes
"""
DECODE = """
import sys
from pathlib import Path
from pagelab.store.run_store import read_trace_record
from pagelab.traces.convert import raw_sources
from pagelab.traces.events import Devices
from pagelab.traces.merge import merged
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import Decoding
directory = Path(sys.argv[1])
record = read_trace_record(directory)
decoding = Decoding(Devices.of(record.devices), Problems(), 8 << 20)
batches = merged(raw_sources(directory, record, decoding))
print(sum(len(table["time_ns"]) for batch in batches for table in batch.values()))
"""
READ_TEXT = r"""
import re, sys
head = re.compile(r"\s*(\S+)-(\d+)\s+\[(\d+)\]\s+\S+\s+(\d+)\.(\d+): (\w+): (.*)")
block = re.compile(r"(\d+),(\d+) (\w+) (?:\d+ )?\(.*?\) (\d+) \+ (\d+) \S+ \[(.*)\]")
page = re.compile(r"dev[ =](\d+):(\d+) ino[ =](\w+) (?:pfn=\S+ )?ofs=(\d+)(?:-(\d+))?(?: order=(\d+))?")
rows = []
for line in open(sys.argv[1]):
    found = head.match(line)
    if found is None:
        continue
    comm, pid, cpu, seconds, micros, event, rest = found.groups()
    time_us = int(seconds) * 1000000 + int(micros)
    if event.startswith("block"):
        major, minor, rwbs, sector, sectors, last = block.match(rest).groups()
        rows.append((time_us, event, int(pid), int(major), int(minor), rwbs, int(sector), int(sectors)))
    else:
        major, minor, inode, offset, end, order = page.match(rest).groups()
        rows.append((time_us, event, int(pid), int(major), int(minor), int(inode, 16), int(offset), int(order or 0)))
print(len(rows))
"""
# Phase 4 of the notes. They take every line with an R in it, so each read five times or more; here completions count.
NOTES = r"""
set -e
cd "$1"
blkparse vda -o trace_parsed.txt > /dev/null
awk '$6 == "C" && $7 ~ /R/ {print $8, $10}' trace_parsed.txt > reads.txt
"$2" -c "
sectors = [int(line.split()[0]) for line in open('reads.txt')]
gaps = [sectors[i+1] - sectors[i] for i in range(len(sectors)-1)]
sequential = sum(1 for g in gaps if abs(g) < 256)
print(sequential / len(gaps))
"
"""


@dataclass(frozen=True)
class Cost:
    """Seconds that passed, seconds on the core, most memory in MB, and what was printed."""

    wall: float
    cpu: float
    rss_mb: float
    said: str


def main() -> int:
    """Measure, print, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000, help="length of the traces of the ring buffer")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    say(f"medians of {options.repetitions} whole processes on one core; load of the machine {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pagelab-bench-") as name:
        measure_ring_buffers(Path(name), options.events, options.repetitions)
        measure_blktrace(Path(name), options.repetitions)
    return 0


def measure_ring_buffers(directory: Path, events: int, repetitions: int) -> None:
    """Raw pages to tables and to columns, and the kernel's text to tuples."""
    mixes = {"page cache and requests": large_traces.MIXED, "requests alone": large_traces.BLOCK}
    counts, commands = {}, {}
    for mix, shares in mixes.items():
        (directory / mix / "out").mkdir(parents=True)
        counts[mix] = large_traces.write_ring_buffers(directory / mix, events, shares)
        commands[mix] = [sys.executable, "-c", CONVERT, directory / mix, directory / mix / "out"]
    costs = interleaved(commands, repetitions)
    for mix, cost in costs.items():
        count = counts[mix] / 1e6
        rates = f"{count / cost.wall:.2f} M events/s ({count / cost.cpu:.2f} by CPU time)"
        say(f"{mix}: {count:.0f} M events to Parquet with tensors and experts, {rates}, {cost.rss_mb:.0f} MB at most")
        say(f"  at least {RATE_TARGET:g} M events/s: {verdict(count / cost.cpu >= RATE_TARGET)}")
        say(f"  less than {RSS_TARGET_MB} MB: {verdict(cost.rss_mb < RSS_TARGET_MB)}")
    mixed = next(iter(mixes))
    measure_text(directory / mixed, counts[mixed], costs[mixed].cpu, repetitions)


def measure_text(trace: Path, events: int, convert_seconds: float, repetitions: int) -> None:
    """The kernel's text of some of a trace's events, beside the decoding of all its raw pages."""
    text, script = trace / "trace.txt", trace / "read_text.py"
    lines = write_text(trace / "out", text)
    script.write_text(READ_TEXT)
    commands = {"text": [sys.executable, script, text], "raw": [sys.executable, "-c", DECODE, trace]}
    costs = interleaved(commands, repetitions)
    if (int(costs["text"].said), int(costs["raw"].said)) != (lines, events):
        raise SystemExit(f"{costs['text'].said} of {lines} lines and {costs['raw'].said} of {events} events were found")
    a_line, an_event = costs["text"].cpu / lines, costs["raw"].cpu / events
    nanoseconds = f"{a_line * 1e9:.0f} ns of CPU time for an event against {an_event * 1e9:.0f} ns"
    say(f"text and a regular expression: {a_line / an_event:.1f} times slower than decoding ({nanoseconds})")
    say(f"  at least {REGEX_TARGET:g} times: {verdict(a_line / an_event >= REGEX_TARGET)}")
    say(f"  than decoding, attributing and writing Parquet: {a_line / (convert_seconds / events):.1f} times")


def write_text(tables: Path, target: Path) -> int:
    """Write the first rows of both tables as the kernel prints such events; answers their number."""
    pages = next(pq.ParquetFile(tables / "page_cache.parquet").iter_batches(TEXT_EVENTS)).to_pylist()
    blocks = next(pq.ParquetFile(tables / "block_io.parquet").iter_batches(TEXT_EVENTS // 20)).to_pylist()
    lines = [f"{_head(row['time_ns'])} {_page_text(row)}\n" for row in pages]
    lines += [
        f"{_head(row['time_ns'])} block_rq_complete: 254,0 RA () {row['sector']} + {row['bytes'] // 512} none,0,0 [0]\n"
        for row in blocks
    ]
    target.write_text("".join(lines))
    return len(lines)


def _head(time_ns: int) -> str:
    return f"          reader-5       [000] ..... {time_ns // 10**9:5d}.{time_ns // 1000 % 10**6:06d}:"


def _page_text(row: dict[str, Any]) -> str:
    offset, event = row["file_offset_bytes"], row["event"]
    if event in ("add", "delete"):
        where = "add_to" if event == "add" else "delete_from"
        return f"mm_filemap_{where}_page_cache: dev 254:0 ino 4d pfn=0x108a3f ofs={offset} order=2"
    end = f"-{offset + row['bytes'] - 1}" if event == "map" else ""
    return f"mm_filemap_{'map_pages' if event == 'map' else 'fault'}: dev=254:0 ino=4d ofs={offset}{end}"


def measure_blktrace(directory: Path, repetitions: int) -> None:
    """A recording of blktrace, imported, and by the notes' way where blkparse is there."""
    files, count = large_traces.write_blktrace(directory, BLKTRACE_RECORDS)
    out = directory / "imported"
    commands = {"import": [*PAGELAB, "trace", "import", "blktrace", *files, "--out", out]}
    if shutil.which("blkparse"):
        commands["notes"] = ["bash", "-c", NOTES, "notes", directory, sys.executable]
    costs = interleaved(commands, repetitions)
    ours = costs["import"]
    rate = f"{count / ours.wall / 1e6:.2f} M records/s ({count / ours.cpu / 1e6:.2f} by CPU time)"
    say(f"trace import blktrace: {count / 1e6:.0f} M records, {rate}, {ours.rss_mb:.0f} MB at most")
    if "notes" not in costs:
        say("  beside the notes' pipeline: not measured, blkparse is not here (apt install blktrace)")
        return
    answer = json.loads((out / "access.json").read_text())["sequential_fraction_notes"]
    if abs(float(costs["notes"].said) - answer) > 1e-9:
        raise SystemExit(f"the notes' pipeline says {costs['notes'].said.strip()}, and the import {answer}")
    wall, cpu = costs["notes"].wall / ours.wall, costs["notes"].cpu / ours.cpu
    say(f"blkparse, awk and Python: {wall:.1f} times slower ({cpu:.1f} by CPU time), with the same answer")
    say(f"  at least {NOTES_TARGET:g} times: {verdict(cpu >= NOTES_TARGET)}")


def interleaved(commands: dict[str, Sequence[str | Path]], repetitions: int) -> dict[str, Cost]:
    """Run each command several times, in turns; medians of time, and the most memory."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(repetitions):
        for name, command in commands.items():
            costs[name].append(timed(command))
    return {
        name: Cost(
            statistics.median(cost.wall for cost in some),
            statistics.median(cost.cpu for cost in some),
            max(cost.rss_mb for cost in some),
            some[-1].said,
        )
        for name, some in costs.items()
    }


def timed(command: Sequence[str | Path]) -> Cost:
    """Run one process, with those that it starts, on one core."""
    core = max(os.sched_getaffinity(0))
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:3]))} failed with {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def verdict(reached: bool) -> str:
    """Whether a target is met."""
    return "reached" if reached else "MISSED"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
