"""zstd frames that end in a checksum of their content; the codec of pyarrow has no switch for it.

libzstd.so.1 is called, which every system with dpkg or rpm has, because these are linked to it. Without it the frames
have no checksums, and the sha256 of the whole file, in observation.json, tells alone of damage.
"""

import ctypes
import weakref

import pyarrow as pa

_LEVEL, _CHECKSUM = 100, 201  # ZSTD_c_compressionLevel and ZSTD_c_checksumFlag of zstd.h


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.ZSTD_createCCtx.restype = pointer
    library.ZSTD_freeCCtx.argtypes = [pointer]
    library.ZSTD_CCtx_setParameter.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    library.ZSTD_compressBound.argtypes, library.ZSTD_compressBound.restype = [size], size
    library.ZSTD_compress2.argtypes = [pointer, pointer, size, pointer, size]
    library.ZSTD_compress2.restype = library.ZSTD_CCtx_setParameter.restype = size
    library.ZSTD_isError.argtypes, library.ZSTD_isError.restype = [size], ctypes.c_uint
    return library


_LIBRARY = _load()


class Compressor:
    """Makes one frame of each piece of bytes; of one thread at a time."""

    def __init__(self, level: int) -> None:
        self._codec = pa.Codec("zstd", compression_level=level)
        self._context = None if _LIBRARY is None else _LIBRARY.ZSTD_createCCtx()
        if _LIBRARY is not None and self._context:
            _LIBRARY.ZSTD_CCtx_setParameter(self._context, _LEVEL, level)
            _LIBRARY.ZSTD_CCtx_setParameter(self._context, _CHECKSUM, 1)
            weakref.finalize(self, _LIBRARY.ZSTD_freeCCtx, self._context)

    def compress(self, content: bytes | memoryview) -> pa.Buffer:
        """A frame with this content."""
        if _LIBRARY is None or not self._context:
            return self._codec.compress(content)
        source = pa.py_buffer(content)
        frame = pa.allocate_buffer(_LIBRARY.ZSTD_compressBound(source.size))
        size = _LIBRARY.ZSTD_compress2(self._context, frame.address, frame.size, source.address, source.size)
        if _LIBRARY.ZSTD_isError(size):  # too little memory for its tables
            return self._codec.compress(content)
        return frame.slice(0, size)
