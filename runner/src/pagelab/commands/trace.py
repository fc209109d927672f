"""`pagelab trace import | export`."""

import ctypes
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from pagelab.commands.environment import owner_from_environment
from pagelab.errors import ConfigError, printable
from pagelab.units import GIB, KIB, format_bytes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

trace_app = typer.Typer(help="Bring traces from other programs in, and out to other programs.", no_args_is_help=True)
import_app = typer.Typer(
    help="Turn another program's recording into a table, and say how it reads.", no_args_is_help=True
)
trace_app.add_typer(import_app, name="import")


@import_app.command("blktrace")
def import_blktrace(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="What blktrace wrote, DEVICE.blktrace.CPU.")],
    out: Annotated[Path, typer.Option(help="The directory for block_io.parquet and access.json.")],
    readahead_kib: Annotated[
        int | None, typer.Option(help="read_ahead_kb of the disk, where it is known.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print access.json.")] = False,
) -> None:
    """Import the files of blktrace, of any number of CPUs and devices, in any order."""
    _keep_memory()
    from pagelab.analysis.access.pattern import access_of_block_io
    from pagelab.store.files import make_directory, write_json
    from pagelab.traces.convert import BLOCK_IO_FILE
    from pagelab.traces.convert import import_blktrace as import_files

    owner = owner_from_environment()
    make_directory(out, owner)
    converted = import_files(files, out, owner)
    access = access_of_block_io(out / BLOCK_IO_FILE, None if readahead_kib is None else readahead_kib * KIB)
    document = {**access, "recorder": "blktrace", "events": converted.events, "notes": converted.notes}
    write_json(out / "access.json", document, owner)
    for note in converted.notes:
        typer.echo(f"note: {printable(note)}", err=True)
    typer.echo(json.dumps(document, indent=2) if as_json else _in_words(document, out))


def _keep_memory() -> None:
    """Have memory that was used before used again; call it before numpy is loaded.

    For new memory a virtual machine pays up to 8 µs a page of 4 KiB: the import of 12 million records then spent as
    much time on that as on the records.
    """
    # numpy asks for huge pages: to find and clear them took 0.3 to 1 s for what took 0.2 s with small ones.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    with suppress(AttributeError):  # glibc alone gives large blocks back when they are freed (mallopt(3)), and has this
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, GIB)


def _in_words(access: dict[str, object], out: Path) -> str:
    lines = [f"{access.get('reads', 0)} reads, {format_bytes(float(str(access.get('read_bytes', 0))))}: {out}"]
    for name, words in (
        ("mean_read_bytes", "mean read, bytes"),
        ("sequential_fraction", "sequential, by bytes"),
        ("sequential_fraction_notes", "sequential, starts less than 256 sectors apart"),
    ):
        if name in access:
            lines.append(f"  {words}: {access[name]:.4g}")
    return "\n".join(lines)


@trace_app.command("export")
def export(
    place: Annotated[Path, typer.Argument(metavar="RUN_OR_DIRECTORY", help="A run, or a directory with tables.")],
    file_format: Annotated[
        Literal["parquet", "csv", "iolog"], typer.Option("--format", help="iolog is what fio replays: the reads alone.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    trial: Annotated[int | None, typer.Option(help="Which trial of a run.", show_default=False)] = None,
    table: Annotated[
        Literal["block_io", "page_cache"], typer.Option(help="Which table, as parquet or csv.")
    ] = "block_io",
    models: Annotated[
        Path | None,
        typer.Option(help="iolog: the model's directory where it is replayed.", show_default="where it was"),
    ] = None,
    of_others: Annotated[
        bool, typer.Option("--of-others", help="iolog: reads that are not the model's too, from the disk itself.")
    ] = False,
) -> None:
    """Write a table for other programs, or the reads as a log for fio's read_iolog."""
    from pagelab.store.run_store import trace_record_of_tables
    from pagelab.traces.export import export_iolog, export_table

    directory, owner = _directory(place, trial), owner_from_environment()
    source = directory / f"{'block_io' if file_format == 'iolog' else table}.parquet"
    if not source.is_file():
        raise ConfigError(f"{source} is missing: name a trial that was traced, or compute it by `pagelab analyze RUN`")
    if file_format == "iolog":
        count = export_iolog(source, out, trace_record_of_tables(directory), models, owner, of_others)
    else:
        count = export_table(source, out, file_format == "csv", owner)
    typer.echo(f"{out}: {count} {'reads' if file_format == 'iolog' else 'rows'}")


def _directory(place: Path, trial: int | None) -> Path:
    """The directory that holds the tables: that of a trial of a run, or the one that was named."""
    if not (place / "run.json").is_file():
        if trial is not None:
            raise ConfigError(f"{place} is no run, so it has no trial {trial}: leave --trial out, or name a run")
        return place
    from pagelab.store.run_store import RunStore

    store = RunStore.open(place)
    traced = [record.trial for record in store.read_trials() if store.trace_directory(record.trial).is_dir()]
    if trial is None and len(traced) == 1:
        trial = traced[0]
    if trial not in traced:
        known = ", ".join(map(str, traced)) or "none"
        raise ConfigError(f"{place}: say by --trial which of the traced trials is meant ({known})")
    return store.trial_table_path(trial, "block_io").parent
