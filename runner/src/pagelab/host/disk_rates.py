"""What a disk delivers when a file is read: in order past the page cache, through it, and at random. Measured with fio.

A disk's rate is not one number. Direct reads land in the scattered pages of a buffer and become many small segments,
unless the buffer is made of huge pages; reads through the page cache may use folios larger than a page, and readahead.
So the ways are measured one by one, and a bound takes the best of them.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from pagelab.errors import HostError, shown
from pagelab.host.child import enter
from pagelab.host.page_cache import evict
from pagelab.units import KIB, MIB

DIRECT_SECONDS = 6  # long enough to see the end of a burst that lasts for seconds
RANDOM_SECONDS = 0.4
RANDOM_BYTES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
RANDOM_DEPTHS = (1, 4, 32)
PASSES = 3  # through the page cache
STEADY_FRACTION = 0.8  # of the first second's rate; a disk that delivers less in the last one gives bursts
_TIMEOUT_SECONDS = 300.0
_COMMON = ("--output-format=json", "--thread", "--readonly")
_DIRECT = ("--direct=1", "--ioengine=libaio", "--iomem=mmap", "--time_based", "--norandommap", "--group_reporting")


@dataclass(frozen=True)
class RandomRate:
    """Bytes a second of direct reads of one size at random places, so many under way at a time."""

    request_bytes: int
    depth: int
    bytes_per_second: float


@dataclass(frozen=True)
class DiskRates:
    """What was measured, in bytes a second, with one file of `file_bytes`.

    `direct`: in order, past the page cache, 1 MiB at a time, 8 under way. `first_second` and `last_second` are the
    rates of that at its beginning and end. `page_cache`: in order through the page cache, from which the file was
    evicted before; the best of several passes.
    """

    measured_at: str
    fio_version: str
    file_bytes: int
    direct_bytes_per_second: float
    first_second_bytes_per_second: float | None
    last_second_bytes_per_second: float | None
    page_cache_bytes_per_second: float
    random: tuple[RandomRate, ...]

    @property
    def most_bytes_per_second(self) -> float:
        """The best of all ways."""
        ways = [self.direct_bytes_per_second, self.page_cache_bytes_per_second]
        return max(ways + [one.bytes_per_second for one in self.random])

    @property
    def gives_bursts(self) -> bool:
        """Whether it began faster than it went on, as cloud disks do that have credits."""
        first, last = self.first_second_bytes_per_second, self.last_second_bytes_per_second
        return first is not None and last is not None and last < STEADY_FRACTION * first


def measure_disk_rates(path: Path) -> DiskRates:
    """Measure the disk of a file with that file; takes some 15 seconds.

    Raises:
        HostError: fio is missing or failed, as where the file system cannot read past the page cache.
    """
    with tempfile.TemporaryDirectory(prefix="pagelab-fio-") as scratch:
        logs = Path(scratch) / "rate"
        report = _fio(path, [*_DIRECT, *_in_order(logs), *_at_random()])
        seconds = _rates_by_second(logs.with_name("rate_bw.1.log"))
    jobs = {job["jobname"]: float(job["read"]["bw_bytes"]) for job in report["jobs"]}
    return DiskRates(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        fio_version=str(report["fio version"]),
        file_bytes=path.stat().st_size,
        direct_bytes_per_second=jobs["direct"],
        first_second_bytes_per_second=seconds[0] if seconds else None,
        last_second_bytes_per_second=seconds[-1] if seconds else None,
        page_cache_bytes_per_second=max(_page_cache_rate(path) for _ in range(PASSES)),
        random=tuple(RandomRate(*pair, jobs[_random_name(*pair)]) for pair in product(RANDOM_BYTES, RANDOM_DEPTHS)),
    )


def _in_order(logs: Path) -> list[str]:
    log = [f"--write_bw_log={logs}", "--log_avg_msec=250"]
    return ["--name=direct", "--rw=read", "--bs=1M", "--iodepth=8", f"--runtime={DIRECT_SECONDS}", *log]


def _at_random() -> list[str]:
    words = []
    for size, depth in product(RANDOM_BYTES, RANDOM_DEPTHS):
        words += [f"--name={_random_name(size, depth)}", "--stonewall", "--rw=randread", f"--bs={size}"]
        words += [f"--iodepth={depth}", f"--runtime={round(RANDOM_SECONDS * 1000)}ms"]
    return words


def _random_name(size: int, depth: int) -> str:
    return f"random-{size}-{depth}"


def _page_cache_rate(path: Path) -> float:
    """Bytes a second of one pass through the page cache, in order, by one thread."""
    evict(path)
    report = _fio(path, ["--direct=0", "--ioengine=psync", "--name=page-cache", "--rw=read", "--bs=1M"])
    evict(path)
    return float(report["jobs"][0]["read"]["bw_bytes"])


def _fio(path: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run fio on a file, which it gets as a descriptor: in its options a colon would part two names."""
    program = shutil.which("fio")
    if program is None:
        raise HostError("fio is missing, which measures the disk: run inside the lab's container")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = subprocess.run(
            [program, *_COMMON, f"--filename=/proc/self/fd/{descriptor}", *options],
            pass_fds=[descriptor],
            preexec_fn=enter(None),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"fio cannot measure the disk of {path}: {shown(str(error), 200)}") from error
    finally:
        os.close(descriptor)
    return _parsed(done, path)


def _parsed(done: subprocess.CompletedProcess[bytes], path: Path) -> dict[str, Any]:
    """fio's report; notes of fio may stand before it."""
    text = done.stdout.decode(errors="replace")
    try:
        report = json.loads(text[text.index("{") :])
        failed = [job["error"] for job in report["jobs"] if job["error"]]
    except (ValueError, KeyError, TypeError):
        report, failed = {}, [done.returncode]
    if done.returncode != 0 or failed:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise HostError(
            f"fio cannot read {path} past the page cache ({shown(said[-1], 200)}); use a disk file system for models"
        )
    return dict(report)


def _rates_by_second(log: Path) -> list[float]:
    """Mean rates of each second, in bytes a second, from fio's log of rates (milliseconds, KiB/s, direction, …)."""
    by_second: dict[int, list[float]] = {}
    for line in log.read_text().splitlines():
        milliseconds, kib_per_second = (float(word) for word in line.split(",")[:2])
        by_second.setdefault(int(milliseconds / 1000), []).append(kib_per_second * KIB)
    return [fmean(rates) for _, rates in sorted(by_second.items()) if len(rates) > 1]
