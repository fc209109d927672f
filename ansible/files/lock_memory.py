"""Lock some memory, or say on standard error why that is not possible."""

import ctypes
import os
import resource
import sys

MEBIBYTES = 64  # what is allowed by default is usually 8

size = MEBIBYTES * 2**20
buffer = ctypes.create_string_buffer(size)
if ctypes.CDLL(None, use_errno=True).mlock(buffer, ctypes.c_size_t(size)) != 0:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    allowed = "any amount is" if limit == resource.RLIM_INFINITY else f"{limit // 1024} KiB are"
    sys.exit(f"locking {MEBIBYTES} MiB: {os.strerror(ctypes.get_errno())} ({allowed} allowed)")
