"""The tracefs recorder: raw sub-buffers of a private trace instance, filtered in the kernel.

One thread waits for all processors' buffers and moves what is full through a pipe (splice(2)), which copies nothing,
into compressed files. The kernel never overwrites what was not read (`overwrite` is 0), so it counts all that is lost.
"""

import contextlib
import fcntl
import os
import select
import threading
import time
from pathlib import Path

from pagelab.errors import HostError, StoreError
from pagelab.host.tracefs import Instance
from pagelab.observe.raw_file import CHUNK_BYTES, RawFileWriter
from pagelab.observe.traced_files import ADDED, FileIdentity
from pagelab.store.trace_record import PageLevel, Profile, RawFile, TracedDevice

BUFFER_KIB = 16 << 10  # a processor's
SUB_BUFFER_BYTES = os.sysconf("SC_PAGE_SIZE")
WAKE_AT_PERCENT = 25  # of a buffer
RAW_HOLD_BYTES = 96 << 20  # of all processors, not compressed before the end
BLOCKS_BEYOND = 2  # times the largest size, up to which requests of the disk, which are few, are still recorded

BLOCK_COMPLETED, BLOCK_ISSUED = "block/block_rq_complete", "block/block_rq_issue"
EVICTED = "filemap/mm_filemap_delete_from_page_cache"
# The second of `faults` came with Linux 6.13 or so; without it, what the process touched is not known to the page.
_TOUCHED = ("filemap/mm_filemap_fault", "filemap/mm_filemap_map_pages")
PAGE_EVENTS: dict[PageLevel, tuple[str, ...]] = {
    "faults": _TOUCHED,
    "entered": (*_TOUCHED, ADDED),
    "all": (*_TOUCHED, ADDED, EVICTED),
}


def kernel_device(major: int, minor: int) -> int:
    """A device number as events hold it (dev_t of the kernel: 12 bits of major, 20 of minor)."""
    return major << 20 | minor


class TracefsRecorder:
    """Records events of an instance into one file a processor; use it as a context, inside which it records."""

    name = "tracefs"

    def __init__(self, instance: Instance, directory: Path, hold_bytes: int, most_bytes: int) -> None:
        self._instance = instance
        self._most_bytes = most_bytes
        self._processors = instance.processors()
        # What the buffers hold of pages when these end still comes.
        self._most_bytes_with_blocks = BLOCKS_BEYOND * most_bytes + len(self._processors) * BUFFER_KIB * 1024
        share, raw_share = (size // len(self._processors) for size in (hold_bytes, min(RAW_HOLD_BYTES, most_bytes)))
        self._writers = {
            number: RawFileWriter(directory / f"cpu{number}.raw.zst", share, raw_share) for number in self._processors
        }
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._record, name="trace recorder", daemon=True)
        self.ended_early: str | None = None
        self.formats: dict[str, str] = {}
        self.lost_events: int | None = 0
        self.cpu_seconds = 0.0
        self.capped: list[Profile] = []
        self._added: dict[Profile, list[str]] = {}
        instance.set("trace_clock", "mono")
        instance.set("options/overwrite", "0")
        instance.set("buffer_size_kb", str(BUFFER_KIB))
        instance.set("buffer_percent", str(WAKE_AT_PERCENT))
        self.header_page = instance.header_page()

    def add_block(self, devices: list[TracedDevice], issues: bool) -> None:
        """Record what completes on these disks, and what is issued to them."""
        wanted = " || ".join(f"dev == {kernel_device(one.major, one.minor)}" for one in devices)
        for event in (BLOCK_COMPLETED, *([BLOCK_ISSUED] if issues else [])):
            self._add("block", event, wanted)

    def add_pages(self, identities: list[FileIdentity], level: PageLevel) -> None:
        """Record events of these files' pages: faults alone, also pages that enter the cache, or that leave it too."""
        wanted = " || ".join(
            f"(i_ino == {inode} && s_dev == {kernel_device(major, minor)})" for inode, major, minor in identities
        )
        for event in PAGE_EVENTS[level]:
            if self._instance.has_event(event):
                self._add("page", event, wanted)

    def _add(self, profile: Profile, event: str, wanted: str) -> None:
        self._added.setdefault(profile, []).append(event)
        self.formats[event] = self._instance.format_of(event)
        self._instance.enable(event, wanted)

    def __enter__(self) -> "TracefsRecorder":
        """Begin to record."""
        self._thread.start()
        self._instance.set("tracing_on", "1")
        return self

    def __exit__(self, *_: object) -> None:
        """End, with everything that was recorded until now in the files' writers."""
        with contextlib.suppress(HostError):
            self._instance.set("tracing_on", "0")
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self.lost_events = self._instance.lost_events()

    def finish(self) -> list[RawFile]:
        """Write the files.

        Raises:
            StoreError: the disk refused.
        """
        for writer in self._writers.values():
            writer.finish()
        return [
            RawFile(name=writer.path.name, recorder="tracefs", cpu=number, bytes=writer.raw_bytes)
            for number, writer in self._writers.items()
        ]

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        try:
            with contextlib.ExitStack() as opened:
                sources = {number: _open(self._instance.raw_file(number), opened) for number in self._processors}
                pipe = _pipe(opened)
                poller = select.poll()
                for descriptor in (self._wake, *sources.values()):
                    poller.register(descriptor, select.POLLIN)
                ending = False
                while not ending:
                    ending = any(descriptor == self._wake for descriptor, _ in poller.poll())
                    self._drain(sources, pipe)
                for number, descriptor in sources.items():
                    self._read_rest(number, descriptor)
        except (OSError, HostError, StoreError) as error:
            self.ended_early = str(error)
        self.cpu_seconds = time.thread_time()

    def _drain(self, sources: dict[int, int], pipe: tuple[int, int]) -> None:
        """Take all whole sub-buffers of all processors."""
        for number, descriptor in sources.items():
            with contextlib.suppress(BlockingIOError):
                while moved := os.splice(descriptor, pipe[1], CHUNK_BYTES, flags=os.SPLICE_F_NONBLOCK):
                    self._take(number, os.read(pipe[0], moved))

    def _read_rest(self, number: int, descriptor: int) -> None:
        """Take the sub-buffer that is not full."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(descriptor, SUB_BUFFER_BYTES):
                self._take(number, chunk)

    def _take(self, number: int, chunk: bytes) -> None:
        self._writers[number].write(chunk)
        size = sum(writer.compressed_bytes for writer in self._writers.values())
        if size > self._most_bytes and "page" in self._added:
            self._end("page")
        elif size > self._most_bytes_with_blocks and "block" in self._added:
            self._end("block")

    def _end(self, profile: Profile) -> None:
        """Record a profile no more."""
        for event in self._added.pop(profile):
            self._instance.disable(event)
        self.capped.append(profile)


def _open(path: Path, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    opened.callback(os.close, descriptor)
    return descriptor


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    opened.callback(os.close, read_end)
    opened.callback(os.close, write_end)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    return read_end, write_end
