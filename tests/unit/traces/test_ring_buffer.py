"""Events on pages of the ring buffer, held against a plain walk over one event after the other."""

import struct
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.traces.event_format import parse_header_page
from pagelab.traces.problems import DamagedError
from pagelab.traces.ring_buffer import RingEvents, walk
from raw_traces import ADD, COMPLETE, DELETE, FAULT, HEADER_PAGE, ISSUE, MAP, PAGE_BYTES, SAMPLE, Page

LAYOUT = parse_header_page(HEADER_PAGE)
UPPER_TIME = 0xF8 << 56


def plainly(page: bytes) -> list[tuple[int, int, int]]:
    """Time, place and length in words of each event of a sound page, read as include/linux/ring_buffer.h says."""
    time_ns, commit = struct.unpack_from("<QQ", page)
    at, end, found = 16, 16 + (commit & (1 << 27) - 1), []
    while at < end:
        head = struct.unpack_from("<I", page, at)[0]
        kind, delta = head & 31, head >> 5
        word = struct.unpack_from("<I", page, at + 4)[0] if at + 8 <= end else 0
        if kind == 29 and delta == 0:
            break
        if kind == 29:
            time_ns, at = time_ns + (delta if delta != 1 else 0), at + 4 + word
        elif kind == 30:
            time_ns, at = time_ns + (word << 27) + delta, at + 8
        elif kind == 31:
            time_ns, at = (time_ns & UPPER_TIME) | (word << 27) + delta, at + 8
        elif kind == 0:
            time_ns += delta
            found.append((time_ns, at + 8, word // 4 - 1))
            at += 4 + word
        else:
            time_ns += delta
            found.append((time_ns, at + 4, kind))
            at += 4 + kind * 4
    return found


def walked(pages: list[bytes]) -> RingEvents:
    data = np.frombuffer(b"".join(pages), dtype=np.uint8).reshape(len(pages), PAGE_BYTES)
    return walk(data, LAYOUT)


def as_tuples(events: RingEvents) -> list[tuple[int, int, int]]:
    places = (events.at_word.astype(np.int64) * 4).tolist()
    return list(zip(events.time_ns.tolist(), places, events.words.tolist(), strict=True))


def expected(pages: list[bytes]) -> list[tuple[int, int, int]]:
    return [
        (time_ns, number * PAGE_BYTES + place, words)
        for number, page in enumerate(pages)
        for time_ns, place, words in plainly(page)
    ]


DELTAS = st.integers(0, (1 << 27) - 1)
WORDS = st.integers(0, (1 << 32) - 1)
STEPS = st.one_of(
    st.tuples(st.just("short"), DELTAS, st.integers(1, 28)),
    st.tuples(st.just("long"), DELTAS, st.integers(1, 60)),
    st.tuples(st.just("extend"), DELTAS, st.integers(0, 1 << 20)),
    st.tuples(st.just("stamp"), DELTAS, WORDS),
    st.tuples(st.just("discarded"), st.integers(1, 1000), st.integers(1, 20)),
)


@st.composite
def sound_pages(draw: st.DrawFn) -> bytes:
    page = Page(draw(st.integers(0, 1 << 62)))
    for kind, delta, value in draw(st.lists(STEPS, max_size=14)):
        if kind in ("short", "long"):
            page.event(b"\1" * (4 * value), delta, long=kind == "long")
        elif kind == "discarded":
            page.discarded(4 * value, delta)
        else:
            page.word(30 if kind == "extend" else 31, delta, value)
    if draw(st.booleans()):
        page.word(29, 0)
        page.data += bytes(4 * draw(st.integers(0, 3)))
    return page.bytes()


@settings(max_examples=60)
@given(st.lists(sound_pages(), min_size=1, max_size=5))
def test_all_kinds_of_events_are_found_in_step_as_one_by_one(pages: list[bytes]) -> None:
    assert as_tuples(walked(pages)) == expected(pages)


@settings(max_examples=80)
@given(st.binary(max_size=300), st.integers(0, 5000), st.integers(0, 1 << 63))
def test_whatever_is_on_a_page_events_lie_within_its_data(data: bytes, commit: int, time_ns: int) -> None:
    sound = Page(5).event(b"abcd", 7).bytes()
    refused: DamagedError | None = None
    try:
        events = walked([sound, Page(time_ns, data).bytes(commit), sound])
    except DamagedError as error:
        refused = error
    if refused is not None:
        assert PAGE_BYTES <= refused.at_byte < 2 * PAGE_BYTES
        return
    places, words = events.at_word.astype(np.int64) * 4, events.words.astype(np.int64)
    of_second = (places > PAGE_BYTES) & (places < 2 * PAGE_BYTES)
    assert (places[of_second] >= PAGE_BYTES + 16).all()
    assert ((places + words * 4)[of_second] <= 2 * PAGE_BYTES).all()
    assert as_tuples(events)[0] == (12, 20, 1)
    assert as_tuples(events)[-1] == (12, 2 * PAGE_BYTES + 20, 1)


def test_time_moves_by_deltas_extends_and_stamps() -> None:
    page = Page(1 << 60 | 1000)
    page.event(b"1234", 10)
    page.word(30, 5, 2).event(b"1234", 1)
    page.word(31, 9, 3).event(b"1234", 4)
    page.discarded(8, 100).event(b"1234", 2)
    page.discarded(8, 1).event(b"1234", 3)  # 1 is no time, but keeps the event from ending the page
    base = 1 << 60
    extended = base + 1010 + (2 << 27) + 5 + 1
    stamped = base + (3 << 27) + 9 + 4
    times = walked([page.bytes()]).time_ns.tolist()
    assert times == [base + 1010, extended, stamped, stamped + 102, stamped + 105]


@pytest.mark.parametrize(
    ("kind", "words"),
    [(28, [1]), (0, [4000, 1]), (0, [2**32 - 1]), (0, [3]), (0, [4]), (0, []), (30, []), (31, []), (29, [4096])],
)
def test_an_event_of_impossible_length_is_told_with_its_place(kind: int, words: list[int]) -> None:
    page = Page(0).event(b"good", 5).word(kind, 9, *words).bytes()
    with pytest.raises(DamagedError, match="has an event of impossible length") as caught:
        walked([Page(50).event(b"next", 1).bytes(), page])
    assert caught.value.at_byte == PAGE_BYTES + 24


def test_a_page_that_says_it_holds_more_than_it_can() -> None:
    with pytest.raises(DamagedError, match="has a page that says it holds more than it can") as caught:
        walked([Page(0).bytes(), Page(0).bytes(commit=5000)])
    assert caught.value.at_byte == PAGE_BYTES


def test_pages_before_which_events_are_missing() -> None:
    counted = Page(1, flags=3 << 30, behind=struct.pack("<Q", 41)).event(b"abcd").bytes()
    # The kernel adds a negative number of 32 bits for the flag, which fills the upper half of the word.
    page = bytearray(Page(1, flags=1 << 31).event(b"abcd").bytes())
    page[12:16] = b"\xff" * 4
    events = walked([Page(1).event(b"abcd").bytes(), counted, bytes(page)])
    assert events.missed.tolist() == [1, 2]
    assert len(events.time_ns) == 3


def test_a_recording_of_a_real_kernel() -> None:
    """Linux 6.18: as many events of each kind as a plain walk finds."""
    counts: Counter[int] = Counter()
    for cpu in (0, 1):
        with pa.input_stream(str(SAMPLE / f"cpu{cpu}.raw.zst")) as stream:
            data = stream.read()
        pages = [data[begin : begin + PAGE_BYTES] for begin in range(0, len(data), PAGE_BYTES)]
        events = walked(pages)
        assert as_tuples(events) == expected(pages)
        assert (np.diff(events.time_ns) >= 0).all()
        counts.update(np.frombuffer(data, "<u2")[events.at_word.astype(np.int64) * 2].tolist())
    assert counts == {ISSUE: 557, COMPLETE: 657, ADD: 2738, DELETE: 241, FAULT: 48, MAP: 301}
