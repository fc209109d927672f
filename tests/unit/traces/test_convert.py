"""Traces with known content, whole and damaged, to tables."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.analysis.access.trace_tables import read_block_reads, read_page_events
from pagelab.errors import StoreError, TraceError
from pagelab.store.files import read_table
from pagelab.store.run_store import read_trace_record
from pagelab.store.trace_record import RawFile, TracedDevice, TracedExtent, TracedFile, TracedTensor
from pagelab.traces import convert as convert_module
from pagelab.traces.convert import Converted, convert, raw_sources
from pagelab.traces.events import Devices, Kind
from pagelab.traces.merge import merged
from pagelab.traces.placement import DiskMap
from pagelab.traces.problems import Problems
from pagelab.traces.raw_files import Decoding
from raw_traces import (
    ADD,
    COMPLETED,
    DELETE,
    FAULT,
    FORMATS,
    ISSUED,
    MAP,
    PAGE_BYTES,
    READ,
    SAMPLE,
    SAMPLE_RECORD,
    Page,
    blk_record,
    complete,
    issue,
    page_event,
    write_trace,
    zstd,
)

FIRST, SECOND, SWAP = ((1 << 30) // 512, (3 << 30) // 512, (8 << 30) // 512)  # where the extents begin, in sectors
LARGEST_ORDER = 9

Tables = dict[str, list[dict[str, Any]]]


def converted(
    directory: Path, files: dict[str, bytes], /, **changes: Any
) -> tuple[dict[str, list[dict[str, Any]]], Converted]:
    """The rows of each table that a trace with these raw files gives."""
    write_trace(directory / "trace", files, **changes)
    return _rows(directory)


def _rows(directory: Path) -> tuple[Tables, Converted]:
    result = convert(directory / "trace", directory)
    assert not list(directory.glob(".*"))
    return {path.stem: read_table(path).to_pylist() for path in sorted(directory.glob("*.parquet"))}, result


def present(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and (not names or name in names)}


# --- what events say --------------------------------------------------------------------------------------------------


def test_a_request_is_one_row_with_where_it_lies(tmp_path: Path) -> None:
    first = Page(1000).event(issue(FIRST + 600, 16, "RA"), 5).event(issue(FIRST + 600, 16, "RA"), 20)
    second = Page(1010).event(complete(FIRST + 600, 16, "RA"), 90).event(complete(8, 8, "WS", error=-5), 1)
    tables, result = converted(
        tmp_path, {"cpu0.raw": first.bytes(), "cpu1.raw.zst": zstd(second.bytes())}, origin_ns=1000
    )
    assert [present(row) for row in tables["block_io"]] == [
        {
            "time_ns": 100,
            "issued_ns": 25,
            "device": "vda",
            "sector": FIRST + 600,
            "bytes": 8192,
            "operation": "read",
            "readahead": True,
            "error": 0,
            "source": "model",
            "model_bytes": 8192,
            "file_part": 0,
            "file_offset_bytes": 307_200,
            "tensor": "blk.0.ffn_up_exps.weight",
            "tensor_class": "experts",
            "layer": 0,
            "expert": 0,
        },
        {
            "time_ns": 101,
            "device": "vda",
            "sector": 8,
            "bytes": 4096,
            "operation": "write",
            "readahead": False,
            "error": -5,
            "source": "other",
            "model_bytes": 0,
        },
    ]
    assert tables["page_cache"] == []
    names = ("add_to_page_cache", "delete_from_page_cache", "fault", "map_pages")
    events = {"block/block_rq_issue": 2, "block/block_rq_complete": 2} | {
        f"filemap/mm_filemap_{name}": 0 for name in names
    }
    assert result == Converted(events, {"block_io.parquet": 2, "page_cache.parquet": 0}, [])


def test_requests_that_lie_in_several_files_or_partly_in_one(tmp_path: Path) -> None:
    page = Page(0)
    for sector, sectors in ((SECOND - 8, 16), (FIRST + 1016, 8), (FIRST + 1016, 16), (SWAP + 8, 8), (SWAP - 8, 8)):
        page.event(complete(sector, sectors), 1)
    tables, _ = converted(tmp_path, {"cpu0.raw": page.bytes()})
    names = ("source", "model_bytes", "file_offset_bytes", "tensor")
    assert [tuple(row[name] for name in names) for row in tables["block_io"]] == [
        ("model", 4096, 512 << 10, "blk.0.ffn_up_exps.weight"),
        ("model", 4096, 508 << 10, "blk.0.ffn_up_exps.weight"),
        ("model", 4096, 508 << 10, "blk.0.ffn_up_exps.weight"),  # then the extent ends
        ("swap", 0, None, None),
        ("other", 0, None, None),
    ]


@pytest.mark.parametrize(
    ("rwbs", "operation", "readahead"),
    [
        ("R", "read", False),
        ("RA", "read", True),
        ("FRAM", "read", True),
        ("W", "write", False),
        ("WFSM", "write", False),
        ("FWFS", "write", False),
        ("D", "discard", False),
        ("DE", "discard", False),
        ("F", "flush", False),
        ("FF", "flush", False),
        ("N", "other", False),
        ("WZ", "other", False),
        ("ZA", "other", True),
        ("", "other", False),
    ],
)
def test_operations(tmp_path: Path, rwbs: str, operation: str, readahead: bool) -> None:
    tables, _ = converted(tmp_path, {"cpu0.raw": Page(0).event(complete(8, 8, rwbs)).bytes()})
    row = tables["block_io"][0]
    assert row["operation"] == operation
    if operation != "other":
        assert row["readahead"] == readahead


def test_page_cache_events_are_in_their_order_and_only_of_the_model(tmp_path: Path) -> None:
    page = Page(500)
    page.event(page_event(FAULT, 0, pid=7), 1)
    page.event(page_event(ADD, 48, order=2, pid=7), 0)
    page.event(page_event(ADD, 48, inode=5), 0).event(page_event(ADD, 48, dev=1), 0)
    page.event(page_event(MAP, 174, last_index=189, pid=8), 0)
    page.event(page_event(DELETE, 255, order=LARGEST_ORDER), 1)
    tables, _ = converted(tmp_path, {"cpu0.raw": page.bytes()}, origin_ns=400)
    names = ("time_ns", "event", "pid", "file_offset_bytes", "bytes", "tensor", "expert")
    expert = "blk.0.ffn_up_exps.weight"
    assert [tuple(row[name] for name in names) for row in tables["page_cache"]] == [
        (101, "fault", 7, 0, 4096, None, None),
        (101, "add", 7, 48 * 4096, 16_384, "token_embd.weight", None),
        (101, "map", 8, 174 * 4096, 65_536, expert, 3),
        (102, "delete", 5, 255 * 4096, 4096 << 9, "output.weight", None),
    ]


def test_a_kernel_without_order_of_folios(tmp_path: Path) -> None:
    formats = {
        event: "\n".join(line for line in text.splitlines() if " order;" not in line) for event, text in FORMATS.items()
    }
    page = Page(0).event(page_event(ADD, 1, order=3)).bytes()
    tables, _ = converted(tmp_path, {"cpu0.raw": page}, formats=formats)
    assert tables["page_cache"][0]["bytes"] == 4096


def test_events_of_other_kinds_and_other_devices_are_passed_over(tmp_path: Path) -> None:
    page = Page(0).event(b"\x05\0" + bytes(30)).event(complete(8, 8, device=1)).event(complete(8, 8))
    tables, result = converted(tmp_path, {"cpu0.raw": page.bytes()})
    assert len(tables["block_io"]) == 1
    assert result.notes == []
    tables, _ = converted(tmp_path, {"cpu0.raw": page.bytes()}, devices=[])
    assert [row["device"] for row in tables["block_io"]] == ["0:1", "254:0"]


def test_the_events_alone(tmp_path: Path) -> None:
    write_trace(tmp_path, {f"cpu{cpu}.raw": b"".join(many_pages(cpu)) for cpu in range(2)})
    record = read_trace_record(tmp_path)
    batches = list(merged(raw_sources(tmp_path, record, Decoding(Devices.of(record.devices), Problems(), 1 << 20))))
    assert sum(len(table["time_ns"]) for batch in batches for table in batch.values()) == 2 * 40 * 40
    for kind in Kind:
        times = np.concatenate([batch[kind]["time_ns"] for batch in batches])
        assert (np.diff(times) >= 0).all()


def test_only_the_tables_of_what_was_recorded_are_written(tmp_path: Path) -> None:
    page = Page(0).event(complete(8, 8)).event(page_event(ADD, 1)).bytes()
    tables, _ = converted(tmp_path, {"cpu0.raw": page}, profiles=["page"])
    assert {name: len(rows) for name, rows in tables.items()} == {"page_cache": 1}


def test_where_a_file_has_no_place_on_the_disk_requests_are_not_attributed(tmp_path: Path) -> None:
    lost = TracedFile(kind="model", path="/m/m.gguf", bytes=1 << 20, without_extents="it lies on btrfs")
    page = Page(0).event(complete(FIRST, 8)).event(complete(SWAP, 8)).bytes()
    write_trace(tmp_path / "trace", {"cpu0.raw": page})
    record = json.loads((tmp_path / "trace" / "trace.json").read_text())
    record["files"][0] = lost.document()
    (tmp_path / "trace" / "trace.json").write_text(json.dumps(record))
    tables, result = _rows(tmp_path)
    names = ("source", "model_bytes", "file_part")
    assert [tuple(row[name] for name in names) for row in tables["block_io"]] == [(None,) * 3, ("swap", None, None)]
    assert result.notes == ["requests are not attributed to /m/m.gguf: it lies on btrfs"]
    record["files"] = []
    (tmp_path / "trace" / "trace.json").write_text(json.dumps(record))
    tables, result = _rows(tmp_path)
    assert {row["source"] for row in tables["block_io"]} == {None}
    assert result.notes == []


def test_blktrace_gives_the_requests_where_it_recorded_and_tracefs_the_pages(tmp_path: Path) -> None:
    block = blk_record(1000, FIRST, 4096, ISSUED | READ) + blk_record(2000, FIRST, 4096, COMPLETED | READ)
    page = Page(1500).event(complete(FIRST, 8)).event(page_event(ADD, 0)).bytes()
    files = {"vda.blktrace.0.zst": zstd(block), "cpu0.raw": page}
    raw_files = [
        RawFile(name=name, recorder="blktrace" if "blktrace" in name else "tracefs", cpu=0, bytes=0) for name in files
    ]
    tables, result = converted(tmp_path, files, raw_files=raw_files, recorder="blktrace", origin_ns=500)
    assert [(row["time_ns"], row["issued_ns"], row["device"], row["source"]) for row in tables["block_io"]] == [
        (1500, 500, "vda", "model")
    ]
    assert len(tables["page_cache"]) == 1
    assert result.events["blktrace complete"] == 1


def test_a_loop_device_and_the_disk_below_are_told_apart(tmp_path: Path) -> None:
    devices = [TracedDevice(name="vda", major=254, minor=0), TracedDevice(name="loop0", major=7, minor=0)]
    page = Page(0).event(complete(FIRST, 8)).event(complete(FIRST, 8, device=7 << 20)).bytes()
    tables, _ = converted(tmp_path, {"cpu0.raw": page}, devices=devices)
    assert [(row["device"], row["source"]) for row in tables["block_io"]] == [("vda", "model"), ("loop0", "other")]


# --- the tables as files ----------------------------------------------------------------------------------------------


def many_pages(cpu: int, count: int = 40) -> list[bytes]:
    """Pages of many events each, whose times mingle with those of other CPUs and are sometimes equal to them."""
    random = np.random.default_rng(cpu)
    pages, time_ns = [], 10_000
    for number in range(count):
        page = Page(time_ns)
        for _ in range(40):
            delta = int(random.integers(0, 4)) * 25_000
            time_ns += delta
            sector = FIRST + 8 * int(random.integers(0, 100))
            records = (
                complete(sector, 8),
                issue(sector, 8),
                page_event(ADD, number % 256),
                page_event(FAULT, number % 256),
            )
            page.event(records[int(random.integers(0, 4))], delta)
        pages.append(page.bytes())
    return pages


def test_the_tables_do_not_depend_on_the_host_nor_on_how_much_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"cpu{cpu}.raw.zst": zstd(b"".join(many_pages(cpu))) for cpu in range(3)}
    tables, _ = converted(tmp_path / "here", files)
    names = ("block_io.parquet", "page_cache.parquet")
    first = {name: (tmp_path / "here" / name).read_bytes() for name in names}
    shutil.copytree(tmp_path / "here", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convert_module, "_LARGEST_CHUNK", 3 * PAGE_BYTES)
    again, result = _rows(Path("elsewhere"))
    assert result.notes == []
    assert {name: (tmp_path / "elsewhere" / name).read_bytes() for name in names} == first
    assert again == tables
    for rows in tables.values():
        times = [row["time_ns"] for row in rows]
        assert times == sorted(times)
    assert sum(len(rows) for rows in tables.values()) + result.events["block/block_rq_issue"] == 3 * 40 * 40


PARTS = 300


def in_parts() -> dict[str, Any]:
    """A model of 300 files of one tensor each, which lie behind each other on the disk."""
    files = [
        TracedFile(
            kind="model",
            part=part,
            path=f"/m/m-{part + 1:05d}-of-{PARTS:05d}.gguf",
            bytes=8192,
            inode=1000 + part,
            major=254,
            minor=0,
            device="vda",
            extents=[TracedExtent(file_offset=0, disk_offset=8192 * part, bytes=8192)],
        )
        for part in range(PARTS)
    ]
    tensors = [
        TracedTensor(
            name=f"blk.{part * 200}.attn_q.weight", tensor_class="attention", part=part, offset=4096, bytes=4096
        )
        for part in range(PARTS)
    ]
    for part, tensor in enumerate(tensors):
        tensor.layer = part * 200
    return {"files": files, "tensors": tensors}


@pytest.mark.parametrize("part", [0, 127, 128, 129, 255, 256, 299])
def test_a_model_in_many_files_is_attributed_to_its_last(tmp_path: Path, part: int) -> None:
    page = Page(0).event(complete(16 * part + 8, 8)).event(page_event(ADD, 1, inode=1000 + part))
    tables, result = converted(tmp_path, {"cpu0.raw": page.bytes()}, **in_parts())
    place = {"file_part": part, "file_offset_bytes": 4096, "tensor": f"blk.{part * 200}.attn_q.weight"}
    for rows in tables.values():
        assert [present(row, *place, "layer") for row in rows] == [place | {"layer": part * 200}]
    assert result.notes == []
    assert read_page_events(tmp_path / "page_cache.parquet").part.tolist() == [part]
    assert read_block_reads(tmp_path / "block_io.parquet").part.tolist() == [part]


def test_the_last_of_very_many_experts_is_attributed(tmp_path: Path) -> None:
    tensor = TracedTensor(
        name="blk.0.ffn_up_exps.weight", tensor_class="experts", layer=0, offset=0, bytes=65_535 * 16, experts=65_535
    )
    page = Page(0).event(page_event(ADD, 255))
    tables, _ = converted(tmp_path, {"cpu0.raw": page.bytes()}, tensors=[tensor])
    assert tables["page_cache"][0]["expert"] == 255 * 4096 // 16


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tensors.0.layer", 1_048_577),
        ("tensors.0.part", 2_147_483_648),
        ("tensors.0.part", -1),
        ("tensors.2.experts", 2**31 + 4),
        ("tensors.0.offset", 2**63),
        ("tensors.0.bytes", -5),
        ("files.0.part", 2**15 << 16),
        ("files.0.inode", 2**64),
        ("files.0.major", 2**70),
        ("files.0.extents.0.disk_offset", 2**63),
        ("devices.0.minor", 2**40),
        ("origin_ns", 2**63),
        ("origin_ns", -(2**80)),
        ("page_bytes", 0),
        ("page_bytes", 2**40),
        ("raw_files.0.name", "../trace/cpu0.raw"),
        ("raw_files.0.name", "/dev/zero"),
    ],
)
def test_a_number_in_trace_json_that_cannot_be_is_one_sentence(tmp_path: Path, path: str, value: Any) -> None:
    page = Page(0).event(complete(FIRST, 8)).event(page_event(ADD, 1))
    write_trace(tmp_path / "trace", {"cpu0.raw": page.bytes()})
    file = tmp_path / "trace" / "trace.json"
    document = json.loads(file.read_text())
    *steps, last = path.split(".")
    place = document
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    file.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=rf"{re.escape(path)}|is too large a number") as caught:
        convert(tmp_path / "trace", tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_tensors_that_overlap_are_damage(tmp_path: Path) -> None:
    tensors = [
        TracedTensor(name="a", tensor_class="other", offset=0, bytes=100),
        TracedTensor(name="b", tensor_class="other", offset=99, bytes=100),
    ]
    with pytest.raises(TraceError, match=r"trace\.json is damaged: in it the tensors a and b overlap"):
        converted(tmp_path, {"cpu0.raw": Page(0).bytes()}, tensors=tensors)


def test_a_tensor_of_no_bytes_takes_none_from_others(tmp_path: Path) -> None:
    empty = {"tensor_class": "other", "bytes": 0}
    tensors = [
        TracedTensor(name="a", tensor_class="other", offset=0, bytes=4096),
        *(TracedTensor(name=f"empty{offset}", offset=offset, **empty) for offset in (0, 2048, 4096, 8192)),
        TracedTensor(name="b", tensor_class="other", offset=4096, bytes=4096),
    ]
    page = Page(0).event(page_event(ADD, 0)).event(page_event(ADD, 1)).event(complete(FIRST, 16))
    tables, _ = converted(tmp_path, {"cpu0.raw": page.bytes()}, tensors=tensors)
    assert [row["tensor"] for row in tables["page_cache"]] == ["a", "b"]
    assert [row["tensor"] for row in tables["block_io"]] == ["a"]


@pytest.mark.parametrize("make", [issue, complete])
def test_a_sector_that_no_disk_has_is_damage(tmp_path: Path, make: Callable[[int, int], bytes]) -> None:
    page = Page(0).event(complete(2**64 - 1, 0, "F")).event(make(2**43, 8))
    with pytest.raises(TraceError, match=r"cpu0\.raw has an event of a place that no disk or file has \(at byte \d+\)"):
        converted(tmp_path, {"cpu0.raw": page.bytes()})
    tables, _ = converted(tmp_path, {"cpu0.raw": Page(0).event(complete(2**64 - 1, 0, "F")).bytes()})
    assert [(row["operation"], row["sector"]) for row in tables["block_io"]] == [("flush", 0)]


@pytest.mark.parametrize(
    "record",
    [
        page_event(ADD, 2**62),
        page_event(ADD, 1, order=200),
        page_event(MAP, 5, last_index=4),
        page_event(MAP, 5, last_index=2**63),
        page_event(FAULT, 2**64 - 1),
    ],
    ids=["added", "folio", "range", "end", "fault"],
)
def test_a_page_that_no_file_has_is_damage(tmp_path: Path, record: bytes) -> None:
    page = Page(0).event(page_event(ADD, 1)).event(record)
    with pytest.raises(TraceError, match=r"cpu0\.raw has an event of a place that no disk or file has \(at byte 64\)"):
        converted(tmp_path, {"cpu0.raw": page.bytes()})


def test_a_pipe_in_place_of_a_raw_file_is_not_waited_for(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", {"cpu0.raw": b""})
    (tmp_path / "trace" / "cpu0.raw").unlink()
    os.mkfifo(tmp_path / "trace" / "cpu0.raw")
    with pytest.raises(TraceError, match=r"cpu0\.raw cannot be read"):
        convert(tmp_path / "trace", tmp_path)


def test_columns_types_and_units(tmp_path: Path) -> None:
    converted(tmp_path, {"cpu0.raw": Page(0).event(complete(8, 8)).bytes()})
    schema = pq.read_schema(tmp_path / "block_io.parquet")
    types = {field.name: field.type for field in schema}
    text = pa.dictionary(pa.int32(), pa.string())
    assert (types["time_ns"], types["device"], types["file_part"], types["expert"]) == (
        pa.int64(),
        text,
        pa.int32(),
        pa.int32(),
    )
    units = json.loads(schema.metadata[b"pagelab_units"])
    assert units == {
        **dict.fromkeys(("time_ns", "issued_ns"), "nanoseconds"),
        **dict.fromkeys(("bytes", "model_bytes", "file_offset_bytes"), "bytes"),
        "sector": "512-byte sectors",
    }
    assert pq.read_schema(tmp_path / "page_cache.parquet").names == [
        *("time_ns", "event", "pid", "file_part", "file_offset_bytes", "bytes"),
        *("tensor", "tensor_class", "layer", "expert"),
    ]


def test_row_groups_are_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagelab.traces.tables.ROW_GROUP", 100)
    monkeypatch.setattr("pagelab.traces.tables._BATCH_ROWS", 30)
    files = {"cpu0.raw": b"".join(many_pages(0))}
    tables, _ = converted(tmp_path, files)
    metadata = pq.read_metadata(tmp_path / "page_cache.parquet")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert set(sizes[:-1]) == {100}
    assert sum(sizes) == len(tables["page_cache"])


# --- damage -----------------------------------------------------------------------------------------------------------


def numbered_pages(count: int) -> list[bytes]:
    """Page n has one completion, of sector n, at n seconds."""
    return [Page(number * 10**9).event(complete(number, 8)).bytes() for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pages: pages[4][:2000], r"cpu0\.raw ends in the middle of a page \(at byte 18384\)"),
        (
            lambda pages: Page(5 * 10**9).event(complete(5, 8)).bytes(commit=5000),
            r"cpu0\.raw has a page that says it holds more than it can \(at byte 16384\)",
        ),
        (
            lambda pages: Page(5 * 10**9).event(complete(5, 8)).word(28, 0, 1).bytes(),
            r"cpu0\.raw has an event of impossible length \(at byte 16\d\d\d\)",
        ),
        (lambda pages: Page(5).event(complete(5, 8)).bytes(), r"cpu0\.raw goes back in time \(at byte 16404\)"),
        (
            lambda pages: Page(5 * 10**9).event(complete(5, 8)[:20]).bytes(),
            r"has an event that is shorter than block/block_rq_complete \(at byte 16404\)",
        ),
    ],
)
@pytest.mark.parametrize("chunk_pages", [1, 3, 1000])
def test_a_damaged_recording_is_refused_with_file_and_byte_and_leaves_no_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[list[bytes]], bytes],
    message: str,
    chunk_pages: int,
) -> None:
    """The fifth page is damaged; also where it is the first, or the last, of those that are read at once."""
    monkeypatch.setattr(convert_module, "_LARGEST_CHUNK", chunk_pages * PAGE_BYTES)
    monkeypatch.setattr(convert_module, "_LEAST_CHUNK", chunk_pages * PAGE_BYTES)
    pages = numbered_pages(5)
    with pytest.raises(TraceError, match=f"{message}: restore it from a copy, or repeat the trial"):
        converted(tmp_path, {"cpu0.raw": b"".join(pages[:4]) + change(pages)})
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


def test_a_cut_stream_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    whole = zstd(b"".join(many_pages(1, 200)))
    with pytest.raises(TraceError, match=r"cpu0\.raw\.zst cannot be read any further \(at byte \d+ after decompr"):
        converted(tmp_path, {"cpu0.raw.zst": whole[: len(whole) * 3 // 4]})
    write_trace(tmp_path / "trace", {"cpu0.raw": numbered_pages(1)[0], "cpu1.raw": b""})
    (tmp_path / "trace" / "cpu1.raw").unlink()
    with pytest.raises(TraceError, match=r"cpu1\.raw is missing"):
        _rows(tmp_path)


def test_a_damaged_recording_of_our_own_blktrace_is_refused(tmp_path: Path) -> None:
    content = b"".join(blk_record(1000 * number, 8 * number, 4096, COMPLETED | READ) for number in range(5))
    raw_files = [RawFile(name="vda.blktrace.0", recorder="blktrace", cpu=0, bytes=0, device="vda")]
    with pytest.raises(TraceError, match=r"vda\.blktrace\.0 ends in the middle of a record \(at byte 192\)"):
        converted(tmp_path, {"vda.blktrace.0": content[:-10]}, raw_files=raw_files, recorder="blktrace")
    with pytest.raises(TraceError, match=r"vda\.blktrace\.0 holds something that is no record \(at byte 0\)"):
        converted(tmp_path, {"vda.blktrace.0": content[7:]}, raw_files=raw_files, recorder="blktrace")
    with pytest.raises(TraceError, match=r"vda\.blktrace\.0 holds no records of blktrace \(at byte 0\)"):
        converted(tmp_path, {"vda.blktrace.0": bytes(200)}, raw_files=raw_files, recorder="blktrace")


def test_a_small_step_back_of_the_clock_is_no_damage(tmp_path: Path) -> None:
    pages = [
        Page(time_ns).event(complete(number, 8)).bytes()
        for number, time_ns in enumerate((5_000_000, 4_900_000, 6_000_000))
    ]
    tables, result = converted(tmp_path, {"cpu0.raw": b"".join(pages)})
    assert [row["sector"] for row in tables["block_io"]] == [1, 0, 2]
    assert result.notes == []


def test_events_that_the_kernel_dropped_are_told(tmp_path: Path) -> None:
    page = Page(0, flags=1 << 31).event(complete(1, 8)).bytes()
    _, result = converted(tmp_path, {"cpu0.raw": page})
    assert result.notes == [
        "cpu0.raw: place where the kernel says that it could not keep up and events are missing (at byte 0)"
    ]


@settings(max_examples=25)
@given(st.data())
def test_whatever_is_damaged_in_a_recording_it_is_read_in_order_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    shutil.copytree(SAMPLE, directory / "trace")
    path = directory / "trace" / "cpu0.raw.zst"
    content = bytearray(pa.decompress(path.read_bytes(), codec="zstd", decompressed_size=14 * PAGE_BYTES).to_pybytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=40)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(zstd(bytes(content))[: data.draw(st.integers(0, 20_000))])
    refusal, tables = None, Tables()
    try:
        tables, _ = _rows(directory)
    except TraceError as error:
        refusal = str(error)
    assert refusal is None or re.search(r"cpu0\.raw\.zst .* \(at byte \d+ after decompression\): restore it", refusal)
    for rows in tables.values():
        times = [row["time_ns"] for row in rows]
        assert times == sorted(times)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "trace.json is missing"),
        ("{", "trace.json is not JSON"),
        ('{"recorder": "perf"}', "trace.json is no TraceRecord"),
        ('{"schema_version": 99}', "has schema version 99 and this pagelab reads up to 1"),
    ],
)
def test_a_description_that_cannot_be_used(tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "trace").mkdir()
    if text is not None:
        (tmp_path / "trace" / "trace.json").write_text(text)
    with pytest.raises(StoreError, match=message):
        convert(tmp_path / "trace", tmp_path)


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", {"cpu0.raw": numbered_pages(1)[0]}, header_page=None)
    with pytest.raises(TraceError, match="header_page"):
        convert(tmp_path / "trace", tmp_path)
    write_trace(tmp_path / "trace", {"cpu0.raw": numbered_pages(1)[0]})
    with pytest.raises(StoreError, match=r"cannot write .*block_io\.parquet"):
        convert(tmp_path / "trace", tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


# --- a recording of a real kernel -------------------------------------------------------------------------------------


def test_direct_reads_of_a_real_recording_are_found_one_after_the_other(tmp_path: Path) -> None:
    """The recording ends with reads of 64 KiB, in order, to the end of a file of 64 MiB on ext4."""
    result = convert(SAMPLE, tmp_path)
    rows = [row for row in read_table(tmp_path / "block_io.parquet").to_pylist() if row["bytes"] == 65_536]
    assert result.notes == []
    assert result.rows == {"block_io.parquet": 657, "page_cache.parquet": 3328}
    offsets = [row["file_offset_bytes"] for row in rows]
    assert offsets == list(range((64 << 20) - 654 * 65_536, 64 << 20, 65_536))
    assert {(row["source"], row["model_bytes"], row["operation"]) for row in rows} == {("model", 65_536, "read")}
    latencies = [row["time_ns"] - row["issued_ns"] for row in rows if row["issued_ns"] is not None]
    assert len(latencies) == 507  # issues of the first ones are on pages that were left out of the sample
    assert (min(latencies), max(latencies)) == (75_383, 146_860)


def test_pages_that_entered_the_cache_are_those_that_were_read(tmp_path: Path) -> None:
    """Where the first two requests lie in the file, by their extent on the disk, and the folios that came with them."""
    convert(SAMPLE, tmp_path)
    requests = [row for row in read_table(tmp_path / "block_io.parquet").to_pylist() if row["readahead"]][:2]
    sectors = np.array([row["sector"] for row in requests])
    disks = DiskMap(SAMPLE_RECORD.files)
    device = np.full(2, disks.index_of("vda"))
    _, _, _, offset, size = disks.pieces(device, sectors, np.array([4 << 20, 4 << 20]))
    events = read_table(tmp_path / "page_cache.parquet").to_pylist()
    added = [row for row in events if row["event"] == "add" and row["time_ns"] < requests[0]["time_ns"]]
    by_events = {row["file_offset_bytes"] + 4096 * page for row in added for page in range(row["bytes"] // 4096)}
    assert by_events == {page for at, count in zip(offset, size, strict=True) for page in range(at, at + count, 4096)}
