"""The report of a run: one page that works offline, its figures as files, and the summary as CSV and Parquet."""

import csv
import io
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagelab.analysis.hypotheses import Verdict, read_verdicts
from pagelab.analysis.origins import origins
from pagelab.analysis.patterns import Pattern, read_patterns
from pagelab.analysis.resident import TensorRows, read_tensor_rows, resident
from pagelab.analysis.summary import Aggregate, aggregate, summary_table
from pagelab.errors import StoreError
from pagelab.report import access_section, figures, provenance, tables, wording
from pagelab.store.files import unit_of
from pagelab.store.record import RunRecord, TrialRecord, flatten
from pagelab.store.run_store import RunStore

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = "index.html"
WITH_INVALID = "with-invalid"

TrialColumn = tuple[str, Callable[[TrialRecord], str]]

_TRIAL_TABLES: list[tuple[str, list[TrialColumn]]] = [
    (
        "Speed",
        [
            ("tokens decoded", lambda trial: wording.count(trial.decode.tokens)),
            ("tokens/s", lambda trial: wording.number(trial.decode.tokens_per_second)),
            ("load", lambda trial: wording.duration(trial.load.seconds)),
            ("prompt", lambda trial: wording.duration(trial.prompt.seconds)),
            ("decode", lambda trial: wording.duration(trial.decode.seconds)),
            ("first token after", lambda trial: wording.duration(trial.time_to_first_token_seconds)),
            ("start to last token", lambda trial: wording.duration(_whole_time(trial))),
            ("decode by llama.cpp's clock", lambda trial: wording.duration(trial.engine.decode_seconds)),
        ],
    ),
    (
        "Reads",
        [
            ("load, from file", lambda trial: wording.size(trial.reads.load.model_bytes)),
            ("prompt, from file", lambda trial: wording.size(trial.reads.prompt.model_bytes)),
            ("decode, from file", lambda trial: wording.size(trial.reads.decode.model_bytes)),
            (f"{wording.TIMES} weights", lambda trial: wording.number(trial.rereads.factor)),
            ("decode, from swap", lambda trial: wording.size(trial.reads.decode.swap_bytes)),
            ("decode, other", lambda trial: wording.size(trial.reads.decode.other_bytes)),
            ("decode, whole disk", lambda trial: wording.size(trial.reads.decode.device_bytes)),
            ("disk rate", lambda trial: _rate(trial.throughput.read_bytes_per_second)),
            ("share of bound", lambda trial: wording.percent(trial.bound.fraction_of_bound)),
        ],
    ),
    (
        "Memory",
        [
            ("group's limit", lambda trial: wording.size(trial.limit.bytes)),
            ("pinned", lambda trial: wording.size(trial.limit.pinned_bytes)),
            ("limit felt", lambda trial: wording.yes_no(trial.limit.effective)),
            ("weights seen in RAM", lambda trial: wording.percent(trial.residency.achieved_fraction)),
            ("peak of group", lambda trial: wording.size(trial.memory.peak_bytes)),
            ("available before", lambda trial: wording.size(trial.memory.before.available_bytes)),
            ("available after", lambda trial: wording.size(trial.memory.after.available_bytes)),
            ("swap used before", lambda trial: wording.size(trial.swap_used.before_bytes)),
            ("swap used after", lambda trial: wording.size(trial.swap_used.after_bytes)),
        ],
    ),
    (
        "Others while decoding, and the trace",
        [
            ("written to the disk", lambda trial: wording.size(trial.disturbance.disk_written_bytes)),
            ("held back by a quota", lambda trial: wording.duration(trial.disturbance.throttled_seconds)),
            ("slowed for heat", lambda trial: wording.count(trial.disturbance.thermal_events)),
            ("CPU time taken by the hypervisor", lambda trial: wording.percent(trial.disturbance.stolen_fraction)),
            ("traced by", lambda trial: _recorders(trial)),
            ("events lost", lambda trial: wording.count(trial.trace.lost_events if trial.trace else None)),
            ("CPU of the recorder", lambda trial: _recorder_time(trial)),
        ],
    ),
    (
        "Faults and swapping while decoding",
        [
            ("major faults", lambda trial: wording.count(trial.faults.major)),
            ("minor faults", lambda trial: wording.count(trial.faults.minor)),
            ("refaults, file pages", lambda trial: wording.count(trial.refaults.file_pages)),
            ("refaults, anonymous pages", lambda trial: wording.count(trial.refaults.anon_pages)),
            ("swapped in", lambda trial: wording.size(trial.swap.in_bytes)),
            ("swapped out", lambda trial: wording.size(trial.swap.out_bytes)),
        ],
    ),
]
_CAPTIONS = {
    "speed": (
        "Decode speed against the share of the weights allowed in RAM",
        "Each point is one repetition (moved sideways a little where several share a place), each line joins medians.",
    ),
    "latency": (
        "Time of each token",
        "Each line is one repetition, by the lab's own clock from the token before; the first token has none.",
    ),
    "reads": (
        "Bytes read for each decoded token, and where they came from",
        "Each part is a median; the figure at the end of a bar is what file and swap gave together, in bytes and in "
        "times the size of the weights. A bar that reaches the dashed line means as many bytes for each token as the "
        "weights have.",
    ),
    "residency": (
        "Which layers were in RAM while decoding",
        "Share of the bytes of each layer's tensors that the page cache held, a mean over the time of decoding and the "
        "median over repetitions. Tensors outside the layers are in the table above.",
    ),
    "access_map": (
        "Where in the file was read, and when",
        "The first tokens that were decoded (up to eight), of the repetition of median speed, of up to twelve "
        "combinations. A dense model that is read in order draws a slope for each token; what stays white stayed in "
        "RAM or was not needed.",
    ),
    "access_layers": (
        "What each layer had to read",
        "Bytes read for each token over the bytes of the layer's tensors, of the repetition of median speed: 1 means "
        "that each token read the whole layer, more that some of it was read twice.",
    ),
    "access_experts": (
        "Which experts were read",
        "For which share of the tokens anything of an expert was read, each layer's experts sorted by it, of the "
        "repetition of median speed. An expert that stays in RAM is not read, and one that nobody asked for may be, by "
        "the readahead for its neighbour.",
    ),
    "reuse": (
        "What a cache would save",
        "Share of the accesses that a cache with LRU eviction would miss, by its size, of the repetition of median "
        "speed. The accesses are the bytes that were read, so they lack what was found in RAM: with no weights allowed "
        "there the curve is nearly that of all accesses, with more it tells what a further cache below would save.",
    ),
}


_ACCESS_FIGURES = ("access_map", "access_layers", "access_experts", "reuse")


def write_report(store: RunStore, include_invalid: bool = False) -> Path:
    """Write everything that is derived from a run's trials, and return the path of the page.

    The page is `report/index.html`; beside it stand `summary.csv` and `figures/` (with traces, further CSV files), and
    the run gets its
    `summary.parquet`. The same raw files give the same report. With `include_invalid` all of it goes to
    `report/with-invalid/`, so that it never replaces the report of the valid trials.

    Raises:
        StoreError: no trial is finished, a raw file is damaged, or the disk refused.
    """
    run, trials = store.read_run(), store.read_trials()
    if not trials:
        raise StoreError(f"{store.directory} has no finished trial to report: go on with it by `pagelab run --resume`")
    folder = f"{WITH_INVALID}/" if include_invalid else ""
    table, tensors = summary_table(trials), read_tensor_rows(store, trials)
    latencies = {trial.trial: read_latencies(store, trial.trial) for trial in trials}
    patterns = read_patterns(store, trials, include_invalid)
    drawn = figures.render_all(trials, latencies, tensors, include_invalid, patterns)
    store.write_summary(table)
    exported = access_section.exported_tables(store, trials)
    for name, content in {"summary": table, **exported}.items():
        store.write_report_file(f"{folder}{name}.csv", _comma_separated(content))
    for name, formats in drawn.items():
        for kind, content in formats.items():
            store.write_report_file(f"{folder}figures/{name}.{kind}", content)
    drawings = {name: formats["svg"].decode() for name, formats in drawn.items()}
    verdicts = read_verdicts(store, include_invalid)
    page = render_page(
        run, trials, drawings, store.read_config_text(), verdicts, tensors, include_invalid, patterns, list(exported)
    )
    return store.write_report_file(f"{folder}{PAGE}", page.encode())


def read_latencies(store: RunStore, number: int) -> list[tuple[int, float]]:
    """Index and seconds of each token of a trial that has a token before it; empty where none were recorded."""
    table = store.read_trial_table(number, "tokens")
    if table is None or not {"token_index", "latency_seconds"} <= set(table.column_names):
        return []
    pairs = zip(table["token_index"].to_pylist(), table["latency_seconds"].to_pylist(), strict=True)
    return [(index, seconds) for index, seconds in pairs if index is not None and seconds is not None]


def render_page(
    run: RunRecord,
    trials: Sequence[TrialRecord],
    drawings: dict[str, str],
    configuration: str | None = None,
    verdicts: Sequence[Verdict] = (),
    tensors: TensorRows | None = None,
    include_invalid: bool = False,
    patterns: Sequence[Pattern] = (),
    exported: Sequence[str] = (),
) -> str:
    """The whole page as text.

    Args:
        run: the run's record.
        trials: its finished trials, invalid ones too; at least one.
        drawings: the figures as SVG documents, by the names that `figures.render_all` gives them.
        configuration: the text of config.yml, where it is known.
        verdicts: what became of the hypotheses of the configuration.
        tensors: the tables of what was in RAM of each tensor, by trial.
        include_invalid: invalid trials enter the aggregates too, which the page then says in big words.
        patterns: what was read, in which order.
        exported: the names of the CSV files beside the page, other than the summary.
    """
    import jinja2

    rows = aggregate(trials, include_invalid)
    parts = resident(trials, tensors or {}, include_invalid)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        findings=wording.findings(rows),
        notices=tables.warning_lines(run, trials, rows, include_invalid),
        banner=wording.invalid_included(trials, include_invalid),
        above="../.." if include_invalid else "..",
        common=tables.common_settings(rows),
        summary=_aggregate_table(rows, tables.summary_columns(rows)),
        spreads=_aggregate_table(rows, tables.spread_columns(rows)),
        figures={name: (*_CAPTIONS[name], _inline(drawing, name)) for name, drawing in drawings.items()},
        origins=provenance.origins_grid(rows, origins(trials, include_invalid)),
        residency=provenance.residency_grid(rows, trials, include_invalid),
        classes=provenance.classes_grid(rows, parts),
        order=access_section.order_grid(rows, patterns),
        order_findings=wording.order_findings(patterns),
        counted_from=wording.counted_from(patterns),
        kinds=access_section.kinds_grid(rows, patterns),
        access_figures=[name for name in drawings if name in _ACCESS_FIGURES],
        figures_elsewhere=("residency", *_ACCESS_FIGURES),
        exported=exported,
        trials=trials,
        labels=_trial_labels(trials),
        trial_tables=_TRIAL_TABLES,
        wording=wording,
        host_facts=[(_label(name), describe(name, value)) for name, value in flatten(run.manifest).items()],
        commands=_commands(trials),
        configuration=configuration,
        verdicts=verdicts,
    )


def _recorders(trial: TrialRecord) -> str:
    if trial.trace is None or not trial.trace.recorders:
        return wording.ABSENT
    return f"{', '.join(trial.trace.recorders)} ({', '.join(trial.trace.profiles)})"


def _recorder_time(trial: TrialRecord) -> str:
    return wording.duration(trial.trace.recorder_cpu_seconds if trial.trace else None)


def _trial_labels(trials: Sequence[TrialRecord]) -> list[TrialColumn]:
    """What tells the trials apart; model and settings only where they vary."""
    varying, _ = wording.split_settings([trial.factors for trial in trials])
    labels: list[TrialColumn] = []
    if len({trial.factors.model for trial in trials}) > 1:
        labels.append(("model", lambda trial: trial.factors.model))
    if varying:
        labels.append(("settings", lambda trial: wording.settings(trial.factors, varying)))
    labels.append(("in RAM", lambda trial: wording.percent(trial.factors.resident)))
    labels.append(("pressure", lambda trial: wording.pressure(trial.factors)))
    return labels


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


def _aggregate_table(rows: Sequence[Aggregate], columns: Sequence[tables.Column]) -> dict[str, Any]:
    return {
        "headings": [(heading, below) for heading, below, _ in columns],
        "rows": [[cell(row) for _, _, cell in columns] for row in rows],
    }


def _rate(bytes_per_second: float | None) -> str:
    return wording.ABSENT if bytes_per_second is None else f"{wording.size(bytes_per_second)}/s"


def _whole_time(trial: TrialRecord) -> float | None:
    parts = (trial.load.seconds, trial.prompt.seconds, trial.decode.seconds)
    return None if None in parts else sum(part for part in parts if part is not None)


def _commands(trials: Iterable[TrialRecord]) -> list[tuple[str, str]]:
    """Each distinct command line of llama.cpp, with the numbers of the trials that ran it."""
    numbers: dict[str, list[str]] = {}
    for trial in trials:
        if trial.command:
            numbers.setdefault(shlex.join(trial.command), []).append(f"{trial.trial:03d}")
    return [(", ".join(found), command) for command, found in numbers.items()]


def _inline(drawing: str, name: str) -> str:
    """An SVG document as an element of a page: no prolog or fixed size, and names that no other figure uses."""
    element = drawing[drawing.index("<svg") :]
    head, rest = element.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", f"{head}>{rest}")
    return text.replace("<svg", f'<svg role="img" aria-labelledby="{name}-caption"', 1)


def _comma_separated(table: "pa.Table") -> bytes:
    """The summary for spreadsheets: numbers unrounded, absent values empty, lists joined into one cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow([_cell(name, value) for name, value in row.items()])
    return text.getvalue().encode()


def _cell(name: str, value: object) -> object:
    if isinstance(value, list):
        return shlex.join(value) if name == "command" else "; ".join(value)
    return value
