"""The summary of a run, as it is printed; it fits into 80 columns."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagelab.analysis.summary import Combination
from pagelab.report import wording
from pagelab.report.run_data import RunData
from pagelab.report.tables import LABELS, SUMMARY, Cell, common_settings, model_words, warning_lines
from pagelab.terminal.plain import plain

_FROM_FILE, _FROM_SWAP = "from file", "from swap"  # one column here


def summary_renderable(data: RunData) -> RenderableType:
    """The table, the findings, the hypotheses and the warnings of a run, for a rich console; fits into 80 columns."""
    run, rows = data.run, data.combinations
    parts: list[RenderableType] = [plain(f"{run.experiment} on {run.host}: {common_settings(rows)}"), Text()]
    banner = wording.invalid_included(data.trials, data.include_invalid)
    parts += [plain(f"*** {banner} ***", style="bold red"), Text()] if banner else []
    varying = wording.varying_settings(rows)
    groups: dict[str, list[Combination]] = {}
    for row in rows:
        title = ", ".join(filter(None, (model_words(row), wording.settings(row.factors, varying))))
        groups.setdefault(title, []).append(row)
    for title, group in groups.items():
        parts += [plain(title, style="bold")] if len(groups) > 1 else []
        parts += [_table(group), Text()]
    parts += [plain(sentence, style="bold") for sentence in wording.findings(rows)]
    parts += [plain(sentence) for sentence in wording.order_findings(data.patterns)]
    parts += [plain(f"? {wording.hypothesis(verdict)}") for verdict in data.verdicts]
    warnings = [*data.damage, *warning_lines(run, data.trials, rows, data.include_invalid)]
    parts += [plain(f"! {line}", style="yellow") for line in warnings]
    return Group(*parts)


def print_summary(data: RunData, console: Console | None = None) -> None:
    """Print a run's summary on the terminal."""
    (console or Console(highlight=False)).print(summary_renderable(data))


def _table(rows: Sequence[Combination]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    columns = {heading: (below, cell) for heading, below, cell in LABELS + SUMMARY}
    _, from_swap = columns.pop(_FROM_SWAP)
    for heading, (below, _) in columns.items():
        justify: Literal["left", "right"] = "left" if heading == "pressure" else "right"
        second = _FROM_SWAP if heading == _FROM_FILE else below
        table.add_column(plain(f"{heading}\n{second}"), justify=justify, no_wrap=True)
    for row in rows:
        cells = {heading: cell(row) for heading, (_, cell) in columns.items()}
        cells[_FROM_FILE] = cells[_FROM_FILE][0], from_swap(row)[0]
        table.add_row(*map(_two_lines, cells.values()))
    return table


def _two_lines(cell: Cell) -> Text:
    text = plain(cell[0])
    if cell[1]:
        text.append(f"\n{cell[1]}", style="dim")
    return text
