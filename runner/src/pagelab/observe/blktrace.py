"""The blktrace recorder: the program of that name, where debugfs lets it (kernel: block/blktrace.c).

Its clock is CLOCK_MONOTONIC, as that of the tracefs recorder.
"""

import errno
import fcntl
import os
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pagelab.errors import HostError
from pagelab.host.child import enter
from pagelab.host.kernel_mounts import DEBUGFS, mount_point
from pagelab.observe.raw_file import CHUNK_BYTES, RawFileWriter
from pagelab.store.trace_record import Profile, RawFile, TracedDevice

PROGRAM = "blktrace"
SUB_BUFFER_KIB, SUB_BUFFERS = 1024, 16  # a processor's
START_SECONDS = STOP_SECONDS = 20.0
_START, _STOP, _TEAR_DOWN = 0x1274, 0x1275, 0x1276  # BLKTRACESTART and so on of include/uapi/linux/fs.h
_HEAD = struct.Struct("=IIQ")  # magic, sequence, time
_DROPPED = re.compile(r"dropped (\d+)")


def cannot_blktrace(device: TracedDevice) -> str | None:
    """Why blktrace does not work on a disk here, None where it does: tried, since nothing else tells."""
    try:
        with TemporaryDirectory() as directory, BlktraceRecorder(Path(directory), [device], False, 0):
            return None
    except HostError as error:
        return str(error)


class BlktraceRecorder:
    """Records disks, one process each, into files of their processors; use it as a context, inside which it records."""

    name = "blktrace"

    def __init__(self, directory: Path, devices: list[TracedDevice], issues: bool, hold_bytes: int) -> None:
        self._directory = directory
        self._devices = devices
        self._actions = ["complete", *(["issue"] if issues else [])]
        self._hold_bytes = hold_bytes
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._nodes: dict[str, Path] = {}
        self._opened = ExitStack()
        self.lost_events: int | None = 0
        self.cpu_seconds = 0.0
        self.capped: list[Profile] = []
        self.ended_early: str | None = None
        self.notes: list[str] = []

    def __enter__(self) -> "BlktraceRecorder":
        """Begin to record.

        Raises:
            HostError: the program is not installed, or the kernel does not let it record.
        """
        if shutil.which(PROGRAM) is None:
            raise HostError(
                "the program blktrace is not here; set trace.block to tracefs, or run in the lab's container"
            )
        self._debugfs = mount_point(DEBUGFS)
        with ExitStack() as opened:
            for device in self._devices:
                node = self._nodes[device.name] = opened.enter_context(_node(device))
                self._processes[device.name] = process = self._start(device, node)
                opened.callback(_end, process, node)
                self._await_start(device, process, node)
                _make_sure_it_runs(process, node)
            self._opened = opened.pop_all()
        self._began_ns = time.monotonic_ns()
        return self

    def _start(self, device: TracedDevice, node: Path) -> subprocess.Popen[str]:
        command = [PROGRAM, "-d", str(node), "-D", str(self._directory), "-o", device.name]
        command += ["-b", str(SUB_BUFFER_KIB), "-n", str(SUB_BUFFERS)]
        for action in self._actions:
            command += ["-a", action]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=enter(None)
        )

    def _await_start(self, device: TracedDevice, process: subprocess.Popen[str], node: Path) -> None:
        """Wait until the kernel sets its buffers up."""
        deadline = time.monotonic() + START_SECONDS
        while not (self._debugfs / "block" / device.name / "trace0").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = " ".join(_end(process, node).split()) or "it does not begin"
                raise HostError(f"blktrace cannot record {device.name} ({said}); set trace.block to tracefs")
            time.sleep(0.02)

    def _files(self, name: str) -> list[Path]:
        return sorted(self._directory.glob(f"{name}.blktrace.*[0-9]"))

    def __exit__(self, *_: object) -> None:
        """End; the files are whole when this returns."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        said = [_end(process, self._nodes[name]) for name, process in self._processes.items()]
        if ended:
            self.ended_early = f"blktrace of {', '.join(ended)} ended by itself: {' '.join(' '.join(said).split())}"
        self._opened.close()
        dropped = [int(number) for text in said for number in _DROPPED.findall(text)]
        self.lost_events = max(dropped, default=0)  # the total is the last and largest of each

    def finish(self) -> list[RawFile]:
        """Compress the files.

        Raises:
            StoreError: the disk refused.
        """
        for device in self._devices:
            if min(map(_first_ns, self._files(device.name)), default=self._began_ns) > self._began_ns:
                self.notes.append(f"blktrace began to record {device.name} late, the first reads may be missing")
        return [self._compress(device.name, path) for device in self._devices for path in self._files(device.name)]

    def _compress(self, device: str, path: Path) -> RawFile:
        writer = RawFileWriter(path.with_name(f"{path.name}.zst"), self._hold_bytes)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                writer.write(chunk)
        writer.finish()
        path.unlink()
        processor = int(path.name.rpartition(".")[2])
        return RawFile(name=writer.path.name, recorder="blktrace", cpu=processor, bytes=writer.raw_bytes, device=device)


def _first_ns(path: Path) -> int:
    """When the first record of a file was made (struct blk_io_trace, linux/blktrace_api.h); far away without one."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    return int(_HEAD.unpack(head)[2]) if len(head) == _HEAD.size else 2**63


def _make_sure_it_runs(process: subprocess.Popen[str], node: Path) -> None:
    """Start the recording that the program has set up, and wait until it has tried to do so itself.

    Nothing else tells when it records: the program is silent, what it has recorded comes at the end, and a signal
    before this point makes it hang. The kernel takes one such call at a time (debugfs_mutex, blk_trace_ioctl in
    kernel/trace/blktrace.c), so this one waits until the setting up is done. It refuses to start what runs: either us,
    then the program has got this far, or the program, which says so.
    """
    try:
        _ask(node, _START)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise HostError(f"the recording of {node.name} does not start ({error.strerror})") from error
        return
    if process.stdout is None or not select.select([process.stdout], [], [], START_SECONDS)[0]:
        raise HostError(f"blktrace does not begin to record {node.name}; set trace.block to tracefs")
    process.stdout.readline()


def _ask(node: Path, request: int) -> None:
    """One of blktrace's calls on a disk."""
    descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, request)
    finally:
        os.close(descriptor)


@contextmanager
def _node(device: TracedDevice) -> Iterator[Path]:
    """A node of the disk, made for the time where the container has none."""
    usual = Path("/dev") / device.name
    if usual.is_block_device() and usual.stat().st_rdev == os.makedev(device.major, device.minor):
        yield usual
        return
    with TemporaryDirectory() as directory:
        node = Path(directory) / device.name
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(device.major, device.minor))
        yield node


def _end(process: subprocess.Popen[str], node: Path) -> str:
    """Stop a blktrace in order, and give what it said; one that does not stop is killed, and its setting up undone."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=STOP_SECONDS)[0] or ""
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0] or ""
        for request in (_STOP, _TEAR_DOWN):
            with suppress(OSError):
                _ask(node, request)
        return said
    except ValueError:  # its end was taken before
        return ""
