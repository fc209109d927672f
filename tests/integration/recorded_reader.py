"""Reads a file in a known pattern while the lab's own recorders record it.

    recorded_reader.py PATTERN RECORDERS FILE DIRECTORY

One trace directory a recorder (`DIRECTORY/tracefs`, `DIRECTORY/blktrace`). Prints one line of JSON: what the disk's own
counter gained meanwhile, and what was lost. Call it where mounting tracefs changes nothing for others: in a container,
or under `unshare --mount`.
"""

import json
import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pagelab.config.schema import TraceSettings
from pagelab.host.journal import Journal
from pagelab.host.page_cache import evict
from pagelab.host.storage import Disk, disk_of
from pagelab.models.gguf_map import read_gguf_map
from pagelab.observe.tracer import Tracer, choose

PAGE = mmap.PAGESIZE
BLOCK = 64 << 10
TOUCHES = 400

Offsets = list[int]


def direct(path: Path, shares: list[Offsets], size: int = BLOCK) -> None:
    """Each thread reads its own offsets past the page cache, one after the other."""

    def read(offsets: Offsets) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, size) as buffer:
            for offset in offsets:
                os.preadv(descriptor, [buffer], offset)
        os.close(descriptor)

    threads = [threading.Thread(target=read, args=(offsets,)) for offsets in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_order(path: Path, bytes_of_file: int) -> None:
    direct(path, [list(range(0, bytes_of_file - BLOCK, BLOCK))])


def four_streams(path: Path, bytes_of_file: int) -> None:
    part = bytes_of_file // 4 // BLOCK * BLOCK
    direct(path, [list(range(start, start + part - BLOCK, BLOCK)) for start in range(0, 4 * part, part)])


def at_random(path: Path, bytes_of_file: int) -> None:
    chooser = random.Random(1)  # noqa: S311
    pages = bytes_of_file // PAGE
    direct(path, [[chooser.randrange(pages) * PAGE for _ in range(5000)] for _ in range(4)], PAGE)


def touched(path: Path, bytes_of_file: int, advice: int) -> None:
    """Touch pages through a mapping; each time the file was out of the page cache before."""
    chooser = random.Random(1)  # noqa: S311
    descriptor = os.open(path, os.O_RDONLY)
    with mmap.mmap(descriptor, bytes_of_file, prot=mmap.PROT_READ) as view:
        view.madvise(advice)
        for _ in range(TOUCHES):
            view[chooser.randrange(bytes_of_file)]
            view.madvise(mmap.MADV_DONTNEED)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def through_the_page_cache(path: Path, _bytes_of_file: int) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


PATTERNS: dict[str, Callable[[Path, int], None]] = {
    "in-order": in_order,
    "four-streams": four_streams,
    "random": at_random,
    "whole": through_the_page_cache,
    "touched": lambda path, size: touched(path, size, mmap.MADV_NORMAL),
    "touched-random": lambda path, size: touched(path, size, mmap.MADV_RANDOM),
}


def settings_of(recorder: str, page_cache: str) -> TraceSettings:
    """The configuration that makes a tracer use this recorder."""
    return TraceSettings.model_validate(
        {"block": recorder, "page_cache": page_cache if recorder == "tracefs" else "off"}
    )


def wait_for_what_is_under_way(disk: Disk) -> None:
    """Readahead goes on when its reader is done: it would be counted on one side of a look and not on the other."""
    for _ in range(10_000):
        if (disk.sys_path / "inflight").read_text().split()[0] == "0":
            return
        time.sleep(0.001)
    raise SystemExit(f"{disk.name} never rests")


def main(pattern: str, recorders: str, file: str, directory: str, page_cache: str = "all") -> None:
    path, target = Path(file), Path(directory)
    model, disk, journal = read_gguf_map(path), disk_of(path), Journal(target)
    evict(path)
    with ExitStack() as opened:
        tracers = []
        for name in recorders.split(","):
            settings = settings_of(name, page_cache)
            tracer = Tracer(settings, choose(settings, path), model, disk, journal, target / name)
            tracers.append(opened.enter_context(tracer))
        wait_for_what_is_under_way(disk)
        started = time.monotonic()
        before, _ = disk.read_and_written_bytes()
        PATTERNS[pattern](path, model.file_bytes)
        wait_for_what_is_under_way(disk)
        after, _ = disk.read_and_written_bytes()
        seconds = time.monotonic() - started
    traced = [tracer.finish(started) for tracer in tracers]
    journal.undo()
    assert before is not None
    assert after is not None
    lost = {name: one.lost_events for name, one in zip(recorders.split(","), traced, strict=True) if one}
    sys.stdout.write(json.dumps({"disk_read_bytes": after - before, "seconds": seconds, "lost_events": lost}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
