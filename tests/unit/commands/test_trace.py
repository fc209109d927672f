"""`pagelab trace`: recordings of other programs in, tables and fio's log out."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_run import stored_run, trials
from typer.testing import CliRunner

from pagelab.commands.trace import trace_app
from pagelab.errors import ConfigError, StoreError, TraceError
from pagelab.traces.convert import convert
from pagelab.traces.export import export_iolog
from raw_traces import ADD, COMPLETED, ISSUED, READ, WRITE, Page, blk_record, complete, issue, page_event, write_trace

FIRST, SECOND, SWAP = ((1 << 30) // 512, (3 << 30) // 512, (8 << 30) // 512)


def run(*arguments: str | Path) -> str:
    return CliRunner().invoke(trace_app, [str(argument) for argument in arguments], catch_exceptions=False).output


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """The directory of a trial: reads of the model, of swap and of something else, and a write."""
    page = Page(10_000)
    page.event(issue(FIRST + 8, 8), 0).event(issue(FIRST, 8), 2_000)
    page.event(complete(FIRST, 8), 1_000).event(complete(FIRST + 8, 8), 10)
    page.event(complete(SECOND - 8, 16), 5_000).event(complete(FIRST + 1016, 16), 1_000)
    page.event(complete(SWAP, 8), 1_000).event(complete(64, 8, "W"), 1_000).event(page_event(ADD, 3), 0)
    directory = tmp_path / "001"
    write_trace(directory / "trace", {"cpu0.raw": page.bytes()})
    convert(directory / "trace", directory)
    return directory


def test_an_import_says_how_the_recording_reads(tmp_path: Path) -> None:
    """Three reads of 128 KiB in order, which the notes' rule takes for random, and a write."""
    records = [
        blk_record(1_000 * number + time, 256 * number, 131_072, action | READ)
        for number in range(3)
        for time, action in ((100, ISSUED), (900, COMPLETED))
    ]
    files = [tmp_path / "vda.blktrace.0", tmp_path / "vda.blktrace.1"]
    files[0].write_bytes(b"".join(records))
    files[1].write_bytes(blk_record(1_500, 8, 4096, COMPLETED | WRITE) + b"x")
    out = tmp_path / "new" / "out"
    said = run("import", "blktrace", *files, "--out", out, "--readahead-kib", "256")
    access = json.loads((out / "access.json").read_text())
    assert (access["reads"], access["read_bytes"], access["mean_read_bytes"]) == (3, 3 * 131_072, 131_072)
    assert access["sequential_fraction"] == pytest.approx(2 / 3)  # none is readahead, so only the first is not in order
    assert access["sequential_fraction_notes"] == 0
    assert access["readahead_bytes"] == 256 << 10
    assert access["events"] == {"blktrace issue": 3, "blktrace complete": 4}
    assert access["notes"] == ["vda.blktrace.1: ends in the middle of a record; whole records were kept (at byte 48)"]
    assert pq.read_table(out / "block_io.parquet").num_rows == 4
    assert "3 reads, 393 kB" in said
    assert f"note: {access['notes'][0]}" in said
    assert json.loads(run("import", "blktrace", files[0], "--out", out, "--json"))["notes"] == []


def test_an_import_of_something_else_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(TraceError, match="holds no records of blktrace"):
        run("import", "blktrace", tmp_path / "a.txt", "--out", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("table", ["block_io", "page_cache"])
def test_tables_for_other_programs(trial: Path, tmp_path: Path, table: str) -> None:
    original = pq.read_table(trial / f"{table}.parquet")
    run("export", trial, "--format", "parquet", "--table", table, "--out", tmp_path / "t.parquet")
    plain = pq.read_table(tmp_path / "t.parquet")
    assert plain.to_pylist() == original.to_pylist()
    assert not any(pa.types.is_dictionary(field.type) for field in plain.schema)
    assert b"pagelab_units" in plain.schema.metadata
    said = run("export", trial, "--format", "csv", "--table", table, "--out", tmp_path / "t.csv")
    assert said == f"{tmp_path / 't.csv'}: {original.num_rows} rows\n"
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["time_ns"]) for row in rows] == original["time_ns"].to_pylist()
    assert [row["tensor"] or None for row in rows] == original["tensor"].to_pylist()


LOG = """fio version 3 iolog
0 /m/m.gguf add
0 /dev/vda add
0 /m/m.gguf open
0 /dev/vda open
1 /m/m.gguf read 4096 4096
3 /m/m.gguf read 0 4096
9 /m/m.gguf read 524288 4096
10 /m/m.gguf read 520192 4096
11 /dev/vda read 8589934592 4096
11 /m/m.gguf close
11 /dev/vda close
"""


def test_reads_as_a_log_for_fio(trial: Path, tmp_path: Path) -> None:
    """In the order of issue, in microseconds from 1 on; what a request holds of others than the model is left out."""
    log = ("--format", "iolog", "--out", tmp_path / "log")
    assert run("export", trial, *log, "--of-others") == f"{tmp_path / 'log'}: 5 reads\n"
    assert (tmp_path / "log").read_text() == LOG
    assert run("export", trial, *log, "--models", "/other") == f"{tmp_path / 'log'}: 4 reads\n"
    model = "".join(line for line in LOG.splitlines(keepends=True) if "vda" not in line)
    assert (tmp_path / "log").read_text() == model.replace("/m/m.gguf", "/other/m.gguf").replace("11 /o", "10 /o")


def test_a_read_that_spans_extents_is_one_read_for_each(tmp_path: Path) -> None:
    page = Page(0).event(complete(FIRST + 1008, 32), 5)
    extents = [
        {"file_offset": 0, "disk_offset": 1 << 30, "bytes": 512 << 10},
        {"file_offset": 768 << 10, "disk_offset": (1 << 30) + (512 << 10), "bytes": 256 << 10},
    ]
    record = write_trace(tmp_path / "trace", {"cpu0.raw": page.bytes()})
    document = record.document()
    document["files"][0]["extents"] = extents
    (tmp_path / "trace" / "trace.json").write_text(json.dumps(document))
    convert(tmp_path / "trace", tmp_path)
    run("export", tmp_path, "--format", "iolog", "--out", tmp_path / "log")
    assert [line for line in (tmp_path / "log").read_text().splitlines() if " read " in line] == [
        "1 /m/m.gguf read 516096 8192",
        "1 /m/m.gguf read 786432 8192",
    ]


def test_the_end_of_a_file_is_read_in_whole_blocks(tmp_path: Path) -> None:
    """Where fio reads past the page cache, it cannot read the last 700 bytes of a file, which end within a block."""
    page = Page(0).event(complete(FIRST + 1008, 16), 5)
    record = write_trace(tmp_path / "trace", {"cpu0.raw": page.bytes()})
    document = record.document()
    document["files"][0]["bytes"] = 516096 + 4096 + 700
    (tmp_path / "trace" / "trace.json").write_text(json.dumps(document))
    convert(tmp_path / "trace", tmp_path)
    run("export", tmp_path, "--format", "iolog", "--out", tmp_path / "log")
    assert "1 /m/m.gguf read 516096 4096\n" in (tmp_path / "log").read_text()


def test_an_import_is_replayed_on_its_devices(tmp_path: Path) -> None:
    (tmp_path / "a.blktrace.0").write_bytes(blk_record(1_000, 8, 4096, COMPLETED | READ))
    run("import", "blktrace", tmp_path / "a.blktrace.0", "--out", tmp_path)
    run("export", tmp_path, "--format", "iolog", "--out", tmp_path / "log")
    name = "/dev/block/254:0"
    assert (tmp_path / "log").read_text().splitlines()[1:] == [
        f"0 {name} add",
        f"0 {name} open",
        f"1 {name} read 4096 4096",
        f"1 {name} close",
    ]


def test_what_fio_could_not_read(trial: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"fio's log cannot name '/a b/m.gguf'.*--models"):
        run("export", trial, "--format", "iolog", "--out", tmp_path / "log", "--models", "/a b")
    (tmp_path / "w.blktrace.0").write_bytes(blk_record(1_000, 8, 4096, COMPLETED | WRITE))
    run("import", "blktrace", tmp_path / "w.blktrace.0", "--out", tmp_path)
    with pytest.raises(TraceError, match="has no reads"):
        export_iolog(tmp_path / "block_io.parquet", tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_trial_of_a_run_is_found_by_its_number_where_several_were_traced(tmp_path: Path) -> None:
    store = stored_run(tmp_path, trials())
    with pytest.raises(ConfigError, match=r"say by --trial which of the traced trials is meant \(none\)"):
        run("export", store.directory, "--format", "csv", "--out", tmp_path / "t.csv")
    for number in (1, 2):
        directory = store.trial_directory(number)
        write_trace(directory / "trace", {"cpu0.raw": Page(0).event(complete(8 * number, 8)).bytes()})
        convert(directory / "trace", directory)
        if number == 1:
            run("export", store.directory, "--format", "parquet", "--out", tmp_path / "t.parquet")
            assert pq.read_table(tmp_path / "t.parquet")["sector"].to_pylist() == [8]
    with pytest.raises(ConfigError, match=r"which of the traced trials is meant \(1, 2\)"):
        run("export", store.directory, "--format", "csv", "--out", tmp_path / "t.csv")
    run("export", store.directory, "--trial", "2", "--format", "parquet", "--out", tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["sector"].to_pylist() == [16]


def test_what_cannot_be_exported(trial: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"block_io\.parquet is missing: name a trial that was traced"):
        run("export", tmp_path, "--format", "csv", "--out", tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="is no run, so it has no trial 3"):
        run("export", trial, "--trial", "3", "--format", "csv", "--out", tmp_path / "t.csv")
    (trial / "block_io.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=r"cannot read .*block_io\.parquet"):
        run("export", trial, "--format", "csv", "--out", tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
