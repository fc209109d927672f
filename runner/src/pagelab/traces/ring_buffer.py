"""Pages of the kernel's trace ring buffer, as `per_cpu/cpuN/trace_pipe_raw` gives them: place and time of their events.

A page holds a time stamp, a commit word (bytes of data; bit 31: events are missing before this page) and events. An
event begins with a word of 5 bits `type_len` and 27 bits `time_delta` (kernel: include/linux/ring_buffer.h,
kernel/trace/ring_buffer.c):

    1 to 28   data of 4 * type_len bytes follow
    0         the next word is the number of bytes that follow, itself among them, then data
    29        padding: to the end of the page where time_delta is 0, else the next word is the number of bytes to skip
    30        time extend: the time moves by the next word * 2^27 + time_delta
    31        absolute time stamp, of which the upper 5 bits are those of the page's

The time of an event is that of the page and of all deltas up to its own. An event that was discarded has become
padding; it keeps its delta, which counts unless it is 1, put there because 0 would end the page.

Many pages are walked in step: the k-th event of each of them is looked at in one go.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagelab.traces.arrays import Bytes, Integers, Mask
from pagelab.traces.event_format import PageLayout
from pagelab.traces.problems import DamagedError

_WORD_BYTES = 4
_LARGEST_DATA, _PADDING, _TIME_EXTEND, _TIME_STAMP = 28, 29, 30, 31
_DISCARDED_WITHOUT_DELTA = 1
_COMMIT_MASK = (1 << 27) - 1
_MISSED = 1 << 31
_UPPER_TIME = -(1 << 59)  # the upper 5 of 64 bits
_FIRST_ROOM = 96


@dataclass(frozen=True, slots=True)
class RingEvents:
    """Events of some pages in the order of the pages, one entry each.

    `at_word` is where the data begin, in words of 4 bytes from the start of the pages; `words` how many they are.
    `missed` are the pages before which, as the kernel says, events are missing.
    """

    time_ns: Integers
    at_word: NDArray[np.int32]
    words: NDArray[np.uint16]
    missed: Integers


def walk(pages: Bytes, layout: PageLayout) -> RingEvents:
    """Find the events of whole pages; `pages` has shape (pages, bytes of a page) and is contiguous.

    Raises:
        DamagedError: a page holds more than it can, or an event of impossible length.
    """
    commit = _numbers(pages, layout.commit_offset, 4)
    data_bytes = commit & _COMMIT_MASK
    too_full = np.flatnonzero(data_bytes > layout.data_bytes)
    if len(too_full):
        raise DamagedError("has a page that says it holds more than it can", int(too_full[0]) * layout.page_bytes)
    begin = (np.arange(len(pages)) * layout.page_bytes + layout.data_offset) // _WORD_BYTES
    steps = _Steps(pages.reshape(-1).view("<u4"), begin, begin + data_bytes // _WORD_BYTES)
    steps.run(_numbers(pages, layout.timestamp_offset, 8))
    return steps.events(np.flatnonzero(commit & _MISSED))


class _Steps:
    """The walk itself. What is found of event k of page p goes to row k, column p; a place of 0 means no event."""

    def __init__(self, words: NDArray[np.uint32], begin: Integers, end: Integers) -> None:
        self._words = words
        self._count = len(begin)
        self._pages = np.arange(self._count)  # those that are not done, with the next two for each of them
        self._at, self._end = begin, end
        self._step = 0
        self._places = np.zeros((_FIRST_ROOM, self._count), dtype=np.int32)
        self._times = np.empty((_FIRST_ROOM, self._count), dtype=np.int64)
        self._lengths = np.empty((_FIRST_ROOM, self._count), dtype=np.uint16)

    def _make_room(self) -> None:
        """Twice the rows."""
        self._places = np.concatenate([self._places, np.zeros_like(self._places)])
        self._times = np.concatenate([self._times, np.empty_like(self._times)])
        self._lengths = np.concatenate([self._lengths, np.empty_like(self._lengths)])

    def run(self, time_ns: Integers) -> None:
        self._time = time_ns  # of the pages that are not done
        self._drop(self._at >= self._end)
        while len(self._pages):
            if self._step == len(self._places):
                self._make_room()
            self._one_step()
            self._step += 1

    def _one_step(self) -> None:
        header = self._words[self._at]
        kind = header & 31
        size = kind.astype(np.int64)  # of the data, in words
        data_at = self._at + 1
        delta = (header >> 5).astype(np.int64)
        unusual = np.flatnonzero(kind - np.uint32(1) >= _LARGEST_DATA)  # 0 wraps around
        no_data: Integers | None = None
        if len(unusual):
            no_data = self._unusual(unusual, kind[unusual], data_at, size, delta)
        self._time += delta
        following = data_at + size
        too_long = following > self._end
        if too_long.any():
            raise DamagedError("has an event of impossible length", int(self._at[too_long.argmax()]) * _WORD_BYTES)
        if no_data is not None:
            data_at[no_data] = 0
        self._note(data_at, size)
        self._at = following
        self._drop(following >= self._end)

    def _unusual(
        self, rows: Integers, kind: NDArray[Any], data_at: Integers, size: Integers, delta: Integers
    ) -> Integers:
        """Correct place, size and delta of everything but short data; returns the rows that are no data at all."""
        has_word = data_at[rows] < self._end[rows]
        word = np.where(has_word, self._words[np.where(has_word, data_at[rows], 0)].astype(np.int64), 0)
        long_data, padding = rows[kind == 0], rows[kind == _PADDING]
        size[long_data] = (word[kind == 0] + 3) // _WORD_BYTES - 1
        data_at[long_data] += 1
        # An impossible length, as one that is not even there, must not lead back, or to what lies behind the data.
        size[long_data[(word[kind == 0] <= _WORD_BYTES)]] = len(self._words)
        self._pad(padding, word[kind == _PADDING], data_at, size, delta)
        extend, stamp = rows[kind == _TIME_EXTEND], rows[kind == _TIME_STAMP]
        delta[extend] += word[kind == _TIME_EXTEND] << 27
        absolute = (self._time[stamp] & _UPPER_TIME) | (word[kind == _TIME_STAMP] << 27) + delta[stamp]
        delta[stamp] = absolute - self._time[stamp]
        size[extend] = size[stamp] = 1
        no_data: Integers = rows[kind != 0]
        return no_data

    def _pad(self, rows: Integers, word: Integers, data_at: Integers, size: Integers, delta: Integers) -> None:
        to_the_end = delta[rows] == 0
        size[rows] = np.where(to_the_end, self._end[rows] - data_at[rows], np.maximum((word + 3) // _WORD_BYTES, 1))
        delta[rows[delta[rows] == _DISCARDED_WITHOUT_DELTA]] = 0

    def _note(self, data_at: Integers, size: Integers) -> None:
        everywhere = len(self._pages) == self._count
        where = slice(None) if everywhere else self._pages
        self._places[self._step, where] = data_at
        self._times[self._step, where] = self._time
        self._lengths[self._step, where] = np.minimum(size, 0xFFFF)

    def _drop(self, done: Mask) -> None:
        if done.any():
            stay = ~done
            self._pages, self._at = self._pages[stay], self._at[stay]
            self._end, self._time = self._end[stay], self._time[stay]

    def events(self, missed: Integers) -> RingEvents:
        """Everything in the order of the pages."""
        tables: tuple[NDArray[Any], ...] = (self._places, self._times, self._lengths)
        places, times, lengths = (np.ascontiguousarray(table[: self._step].T).reshape(-1) for table in tables)
        found = np.flatnonzero(places)
        return RingEvents(times[found], places[found], lengths[found], missed)


def _numbers(pages: Bytes, offset: int, size: int) -> Integers:
    """The number at one offset of each page."""
    return np.ascontiguousarray(pages[:, offset : offset + size]).view(f"<u{size}").reshape(-1).astype(np.int64)
