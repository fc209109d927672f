"""System calls on mapped memory that Python has no functions for; each lets other threads run meanwhile."""

import ctypes
import errno
import os

from pagelab.errors import HostError
from pagelab.keeper.chunks import CHUNK_BYTES

# asm-generic/mman-common.h and mman.h: the same on x86-64 and arm64.
_PROT_NONE, _PROT_READ = 0, 1
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000
_MADV_DONTNEED, _MADV_HUGEPAGE, _MADV_PAGEOUT = 4, 14, 21
_SYS_PROCESS_MADVISE = 440  # on every architecture; Linux 5.10
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
for _name in ("mlock", "munlock"):
    getattr(_libc, _name).argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.memcpy.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_libc.syscall.restype = ctypes.c_long


class _Stretch(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


class FileWindow:
    """A file mapped for reading, in huge pages where its file system has them; nothing is read until it is asked for.

    Raises:
        HostError: the file cannot be opened or mapped.
    """

    def __init__(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"cannot open {path} ({error.strerror})") from error
        try:
            self.size = os.fstat(descriptor).st_size
            self._address = _mapped(descriptor, self.size, path)
        finally:
            os.close(descriptor)
        _libc.madvise(self._address, self.size, _MADV_HUGEPAGE)  # refused without huge pages: then smaller ones

    def lock(self, offset: int, length: int) -> int:
        """Bring a stretch into RAM and keep it there; returns the error number, 0 where there was none."""
        return ctypes.get_errno() if _libc.mlock(self._address + offset, length) else 0

    def unlock(self, offset: int, length: int) -> None:
        """Let the kernel have the pages of a stretch again."""
        _libc.munlock(self._address + offset, length)
        self.unmap(offset, length)

    def read(self, offset: int) -> None:
        """Wait until the byte at `offset` is in RAM, and with it what the kernel reads at once around it."""
        _libc.memcpy(ctypes.create_string_buffer(1), self._address + offset, 1)

    def unmap(self, offset: int, length: int) -> None:
        """Take the pages of a stretch out of this mapping, which leaves them in the page cache.

        Pages that two processes have mapped are passed over where one of them is told to let go.
        """
        _libc.madvise(self._address + offset, length, _MADV_DONTNEED)


def _mapped(descriptor: int, size: int, path: str) -> int:
    """The address of a file's mapping, a multiple of a chunk, so that a chunk is one huge page."""
    reserved = _libc.mmap(None, size + CHUNK_BYTES, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
    if reserved != _FAILED:
        aligned = -(-reserved // CHUNK_BYTES) * CHUNK_BYTES
        found = _libc.mmap(aligned, size, _PROT_READ, _MAP_SHARED | _MAP_FIXED, descriptor, 0)
        if found != _FAILED:
            return int(found)
    raise HostError(f"cannot map {path} ({os.strerror(ctypes.get_errno())})")


def page_out(process: int, address: int, length: int) -> str | None:
    """Make the kernel drop pages that another process, a pidfd, has mapped; returns why it refused, None if it did not.

    A process that is ending has nothing mapped any more, which is no refusal.

    process_madvise(2) with MADV_PAGEOUT. It needs CAP_SYS_NICE, and the right to trace the process. Pages of files are
    passed over unless the caller owns the file or may write it (can_do_file_pageout in mm/madvise.c).
    """
    stretch = _Stretch(address, length)
    failed = _libc.syscall(_SYS_PROCESS_MADVISE, process, ctypes.byref(stretch), ctypes.c_size_t(1), _MADV_PAGEOUT, 0)
    problem = ctypes.get_errno() if failed < 0 else 0
    return os.strerror(problem) if problem not in (0, errno.ESRCH, errno.ENOMEM) else None
