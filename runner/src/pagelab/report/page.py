"""The report of a run: one page that works offline, its figures as files, and the summary as CSV and Parquet."""

import csv
import io
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from pagelab.analysis.trial_table import summary_table
from pagelab.errors import StoreError, printable
from pagelab.report import access_section, figures, provenance, tables, wording
from pagelab.report.run_data import RunData
from pagelab.store.files import unit_of
from pagelab.store.record import TrialRecord, flatten
from pagelab.store.run_store import PAGE

WITH_INVALID = "with-invalid"
_FORMULA = ("=", "+", "-", "@")


def _rate(bytes_per_second: float | None) -> str:
    return wording.ABSENT if bytes_per_second is None else f"{wording.size(bytes_per_second)}/s"


def _text(value: str | None) -> str:
    return value or wording.ABSENT


def _kib(value: int | None) -> str:
    return wording.ABSENT if value is None else f"{value} KiB"


TRIAL_TABLES: Mapping[str, list[tuple[str, Callable[[Any], str], str]]] = {
    "Speed": [
        ("tokens decoded", wording.count, "decode.tokens"),
        ("tokens/s", wording.number, "decode.tokens_per_second"),
        ("steady tokens/s", wording.number, "steady.tokens_per_second"),
        ("steady from token", wording.count, "steady.from_token"),
        ("a token, p50", wording.short_time, "decode.token_p50_seconds"),
        ("p90", wording.short_time, "decode.token_p90_seconds"),
        ("p99", wording.short_time, "decode.token_p99_seconds"),
        ("load", wording.duration, "load.seconds"),
        ("prompt", wording.duration, "prompt.seconds"),
        ("decode", wording.duration, "decode.seconds"),
        ("first token after", wording.duration, "time_to_first_token_seconds"),
        ("start to last token", wording.duration, "whole_seconds"),
        ("decode by llama.cpp's clock", wording.duration, "engine.decode_seconds"),
    ],
    "Reads": [
        ("load, from file", wording.size, "reads.load.model_bytes"),
        ("prompt, from file", wording.size, "reads.prompt.model_bytes"),
        ("decode, from file", wording.size, "reads.decode.model_bytes"),
        (f"{wording.TIMES} weights", wording.number, "rereads.factor"),
        ("decode, from swap", wording.size, "reads.decode.swap_bytes"),
        ("decode, other", wording.size, "reads.decode.other_bytes"),
        ("decode, whole disk", wording.size, "reads.decode.device_bytes"),
        ("disk rate", _rate, "throughput.read_bytes_per_second"),
        ("vendor's figure reached", wording.percent, "bound.fraction_of_vendor"),
    ],
    "Against what is possible": [
        ("disk's best rate", _rate, "bound.read_bytes_per_second"),
        ("which is", _text, "bound.read_rate_source"),
        ("disk's rate for reads like these", _rate, "bound.pattern_bytes_per_second"),
        ("computing a token", wording.short_time, "bound.compute_seconds_per_token"),
        ("bound, best choice", wording.number, "bound.best.tokens_per_second"),
        ("reached", wording.percent, "bound.best.fraction_of_bound"),
        ("bound, random", wording.number, "bound.random.tokens_per_second"),
        ("reached", wording.percent, "bound.random.fraction_of_bound"),
        ("bound, least recently used", wording.number, "bound.lru.tokens_per_second"),
        ("reached", wording.percent, "bound.lru.fraction_of_bound"),
        ("readahead set", _kib, "readahead.disk_kib"),
        ("readahead in effect", _kib, "readahead.effective_kib"),
    ],
    "Memory": [
        ("group's limit", wording.size, "limit.bytes"),
        ("pinned", wording.size, "limit.pinned_bytes"),
        ("limit reached", wording.yes_no, "limit.effective"),
        ("weights seen in RAM", wording.percent, "residency.achieved_fraction"),
        ("peak of group", wording.size, "memory.peak_bytes"),
        ("available before", wording.size, "memory.before.available_bytes"),
        ("available after", wording.size, "memory.after.available_bytes"),
        ("swap used before", wording.size, "swap_used.before_bytes"),
        ("swap used after", wording.size, "swap_used.after_bytes"),
    ],
    "Others while decoding, and the trace": [
        ("written to the disk", wording.size, "disturbance.disk_written_bytes"),
        ("held back by a quota", wording.duration, "disturbance.throttled_seconds"),
        ("slowed for heat", wording.count, "disturbance.thermal_events"),
        ("CPU time taken by the hypervisor", wording.percent, "disturbance.stolen_fraction"),
        ("CPU time taken by other processes", wording.percent, "disturbance.other_cpu_fraction"),
        ("llama.cpp waiting for a processor", wording.percent, "disturbance.run_delay_fraction"),
        ("traced by", str, "traced_by"),
        ("events lost", wording.count, "trace.lost_events"),
        ("CPU of the recorder", wording.duration, "trace.recorder_cpu_seconds"),
    ],
    "Faults and swapping while decoding": [
        ("major faults", wording.count, "faults.major"),
        ("minor faults", wording.count, "faults.minor"),
        ("refaults, file pages", wording.count, "refaults.file_pages"),
        ("refaults, anonymous pages", wording.count, "refaults.anon_pages"),
        ("swapped in", wording.size, "swap.in_bytes"),
        ("swapped out", wording.size, "swap.out_bytes"),
    ],
}
"""The tables of all trials: heading, words, and column of trial.json (or of `_facts`)."""


def write_report(data: RunData) -> Path:
    """Write everything that is derived from a run's trials, and return the path of the page.

    The page is `report/index.html`; beside it stand `summary.csv` and `figures/` (with traces, further CSV files), and
    the run gets its `summary.parquet`. The same raw files give the same report. With invalid trials asked for, all of
    it goes to `report/with-invalid/`, so that it never replaces the report of the valid trials.

    Raises:
        StoreError: no trial is finished, a raw file is damaged, or the disk refused.
    """
    store = data.store
    if not data.trials:
        raise StoreError(f"{store.directory} has no finished trial to report: go on with it by `pagelab run --resume`")
    folder = f"{WITH_INVALID}/" if data.include_invalid else ""
    drawn = figures.render_all(data)
    exported = access_section.exported_tables(data)
    page = render_page(data, {name: formats["svg"].decode() for name, formats in drawn.items()}, list(exported))
    table = summary_table(data.trials)
    store.write_summary(table)
    for name, content in {"summary": table, **exported}.items():
        store.write_report_file(f"{folder}{name}.csv", _comma_separated(content))
    for name, formats in drawn.items():
        for kind, content in formats.items():
            store.write_report_file(f"{folder}figures/{name}.{kind}", content)
    return store.write_report_file(f"{folder}{PAGE}", page.encode())


def render_page(data: RunData, drawings: Mapping[str, str], exported: Iterable[str]) -> str:
    """The whole page as text.

    Args:
        data: the run, with at least one trial.
        drawings: the figures as SVG documents, by the names that `figures.render_all` gives them.
        exported: the names of the CSV files beside the page, other than the summary.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
    )
    rows = data.combinations
    labels = tables.label_columns(rows)
    return environment.get_template("page.html.j2").render(
        run=data.run,
        findings=wording.findings(rows),
        notices=[*data.damage, *tables.warning_lines(data.run, data.trials, rows, data.include_invalid)],
        banner=wording.invalid_included(data.trials, data.include_invalid),
        above="../.." if data.include_invalid else "..",
        common=tables.common_settings(rows),
        summary=tables.grid(rows, rows, tables.SUMMARY),
        spreads=tables.grid(rows, rows, tables.SPREAD),
        figures={name: _inline(drawing, name) for name, drawing in drawings.items()},
        origins=provenance.origins_grid(data),
        residency=provenance.residency_grid(data),
        classes=provenance.classes_grid(data),
        order=access_section.order_grid(data),
        order_findings=wording.order_findings(data.patterns),
        counted_from=wording.counted_from(data.patterns),
        kinds=access_section.kinds_grid(data),
        exported=exported,
        trials=data.trials,
        label_headings=[heading for heading, *_ in labels],
        labels={trial.trial: [cell(row)[0] for *_, cell in labels] for row in rows for trial in row.trials},
        trial_tables=TRIAL_TABLES,
        facts={trial.trial: _facts(trial) for trial in data.trials},
        wording=wording,
        host_facts=[(_label(name), describe(name, value)) for name, value in flatten(data.run.manifest).items()],
        commands=_commands(data.trials),
        configuration=data.configuration,
        verdicts=data.verdicts,
    )


def _printable(value: object) -> object:
    """A text without control characters, which HTML has no place for; markup of our own stays as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return printable(value, lines=True)


def _facts(trial: TrialRecord) -> dict[str, Any]:
    """What the tables of all trials show of one."""
    seconds = [part.seconds for part in (trial.load, trial.prompt, trial.decode) if part.seconds is not None]
    traced = trial.trace if trial.trace and trial.trace.recorders else None
    return trial.columns() | {
        "whole_seconds": sum(seconds) if len(seconds) == 3 else None,
        "traced_by": f"{', '.join(traced.recorders)} ({', '.join(traced.profiles)})" if traced else wording.ABSENT,
    }


def describe(name: str, value: object) -> str:
    """A fact of the host in words; the unit follows from its name."""
    if value is None or isinstance(value, bool):
        return wording.yes_no(value)
    if isinstance(value, dict):
        return ", ".join(f"{_label(key)} {describe(key, item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(describe(name, item) for item in value) or "none"
    if isinstance(value, int | float) and unit_of(name) == "bytes":
        return wording.size(value)
    return f"{value} KiB" if name.endswith("_kib") else str(value)


def _label(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_kib").replace("_", " ").replace(".", ", ")


def _commands(trials: Iterable[TrialRecord]) -> list[tuple[str, str]]:
    """Each distinct command line of llama.cpp, with the numbers of the trials that ran it."""
    numbers: dict[str, list[str]] = {}
    for trial in trials:
        if trial.command:
            numbers.setdefault(shlex.join(trial.command), []).append(f"{trial.trial:03d}")
    return [(", ".join(found), command) for command, found in numbers.items()]


def _inline(drawing: str, name: str) -> str:
    """An SVG document as an element of a page: no prolog or fixed size, and names that no other figure uses.

    Texts between the tags, such as the name of a model, may look like either and stay as they are.
    """
    element = drawing[drawing.index("<svg") :]
    head, rest = element.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    own_name = re.compile(r'(\bid="|href="#|url\(#)')
    text = re.sub(r"<[^>]*>", lambda tag: own_name.sub(rf"\g<1>{name}-", tag[0]), f"{head}>{rest}")
    return text.replace("<svg", f'<svg role="img" aria-labelledby="{name}-caption"', 1)


def _comma_separated(table: pa.Table) -> bytes:
    """The summary for spreadsheets: numbers unrounded, absent values empty, lists joined into one cell.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, which makes it a text there.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        lists = {name: value for name, value in row.items() if isinstance(value, list)}
        joined = {name: (shlex.join if name == "command" else "; ".join)(value) for name, value in lists.items()}
        writer.writerow(map(_cell, (row | joined).values()))
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _printable(value)
    return f"'{text}" if str(text).startswith(_FORMULA) else text
