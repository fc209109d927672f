"""What all figures share: colours, style, size, legend, and files without anything that changes."""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pagelab.errors import printable
from pagelab.report import wording
from pagelab.report.tables import AnyCombination

# Of each format, the facts that would make equal figures differ, which are left out.
_FORMATS: dict[str, dict[str, None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "png": {"Software": None},
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}
# Okabe and Ito: told apart with every common kind of colour blindness, and in print by marker and hatch.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvP*"
LINES = ("-", "--", ":", "-.")
GREY = "#6b7280"
WIDTH = 8.4
PANELS_A_ROW = 3
_LONGEST_IN_THREE_COLUMNS = 30
STYLE: Any = {  # matplotlib's type of it lists every setting there is
    "axes.edgecolor": "#9ca3af",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": "#1f2937",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "font.size": 10,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "pagelab",
    "text.color": "#1f2937",
    "text.parse_math": False,  # a dollar in a model's name is a dollar
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
}


def render(figure: Figure) -> dict[str, bytes]:
    """SVG, PNG and PDF of a figure, without the date and the program's name, which would make equal figures differ.

    Control characters of names are written out in it: SVG is XML, which cannot hold them. The layout is found once: it
    takes as long as drawing, and would be found twice for each file.
    """
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_text(printable(text.get_text(), lines=True))
    with warnings.catch_warnings(), mpl.rc_context({"figure.constrained_layout.use": False}):
        # Letters that the font lacks are boxes in PNG and PDF; the SVG has them as they are.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        return {kind: _file(figure, kind, left_out) for kind, left_out in _FORMATS.items()}


def _file(figure: Figure, kind: str, left_out: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=160, metadata=left_out)
    return stream.getvalue()


def new_figure(height: float) -> Figure:
    """A figure as wide as the page's text; inches."""
    return Figure(figsize=(WIDTH, height))


def byte_unit(values: Iterable[float]) -> tuple[float, str]:
    """The unit in which the highest of some numbers of bytes has one to three digits before the point, and its size."""
    highest = max(values)
    return next(
        ((scale, unit) for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if highest >= scale), (1.0, "B")
    )


def legend(figure: Figure, panels: Iterable[Axes], columns: int = 2) -> None:
    """One legend above the panels, each name once."""
    entries = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels]
    handles = {label: handle for panel in entries for handle, label in panel}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=columns, fontsize=9)


def panels(figure: Figure, count: int, columns: int = PANELS_A_ROW, share: bool = False) -> list[Axes]:
    """Panels from left to right and top to bottom; the last row may have empty places."""
    columns = min(columns, count)
    lines = figure.subplots(math.ceil(count / columns), columns, sharex=share, sharey=share, squeeze=False)
    flat = [axes for line in lines for axes in line]
    for axes in flat[count:]:
        axes.set_visible(False)
    return flat[:count]


def draw_layers(
    found: Sequence[AnyCombination], points: Callable[[AnyCombination], Mapping[int, float]]
) -> tuple[Figure, list[Axes]]:
    """A panel for each model, and in it a line over the layers for each combination of factors."""
    models = list(dict.fromkeys(one.factors.model for one in found))
    figure = new_figure(1.2 + 2.6 * len(models))
    flat = panels(figure, len(models), 1)
    for axes, model in zip(flat, models, strict=True):
        for index, one in enumerate(one for one in found if one.factors.model == model):
            style = MARKERS[index % len(MARKERS)] + LINES[index // len(PALETTE) % len(LINES)]
            name, colour = wording.place(one, found, "allowed"), PALETTE[index % len(PALETTE)]
            axes.plot(
                *zip(*points(one).items(), strict=True), style, color=colour, linewidth=1.2, markersize=4, label=name
            )
        axes.set_title(model)
    flat[-1].set_xlabel("layer")
    names = [label for axes in flat for label in axes.get_legend_handles_labels()[1]]
    legend(figure, flat, columns=3 if max(map(len, names)) <= _LONGEST_IN_THREE_COLUMNS else 2)
    return figure, flat
