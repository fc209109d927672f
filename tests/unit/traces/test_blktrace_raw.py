"""blktrace's files: every version, byte order and kind of record, with and without something behind the head."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.analysis.access.pattern import access_of_block_io
from pagelab.errors import TraceError
from pagelab.traces import convert
from pagelab.traces.convert import Converted, import_blktrace
from pagelab.traces.events import OTHER, operation_of
from raw_traces import (
    AHEAD,
    COMMAND,
    COMPLETED,
    DISCARD,
    FLUSH,
    ISSUED,
    NOTIFY,
    PROCESS_NOTE,
    QUEUED,
    READ,
    WRITE,
    blk_record,
    zstd,
)

MAGIC = (0x65617407).to_bytes(4, "little")
GROUP = 1 << 8
OTHER_DEVICE = 259 << 20 | 3


def imported(directory: Path, *files: Path) -> tuple[list[dict[str, Any]], Converted]:
    converted = import_blktrace(files, directory)
    table = pq.read_table(directory / "block_io.parquet")
    return table.to_pylist(), converted


def one_file(directory: Path, content: bytes, name: str = "vda.blktrace.0") -> tuple[list[dict[str, Any]], Converted]:
    (directory / name).write_bytes(content)
    return imported(directory, directory / name)


def requests(count: int, begin: int = 0, payload: bytes = b"", **more: Any) -> list[bytes]:
    """Completions a microsecond apart, of 4 KiB each, one behind the other."""
    return [
        blk_record(1000 * number + 1000, 8 * number, 4096, COMPLETED | READ, payload, **more)
        for number in range(begin, begin + count)
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [7, 8])
def test_a_request_counts_once_with_its_last_issue(tmp_path: Path, version: int, order: str) -> None:
    shape: dict[str, Any] = {"version": version, "order": order}
    content = b"".join(
        [
            blk_record(900, 0, 0, PROCESS_NOTE, b"python3".ljust(16, b"\0"), **shape),
            blk_record(1000, 64, 8192, QUEUED | READ | AHEAD, **shape),
            blk_record(1100, 64, 8192, ISSUED | READ | AHEAD, **shape),
            blk_record(1200, 64, 8192, ISSUED | READ | AHEAD, **shape),
            blk_record(1900, 64, 8192, COMPLETED | READ | AHEAD, error=-5, **shape),
        ]
    )
    rows, converted = one_file(tmp_path, content)
    assert converted == Converted({"blktrace issue": 2, "blktrace complete": 1}, {"block_io.parquet": 1}, [])
    row = {name: value for name, value in rows[0].items() if value is not None}
    assert row == {
        "time_ns": 900,  # since the first record that is no note
        "issued_ns": 200,
        "device": "254:0",
        "sector": 64,
        "bytes": 8192,
        "operation": "read",
        "readahead": True,
        "error": -5,
    }


def test_operations(tmp_path: Path) -> None:
    kinds = [READ, WRITE, READ | FLUSH, WRITE | FLUSH, WRITE | FLUSH, WRITE | DISCARD, 0]
    sizes = [512, 512, 0, 0, 512, 512, 512]
    content = b"".join(
        blk_record(number, number, size, COMPLETED | kind)
        for number, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    )
    rows, _ = one_file(tmp_path, content)
    assert [row["operation"] for row in rows] == ["read", "write", "flush", "flush", "write", "discard", "other"]


def test_operations_that_only_version_8_knows(tmp_path: Path) -> None:
    zeroes, zone_reset = 1 << 22 + 16, 1 << 17 + 16
    content = blk_record(1, 0, 512, COMPLETED | WRITE | zeroes, version=8)
    content += blk_record(2, 0, 512, COMPLETED | zone_reset, version=8) + blk_record(
        3, 0, 512, COMPLETED | READ, version=8
    )
    rows, _ = one_file(tmp_path, content)
    assert [row["operation"] for row in rows] == ["other", "other", "read"]


@pytest.mark.parametrize("version", [7, 8])
@pytest.mark.parametrize("direction", [READ, WRITE, 0])
def test_a_command_to_the_device_is_no_read(tmp_path: Path, version: int, direction: int) -> None:
    """Such as an INQUIRY, of 36 bytes, which has a direction too. The kernel's events call it N."""
    kinds = [(ISSUED, 100), (COMPLETED, 200)]
    records = (blk_record(at, 0, 36, what | direction | COMMAND, version=version) for what, at in kinds)
    rows, converted = one_file(tmp_path, b"".join(records))
    assert [(row["operation"], row["sector"], row["issued_ns"]) for row in rows] == [("other", 0, 0)]
    assert converted.events == {"blktrace issue": 1, "blktrace complete": 1}
    assert operation_of("N") == (OTHER, False)


def test_more_devices_than_two_bytes_count(tmp_path: Path) -> None:
    count = 40_000
    content = b"".join(blk_record(number, 8, 512, COMPLETED | READ, device=number) for number in range(count))
    rows, _ = one_file(tmp_path, content)
    assert [row["device"] for row in rows] == [f"0:{number}" for number in range(count)]


def test_a_read_of_nothing_is_none(tmp_path: Path) -> None:
    one_file(tmp_path, blk_record(100, 8, 0, COMPLETED | READ) + blk_record(200, 16, 4096, COMPLETED | READ))
    access = access_of_block_io(tmp_path / "block_io.parquet", None)
    assert (access["reads"], access["read_bytes"], access["mean_read_bytes"]) == (1, 4096, 4096)


@pytest.mark.parametrize("version", [7, 8])
def test_a_sector_that_no_disk_has_is_damage_and_none_at_all_is_not(tmp_path: Path, version: int) -> None:
    sectors = [8, 2**43, 2**62, 2**63, 2**43 - 1, 2**64 - 2, 2**64 - 1]
    records = [
        blk_record(100 * number, sector, 512, COMPLETED | (READ if sector < 2**64 - 1 else FLUSH), version=version)
        for number, sector in enumerate(sectors, start=1)
    ]
    rows, converted = one_file(tmp_path, b"".join(records))
    assert [(row["sector"], row["time_ns"]) for row in rows] == [(8, 0), (2**43 - 1, 400), (0, 600)]
    place = len(records[0])
    assert converted.notes == [
        "vda.blktrace.0: has a record of a sector that no disk has; whole records were kept "
        f"(4 times, first at byte {place})"
    ]


def test_notes_and_what_stands_behind_a_head_are_stepped_over(tmp_path: Path) -> None:
    """Also where it looks like a record, is of odd length, or a control group's number."""
    fake = blk_record(5, 999, 512, COMPLETED | READ)
    content = b"".join(
        [
            blk_record(1000, 0, 0, 2 | NOTIFY, b"fio: " + fake + b"!"),
            *requests(3, payload=b"\0" * 8),
            blk_record(4000, 0, 0, COMPLETED | NOTIFY, MAGIC * 5),
            *requests(2, 3),
            blk_record(5000, 8 * 5, 4096, COMPLETED | READ | GROUP, fake + fake),
        ]
    )
    rows, converted = one_file(tmp_path, content)
    assert [row["sector"] for row in rows] == [8 * number for number in range(6)]
    assert converted.notes == []


def test_files_of_all_cpus_and_devices_in_any_order_give_one_table(tmp_path: Path) -> None:
    records = requests(30)
    files = [tmp_path / f"vda.blktrace.{cpu}" for cpu in range(3)] + [tmp_path / "nvme0n1.blktrace.0.zst"]
    for cpu in range(3):
        files[cpu].write_bytes(b"".join(records[cpu::3]))
    files[3].write_bytes(zstd(blk_record(1500, 1, 512, COMPLETED | READ, device=OTHER_DEVICE)))
    empty = tmp_path / "vda.blktrace.3"
    empty.write_bytes(b"")
    rows, converted = imported(tmp_path, *files, empty)
    first = (tmp_path / "block_io.parquet").read_bytes()
    assert converted.notes == []
    assert [row["time_ns"] for row in rows] == sorted([*range(0, 30_000, 1000), 500])
    assert {row["device"] for row in rows} == {"254:0", "259:3"}
    imported(tmp_path, empty, *reversed(files))
    assert (tmp_path / "block_io.parquet").read_bytes() == first


@pytest.mark.parametrize("chunk", [1 << 17, (1 << 17) + 1, 1 << 18])
def test_records_lie_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    content = b"".join(requests(9000, payload=b"odd")) + b"".join(requests(5, 9000, b"x" * 60_000))
    whole, _ = one_file(tmp_path, content)
    monkeypatch.setattr(convert, "_LARGEST_CHUNK", chunk)
    rows, converted = one_file(tmp_path, content)
    assert rows == whole
    assert (len(rows), converted.notes) == (9005, [])


def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    records = requests(10)
    records[4] = records[4][:20]
    rows, converted = one_file(tmp_path, b"".join(records))
    assert [row["sector"] // 8 for row in rows] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert converted.notes == [
        "vda.blktrace.0: holds something that is no record; whole records were kept (at byte 192)"
    ]
    records = requests(10)
    records[6] = records[6][:46] + b"\xff\x13"  # so many bytes are said to follow the head
    rows, converted = one_file(tmp_path, b"".join(records))
    assert [row["sector"] // 8 for row in rows] == list(range(10))
    assert converted.notes


def test_nothing_but_garbage_for_more_than_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_LARGEST_CHUNK", 1 << 17)
    monkeypatch.setattr(convert, "_LEAST_CHUNK", 1 << 17)
    garbage = bytes(range(256)) * 2000
    rows, converted = one_file(tmp_path, b"".join(requests(5)) + garbage + b"".join(requests(5, 5)))
    assert [row["sector"] // 8 for row in rows] == list(range(10))
    assert converted.notes


def test_a_record_that_is_cut(tmp_path: Path) -> None:
    content = b"".join(requests(3, payload=b"1234"))
    rows, converted = one_file(tmp_path, content[:-1])  # the head is whole
    assert (len(rows), converted.notes) == (
        3,
        ["vda.blktrace.0: ends in the middle of a record; whole records were kept (at byte 155)"],
    )
    rows, converted = one_file(tmp_path, content[:-10])
    assert (len(rows), len(converted.notes)) == (2, 1)


def test_a_time_that_cannot_be_costs_its_record(tmp_path: Path) -> None:
    records = requests(8)
    records[3] = blk_record(1 << 60, 24, 4096, COMPLETED | READ)
    records[6] = blk_record(5, 48, 4096, COMPLETED | READ)
    far = [
        record[:8] + (int.from_bytes(record[8:16], "little") + (1 << 33)).to_bytes(8, "little") + record[16:]
        for record in records
    ]
    far[3], far[6] = records[3], records[6]
    rows, converted = one_file(tmp_path, b"".join(far))
    assert [row["sector"] // 8 for row in rows] == [0, 1, 2, 4, 5, 7]
    assert "2 times" in converted.notes[0]


def test_what_is_no_file_of_blktrace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"vda\.blktrace\.0 holds no records of blktrace"):
        one_file(tmp_path, b"some text that is longer than a record of 48 bytes, but not one")
    with pytest.raises(TraceError, match="is of version 9 of blktrace's format, and this pagelab reads \\[7, 8\\]"):
        one_file(tmp_path, blk_record(1, 1, 1, COMPLETED, version=9))
    with pytest.raises(TraceError, match="none is no file"):
        imported(tmp_path, tmp_path / "none")
    assert not list(tmp_path.glob("*.parquet*"))


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_damaged_the_rows_are_in_time_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(b"".join(requests(20, payload=b"12345")))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    del content[: data.draw(st.integers(0, 60))]
    try:
        rows, _ = one_file(tmp_path_factory.mktemp("blk"), bytes(content))
    except TraceError:
        return
    assert [row["time_ns"] for row in rows] == sorted(row["time_ns"] for row in rows)
    assert len(rows) <= 20
