"""Whatever a raw file or trace.json holds: tables, or one sentence that names the file and the byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fuzzing import how_many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damaging import Damage, damages
from pagelab.analysis.access.pattern import access_of_block_io
from pagelab.analysis.access.trace_tables import read_block_reads, read_page_events
from pagelab.errors import PagelabError, StoreError, TraceError, printable
from pagelab.traces.convert import convert, import_blktrace
from pagelab.traces.event_format import parse_header_page
from pagelab.traces.export import export_iolog, export_table
from pagelab.traces.problems import DamagedError
from pagelab.traces.ring_buffer import walk
from raw_traces import (
    ADD,
    COMPLETED,
    DELETE,
    FAULT,
    FORMATS,
    HEADER_PAGE,
    ISSUED,
    MAP,
    PAGE_BYTES,
    PROCESS_NOTE,
    READ,
    WRITE,
    Page,
    blk_record,
    complete,
    issue,
    page_event,
    write_trace,
    zstd,
)

FIRST = (1 << 30) // 512
ROUNDS = 12  # of events on the first of `pages`
LAYOUT = parse_header_page(HEADER_PAGE)


def fuzzed(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=how_many(count),
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def pages() -> bytes:
    """Pages with events of every kind, short and long, and with padding, discarded ones and time stamps.

    The first is full: wherever it is damaged, it says something else.
    """
    first = Page(1000)
    for _ in range(ROUNDS):
        first.event(issue(FIRST, 16, "RA"), 5).event(complete(FIRST, 16, "RA"), 900).discarded(16, 1)
        for number in (ADD, DELETE, FAULT, MAP):
            first.event(page_event(number, 3, order=2, last_index=9), 10, long=number == ADD)
    second = Page(5000).word(30, 7, 1).event(complete(8, 8, "WS", error=-5), 1).word(31, 5, 6).word(29, 0)
    third = Page(9_000_000_000, flags=1 << 31).event(complete(FIRST + 16, 8), 9).event(issue(FIRST + 32, 8), 1)
    return first.bytes() + second.bytes() + third.bytes()


def records(version: int = 7, order: str = "<") -> bytes:
    """A file of blktrace with notes and requests."""
    shape: dict[str, Any] = {"version": version, "order": order}
    content = blk_record(900, 0, 0, PROCESS_NOTE, b"python3".ljust(16, b"\0"), **shape)
    for number in range(6):
        sector, kind = 8 * number, READ if number % 3 else WRITE
        content += blk_record(1000 + 100 * number, sector, 4096, ISSUED | kind, b"\0" * (number % 5), **shape)
        content += blk_record(1050 + 100 * number, sector, 4096, COMPLETED | kind, **shape)
    return content


def assert_said(error: PagelabError, *places: str) -> None:
    said = str(error)
    assert printable(said) == said
    assert len(said) < 1000
    assert all(place in said for place in places)


def assert_usable(directory: Path) -> None:
    """The tables are whole, and what analysis reads of them can be read."""
    for name, read in (("block_io", read_block_reads), ("page_cache", read_page_events)):
        path = directory / f"{name}.parquet"
        if path.exists():
            assert len(read(path)) <= pq.read_metadata(path).num_rows
            if name == "block_io":
                access_of_block_io(path, None)
            path.unlink()
    assert not list(directory.glob(".*"))


@fuzzed(1000)
@given(damage=damages)
def test_damaged_pages_of_the_ring_buffer(damage: Damage) -> None:
    content = damage(pages())
    content = content[: len(content) // PAGE_BYTES * PAGE_BYTES]
    data = np.frombuffer(content, dtype=np.uint8).reshape(-1, PAGE_BYTES)
    try:
        events = walk(data, LAYOUT)
    except DamagedError as error:
        at_byte = error.at_byte
        assert 0 <= at_byte < max(len(content), 1)
        return
    end = events.at_word.astype(np.int64) + events.words
    assert (events.at_word > 0).all()
    assert (end <= len(content) // 4).all()


@fuzzed(350)
@given(damage=damages, compressed=st.booleans(), after=st.booleans())
def test_a_damaged_raw_file_of_tracefs(tmp_path: Path, damage: Damage, compressed: bool, after: bool) -> None:
    name, store = ("cpu0.raw.zst", zstd) if compressed else ("cpu0.raw", bytes)
    write_trace(tmp_path / "trace", {name: damage(store(pages())) if after else store(damage(pages()))})
    try:
        convert(tmp_path / "trace", tmp_path)
    except TraceError as error:
        assert_said(error, name, "at byte")
    assert_usable(tmp_path)


@fuzzed(300)
@given(damage=damages, version=st.sampled_from([7, 8]), order=st.sampled_from("<>"))
def test_a_damaged_file_of_our_own_blktrace(tmp_path: Path, damage: Damage, version: int, order: str) -> None:
    write_trace(tmp_path / "trace", {"vda.blktrace.0": damage(records(version, order))})
    file = tmp_path / "trace" / "trace.json"
    document = json.loads(file.read_text())
    document["raw_files"][0]["recorder"] = "blktrace"
    file.write_text(json.dumps(document))
    try:
        convert(tmp_path / "trace", tmp_path)
    except TraceError as error:
        assert_said(error, "vda.blktrace.0")
    assert_usable(tmp_path)


@fuzzed(300)
@given(damage=damages, version=st.sampled_from([7, 8]), order=st.sampled_from("<>"))
def test_a_damaged_file_of_somebody_elses_blktrace(tmp_path: Path, damage: Damage, version: int, order: str) -> None:
    paths = [tmp_path / "vda.blktrace.0", tmp_path / "vda.blktrace.1"]
    for path, content in zip(paths, (damage(records(version, order)), records(version, order)), strict=True):
        path.write_bytes(content)
    try:
        import_blktrace(paths, tmp_path)
    except TraceError as error:
        assert_said(error, "vda.blktrace.0")
        return
    access = access_of_block_io(tmp_path / "block_io.parquet", None)
    assert access["reads"] >= 4, "the reads of the whole file"
    assert_usable(tmp_path)


def numbers_and_texts(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return [found for key, value in items for found in numbers_and_texts(value, (*path, key))]
    return [path]


_VALUES = st.one_of(
    st.sampled_from(
        [None, True, "", "x" * 5000, [], {}, -1, 0, 1, 2**15, 2**16, 2**20 + 1, 2**31, 2**32, 2**46, 2**63]
    ),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
)


@fuzzed(500)
@given(place=st.integers(0, 10_000), value=_VALUES)
def test_a_trace_json_with_another_value(tmp_path: Path, place: int, value: Any) -> None:
    write_trace(tmp_path / "trace", {"cpu0.raw": pages()})
    file = tmp_path / "trace" / "trace.json"
    document = json.loads(file.read_text())
    ways = numbers_and_texts(document)
    *steps, last = ways[place % len(ways)]
    holder = document
    for step in steps:
        holder = holder[step]
    holder[last] = value
    file.write_text(json.dumps(document))
    try:
        convert(tmp_path / "trace", tmp_path)
    except (StoreError, TraceError) as error:
        assert_said(error)
    assert_usable(tmp_path)


@fuzzed(500)
@given(damage=damages, event=st.sampled_from([*sorted(FORMATS), "header_page"]))
def test_a_damaged_description_of_events(tmp_path: Path, damage: Damage, event: str) -> None:
    text = HEADER_PAGE if event == "header_page" else FORMATS[event]
    changed = damage(text.encode()).decode(errors="replace")
    described = {"header_page": changed} if event == "header_page" else {"formats": FORMATS | {event: changed}}
    write_trace(tmp_path / "trace", {"cpu0.raw": pages()}, **described)
    try:
        convert(tmp_path / "trace", tmp_path)
    except TraceError as error:
        assert_said(error)
    assert_usable(tmp_path)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A table of requests, as an import makes it."""
    directory = tmp_path_factory.mktemp("table")
    (directory / "a").write_bytes(records())
    import_blktrace([directory / "a"], directory)
    return (directory / "block_io.parquet").read_bytes()


@fuzzed(500)
@given(damage=damages, export=st.sampled_from([export_table, export_iolog]))
def test_a_damaged_table_that_is_exported(
    table: bytes, tmp_path: Path, damage: Damage, export: Callable[..., int]
) -> None:
    path, target = tmp_path / "block_io.parquet", tmp_path / "target"
    path.write_bytes(damage(table))
    try:
        export(path, target, **({"as_csv": True} if export is export_table else {}))
    except (StoreError, TraceError) as error:
        assert_said(error)
        assert not target.exists()
    target.unlink(missing_ok=True)
    assert not list(tmp_path.glob(".*"))


def test_an_exported_table_can_be_exported_again(table: bytes, tmp_path: Path) -> None:
    """With texts as such, as other programs write them."""
    path, plain = tmp_path / "block_io.parquet", tmp_path / "plain.parquet"
    path.write_bytes(table)
    export_table(path, plain, as_csv=False)
    assert export_iolog(path, tmp_path / "one") == export_iolog(plain, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_undamaged_ones_are_read(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", {"cpu0.raw": pages()})
    assert convert(tmp_path / "trace", tmp_path).rows == {
        "block_io.parquet": ROUNDS + 2,
        "page_cache.parquet": 4 * ROUNDS,
    }
    (tmp_path / "a").write_bytes(records())
    assert import_blktrace([tmp_path / "a"], tmp_path).rows == {"block_io.parquet": 6}


@pytest.mark.parametrize("name", ["block_io", "page_cache"])
def test_no_table_is_left_of_a_damaged_trace(tmp_path: Path, name: str) -> None:
    write_trace(tmp_path / "trace", {"cpu0.raw": pages()[:-1]})
    with pytest.raises(TraceError, match=r"cpu0\.raw ends in the middle of a page \(at byte 12287\)"):
        convert(tmp_path / "trace", tmp_path)
    assert not (tmp_path / f"{name}.parquet").exists()
