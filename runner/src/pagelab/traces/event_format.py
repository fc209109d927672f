"""The kernel's own description of its trace events and of the pages of its ring buffer, as text from tracefs.

`events/SYSTEM/EVENT/format` gives the number of an event and its fields, `events/header_page` the head of a page of
the ring buffer (kernel: Documentation/trace/events.rst). Both differ between kernels, so nothing of them is assumed
here. Numbers are taken to be little-endian: the text does not say it, and so are the machines that the lab runs on.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagelab.errors import TraceError, shown

# Numbers are short: what would be longer is no description of the kernel's.
_NUMBER = re.compile(r"^ID:\s*([0-9]{1,5})\s*$", re.MULTILINE)
_FIELD = re.compile(
    r"^\s*field:\s*(?P<declaration>[^;]+);\s*offset:(?P<offset>[0-9]{1,8});\s*size:(?P<size>[0-9]{1,8});"
    r"(\s*signed:(?P<signed>[01]);)?",
    re.MULTILINE,
)
_NAME = re.compile(r"(?P<name>\w+)(?P<array>\[[^]]*\])?\s*$")
_NUMBER_SIZES = (1, 2, 4, 8)
_TEXTS = ("rwbs",)
_LARGEST_PAGE = 1 << 24  # 256 pages of 64 KiB, the most that buffer_subbuf_size_kb takes
_LARGEST_RECORD = 1 << 12


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field lies in an event's record: `size` bytes from `offset`."""

    offset: int
    size: int
    signed: bool
    is_array: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """As numpy reads it: a number, or the bytes of an array without the zeros at its end."""
        if self.is_array or self.size not in _NUMBER_SIZES:
            return np.dtype(f"S{self.size}")
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.size}")


@dataclass(frozen=True, slots=True)
class EventFormat:
    """One event: the number that its records begin with, and its fields by name."""

    event: str
    number: int
    fields: Mapping[str, Field]

    def record_type(self, names: Iterable[str], optional: Iterable[str] = ()) -> np.dtype[Any]:
        """A structured type of the named fields, as long as the last of them needs.

        Of the optional ones it has those that this kernel has.

        Raises:
            TraceError: one of the others is missing in the kernel's description, or one is no number.
        """
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise TraceError(
                f"the description of {self.event} has no field {missing[0]}, so its events cannot be read: "
                "use a pagelab that knows this kernel"
            )
        fields = {name: self.fields[name] for name in (*names, *optional) if name in self.fields}
        for name, field in fields.items():
            is_text = field.is_array or field.size not in _NUMBER_SIZES
            if is_text != (name in _TEXTS) or not 0 < field.offset + field.size <= _LARGEST_RECORD:
                raise TraceError(
                    f"the description of {self.event} has a field {name} of unknown shape, so its events cannot be "
                    "read: use a pagelab that knows this kernel"
                )
        return np.dtype(
            {
                "names": list(fields),
                "formats": [field.dtype for field in fields.values()],
                "offsets": [field.offset for field in fields.values()],
                "itemsize": max(field.offset + field.size for field in fields.values()),
            }
        )


@dataclass(frozen=True, slots=True)
class PageLayout:
    """A page (sub-buffer) of the ring buffer, in bytes: time stamp and commit word in its head, then `data_bytes`."""

    timestamp_offset: int
    commit_offset: int
    data_offset: int
    data_bytes: int

    @property
    def page_bytes(self) -> int:
        """Head and data."""
        return self.data_offset + self.data_bytes


def parse_event_format(event: str, text: str) -> EventFormat:
    """Read a `format` file; `event` (`system/event`) names it in messages.

    Raises:
        TraceError: the text is no description of an event.
    """
    number = _NUMBER.search(text)
    fields = _fields(text)
    if number is None or "common_type" not in fields:
        raise TraceError(f"the description of {event} has no event number or no common_type: record the trace again")
    kind = fields["common_type"]
    if kind.size != 2 or kind.offset not in (0, 2):
        raise TraceError(f"the number of {event} (common_type) lies in an unknown place: use a newer pagelab")
    return EventFormat(event, int(number[1]), fields)


def parse_header_page(text: str) -> PageLayout:
    """Read `events/header_page`.

    Raises:
        TraceError: the text does not say where the time, the commit word and the data of a page lie.
    """
    fields = _fields(text)
    missing = [name for name in ("timestamp", "commit", "data") if name not in fields]
    if missing:
        raise TraceError(f"the description of the ring buffer's pages has no {missing[0]}: record the trace again")
    time, commit, data = (fields[name] for name in ("timestamp", "commit", "data"))
    in_head = time.size == 8 and commit.size in (4, 8) and max(time.offset + 8, commit.offset + 4) <= data.offset
    in_words = data.size > 0 and not data.offset % 4 and not data.size % 4
    if not in_head or not in_words or data.offset + data.size > _LARGEST_PAGE:
        raise TraceError(
            f"the ring buffer's pages have an unknown shape ({shown(' '.join(text.split()))}): record again"
        )
    return PageLayout(time.offset, commit.offset, data.offset, data.size)


def _fields(text: str) -> dict[str, Field]:
    found = {}
    for match in _FIELD.finditer(text):
        name = _NAME.search(match["declaration"].strip())
        if name is not None:
            signed = bool(int(match["signed"] or 0))
            found[name["name"]] = Field(int(match["offset"]), int(match["size"]), signed, name["array"] is not None)
    return found
