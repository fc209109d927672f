"""The summary of a run, as it is printed; it fits into 80 columns."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagelab.analysis.hypotheses import Verdict, read_verdicts
from pagelab.analysis.patterns import patterns
from pagelab.analysis.summary import Aggregate, aggregate
from pagelab.report import wording
from pagelab.report.tables import LABELS, SUMMARY, Cell, Column, common_settings, model_words, warning_lines
from pagelab.store.record import RunRecord, TrialRecord
from pagelab.store.run_store import RunStore

_NARROW: dict[str, Column | None] = {  # for the terminal, both origins in one column
    "from file": ("from file", "from swap", lambda row: _origins(row)),
    "from swap": None,
}


def summary_renderable(
    run: RunRecord,
    trials: Sequence[TrialRecord],
    verdicts: Sequence[Verdict] = (),
    include_invalid: bool = False,
) -> RenderableType:
    """The table, the findings, the hypotheses and the warnings of a run, for a rich console; fits into 80 columns."""
    rows = aggregate(trials, include_invalid)
    varying, _ = wording.split_settings([row.factors for row in rows])
    parts: list[RenderableType] = [Text(f"{run.experiment} on {run.host}: {common_settings(rows)}"), Text()]
    banner = wording.invalid_included(trials, include_invalid)
    parts += [Text(f"*** {banner} ***", style="bold red"), Text()] if banner else []
    groups: dict[str, list[Aggregate]] = {}
    for row in rows:
        groups.setdefault(
            ", ".join(filter(None, (model_words(row), wording.settings(row.factors, varying)))), []
        ).append(row)
    for title, group in groups.items():
        parts += [Text(title, style="bold")] if len(groups) > 1 else []
        parts += [_table(group), Text()]
    parts += [Text(sentence, style="bold") for sentence in wording.findings(rows)]
    parts += [Text(sentence) for sentence in wording.order_findings(patterns(trials, include_invalid))]
    parts += [Text(f"? {wording.hypothesis(verdict)}") for verdict in verdicts]
    parts += [Text(f"! {line}", style="yellow") for line in warning_lines(run, trials, rows, include_invalid)]
    return Group(*parts)


def print_summary(store: RunStore, console: Console | None = None, include_invalid: bool = False) -> None:
    """Print a run's summary on the terminal, invalid trials in its numbers only where that is asked for.

    Raises:
        StoreError: the run's files are damaged.
    """
    (console or Console(highlight=False)).print(
        summary_renderable(
            store.read_run(), store.read_trials(), read_verdicts(store, include_invalid), include_invalid
        )
    )


def _table(rows: Sequence[Aggregate]) -> Table:
    columns = [narrow for column in LABELS + SUMMARY if (narrow := _NARROW.get(column[0], column)) is not None]
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for heading, below, _ in columns:
        justify: Literal["left", "right"] = "left" if heading == "pressure" else "right"
        table.add_column(Text(f"{heading}\n{below}"), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(_two_lines(cell(row)) for _, _, cell in columns))
    return table


def _two_lines(cell: Cell) -> Text:
    text = Text(cell[0])
    if cell[1]:
        text.append(f"\n{cell[1]}", style="dim")
    return text


def _origins(row: Aggregate) -> Cell:
    from_swap = wording.median(row.swap_bytes_per_token)
    return wording.size(wording.median(row.model_bytes_per_token)), wording.size(from_swap)
