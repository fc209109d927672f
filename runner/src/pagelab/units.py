"""Units as people write and read them; the lab itself computes in bytes and seconds."""

import re

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SECTOR_BYTES = 512
NANOSECONDS = 10**9  # in a second
SECTOR_BYTES = 512  # the kernel counts disks in these, whatever their own blocks are

_FACTORS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Read a size such as `2GiB`, `512 MiB`, `1.5 GB` or a plain number of bytes.

    Raises:
        ValueError: the text is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _FACTORS:
        raise ValueError(f"{text!r} is not a size; write for example 512MiB or 2GiB")
    return round(float(match[1]) * _FACTORS[match[2].lower()])


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
