"""The predictions for a run, as they are printed; a table fits into 80 columns."""

from collections.abc import Iterable, Sequence
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table

from pagelab.analysis.access.replacement import POLICIES
from pagelab.analysis.predict import Curve, Predicted
from pagelab.report.wording import number, percent
from pagelab.terminal.plain import plain

_HEADINGS = ("in RAM\nweights", "predicted\ntokens/s", "from\n", "to\n", "measured\ntokens/s", "off\n")


def prediction_renderable(curves: Iterable[Curve], errors: Sequence[float]) -> RenderableType:
    """A table for each model and its settings, and how far the predictions were off.

    Args:
        curves: the predictions.
        errors: relative errors against trials that did not enter the predictions; empty where there are none.
    """
    parts: list[RenderableType] = []
    for curve in curves:
        parts += [plain(f"{curve.factors.model}, by {curve.source}", style="bold"), _table(curve.points)]
    if errors:
        parts.append(
            plain(f"Against {len(errors)} measured: median error {median(errors):.1%}, the greatest {max(errors):.1%}.")
        )
    return Group(*parts)


def print_prediction(curves: Iterable[Curve], errors: Sequence[float], console: Console | None = None) -> None:
    """Print predictions on the terminal."""
    (console or Console(highlight=False)).print(prediction_renderable(curves, errors))


def _table(points: Sequence[Predicted]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for heading in (*_HEADINGS, *(f"bound\n{policy}" for policy in POLICIES)):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in points:
        measured = point.measured
        bounds = [point.bounds[policy].tokens_per_second for policy in POLICIES]
        table.add_row(
            percent(point.resident),
            number(point.tokens_per_second),
            number(point.low),
            number(point.high),
            "" if measured is None else number(measured),
            "" if measured is None else f"{point.tokens_per_second / measured - 1:+.0%}",
            *("" if bound is None else number(bound) for bound in bounds),
        )
    return table
