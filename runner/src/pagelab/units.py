"""Units as people write and read them; the lab itself computes in bytes and seconds."""

import re
from decimal import Decimal

from pagelab.errors import quoted

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
NANOSECONDS = 10**9  # in a second
SECTOR_BYTES = 512  # the kernel counts disks in these, whatever their own blocks are
MOST_BYTES = 2**63 - 1  # what the kernel's counters hold

_FACTORS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*")


def parse_bytes(given: object) -> int:
    """Read a size such as `2GiB`, `512 MiB`, `1.5 GB` or a plain number of bytes; `given` is what a document holds.

    Raises:
        ValueError: it is no size, or more than MOST_BYTES.
    """
    size = _size(given)
    if size is None or size < 0:
        raise ValueError(f"{quoted(given)} is not a size; write for example 512MiB or 2GiB")
    if size > MOST_BYTES:
        raise ValueError(f"{quoted(given)} is more than any memory or disk has")
    return size


def _size(given: object) -> int | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    factor = _FACTORS.get(match[2].lower()) if match else None
    return None if match is None or factor is None else round(Decimal(match[1]) * factor)


def format_bytes(count: float) -> str:
    """Write a number of bytes for a person, in decimal units as disks are sold: `1.25 GB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:  # from there on three digits would round it up to the next unit
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def format_seconds(seconds: float) -> str:
    """Write a duration for a person: `850 ms`, `12.3 s`, `4 min 10 s`, `1 h 05 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
