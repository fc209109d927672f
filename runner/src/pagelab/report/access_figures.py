"""The figures of what was read: where in the file and when, of which layers and experts, and what a cache would save.

Areas are drawn as one path for each colour, so that a figure of thousands of cells stays small.
"""

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from pagelab.analysis.patterns import Pattern, TableRow
from pagelab.report import wording
from pagelab.report.drawing import (
    GREY,
    LINES,
    PALETTE,
    PANELS_A_ROW,
    byte_unit,
    draw_layers,
    legend,
    new_figure,
    panels,
)

Rectangle = tuple[float, float, float, float]
"""Left, bottom, width, height."""

MOST_PANELS = 12
_CLASSES = ("attention", "feed_forward", "experts", "output", "embedding", "shared_experts")
_CLASS_COLOURS = dict(zip(_CLASSES, PALETTE, strict=False))
_OTHER_CLASS = "other kinds"
# Light to dark, and in print by lightness: shares of the tokens up to each bound.
_LEVELS = (
    (0.0, "#f3f4f6", "for no token"),
    (0.05, "#cfe3f0", "up to 5 %"),
    (0.25, "#8fbfdd", "up to 25 %"),
    (0.5, "#3f8fc0", "up to 50 %"),
    (1.0, "#0b4f80", "up to all"),
)


def draw_access(found: Sequence[Pattern]) -> dict[str, Figure]:
    """Every figure for which there is anything to draw, by its name; the style has to be set.

    A baseline, which reads next to nothing, is drawn only where there is nothing else.
    """
    found = [one for one in found if not one.is_baseline] or found
    reading = [one for one in found if any(part.read_bytes_per_token for part in one.by_class.values())]
    figures = {
        "access_map": (_draw_map, [one for one in found if one.table("access_map")]),
        "access_layers": (_draw_layers, [one for one in reading if one.by_layer]),
        "access_experts": (_draw_experts, [one for one in reading if one.expert_use]),
        "reuse": (_draw_reuse, [one for one in found if one.table("reuse")]),
    }
    return {name: draw(shown, found) for name, (draw, shown) in figures.items() if shown}


def _title(one: Pattern, among: Sequence[Pattern]) -> str:
    """What tells a combination from the others in two lines, for a narrow panel."""
    parts = [f"{wording.percent(one.factors.resident)} allowed"]
    parts += [one.factors.pressure] if wording.several(among, "pressure") else []
    settings = wording.settings(one.factors, wording.varying_settings(among))
    return f"{one.factors.model}\n{', '.join(filter(None, [*parts, settings]))}"


def _colour_legend(figure: Figure, entries: Iterable[tuple[str, str]]) -> None:
    """A legend of areas: name and colour of each."""
    handles = [Patch(facecolor=colour, label=name) for name, colour in entries]
    figure.legend(handles=handles, loc="outside upper left", ncols=5, fontsize=9)


def _areas(axes: Axes, rectangles: Iterable[Rectangle], colour: str) -> None:
    """Rectangles of one colour, as a single path."""
    points: list[tuple[float, float]] = []
    for left, bottom, width, height in rectangles:
        right, top = left + width, bottom + height
        points += [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(points) // 5)
    if points:
        path = Path(points, codes)
        path.should_simplify = False
        axes.add_patch(PathPatch(path, facecolor=colour, edgecolor="none", linewidth=0))


# --- where in the file, and when --------------------------------------------------------------------------------------


def _draw_map(shown: Sequence[Pattern], found: Sequence[Pattern]) -> Figure:
    shown = shown[:MOST_PANELS]
    figure = new_figure(0.8 + 2.5 * math.ceil(len(shown) / PANELS_A_ROW))
    flat = panels(figure, len(shown))
    drawn: set[str] = set()
    for axes, one in zip(flat, shown, strict=True):
        drawn |= _draw_one_map(axes, one)
        axes.set_title(_title(one, found), fontsize=8)
    for axes in flat[::PANELS_A_ROW]:
        axes.set_ylabel("place in the file")
    figure.supxlabel("seconds since the first token", fontsize=10)
    known = [name for name in (*_CLASS_COLOURS, _OTHER_CLASS) if name in drawn]
    _colour_legend(figure, [(name.replace("_", " "), _CLASS_COLOURS.get(name, GREY)) for name in known])
    return figure


def _draw_one_map(axes: Axes, one: Pattern) -> set[str]:
    """Draw one combination, and say which kinds of tensors were drawn."""
    rows = one.table("access_map")
    first = min(row["begin_seconds"] for row in rows)
    end = max(one.weights_bytes, *(row["offset_bytes"] + row["bytes"] for row in rows))
    scale, unit = byte_unit([end])
    columns = _columns_of(rows, first, scale)
    for name, areas in columns.items():
        _areas(axes, areas, _CLASS_COLOURS.get(name, GREY))
    axes.set_xlim(0, max(row["begin_seconds"] + row["seconds"] for row in rows) - first)
    axes.set_ylim(0, end / scale)
    axes.yaxis.set_major_formatter(f"{{x:g}} {unit}")
    axes.grid(visible=False)
    return set(columns)


def _columns_of(rows: Sequence[TableRow], first: float, scale: float) -> dict[str, list[Rectangle]]:
    """Cells of each kind of tensor; cells above each other at one moment become one rectangle."""
    areas: dict[str, list[Rectangle]] = {}
    for row in rows:
        name = row["tensor_class"] if row["tensor_class"] in _CLASS_COLOURS else _OTHER_CLASS
        left, bottom = row["begin_seconds"] - first, row["offset_bytes"] / scale
        width, height = row["seconds"], row["bytes"] / scale
        drawn = areas.setdefault(name, [])
        if drawn and drawn[-1][0] == left and math.isclose(drawn[-1][1] + drawn[-1][3], bottom, rel_tol=1e-9):
            below = drawn.pop()
            bottom, height = below[1], below[3] + height
        drawn.append((left, bottom, width, height))
    return dict(sorted(areas.items()))


# --- of which layers and experts --------------------------------------------------------------------------------------


def _draw_layers(shown: Sequence[Pattern], _found: Sequence[Pattern]) -> Figure:
    figure, flat = draw_layers(shown, lambda one: {layer: part.share for layer, part in one.by_layer.items()})
    for axes in flat:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"read/token ({wording.TIMES} the layer)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw_experts(shown: Sequence[Pattern], found: Sequence[Pattern]) -> Figure:
    shown = shown[:MOST_PANELS]
    figure = new_figure(0.9 + 2.4 * math.ceil(len(shown) / PANELS_A_ROW))
    for axes, one in zip(panels(figure, len(shown)), shown, strict=True):
        use = one.expert_use
        for level, areas in _levels_of(use).items():
            _areas(axes, areas, _LEVELS[level][1])
        axes.set_xlim(0, max(len(shares) for shares in use.values()))
        axes.set_ylim(max(use) + 0.5, min(use) - 0.5)
        axes.set_title(_title(one, found), fontsize=8)
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("experts of the layer, the most read one first", fontsize=10)
    figure.supylabel("layer", fontsize=10)
    _colour_legend(figure, [(name, colour) for _, colour, name in _LEVELS])
    return figure


def _levels_of(use: dict[int, list[float]]) -> dict[int, list[Rectangle]]:
    """Experts of one layer that fall into one level, side by side as one rectangle."""
    areas: dict[int, list[Rectangle]] = {}
    for layer, shares in use.items():
        levels = [
            next(level for level, (bound, *_) in enumerate(_LEVELS) if share <= bound or bound == 1.0)
            for share in shares
        ]
        for level in dict.fromkeys(levels):
            areas.setdefault(level, []).append((levels.index(level), layer - 0.5, levels.count(level), 1.0))
    return dict(sorted(areas.items()))


# --- what a cache would save ------------------------------------------------------------------------------------------


def _draw_reuse(shown: Sequence[Pattern], _found: Sequence[Pattern]) -> Figure:
    """Shares of accesses that miss, by the size of the cache in times the weights."""
    figure = new_figure(4.0)
    axes = figure.add_subplot()
    reach = 1.05 * max(1.0, *(one.table("reuse")[-1]["cache_bytes"] / one.weights_bytes for one in shown))
    for index, one in enumerate(shown):
        sizes = [row["cache_bytes"] / one.weights_bytes for row in one.table("reuse")]
        misses = [row["miss_ratio"] * 100 for row in one.table("reuse")]
        colour, line = PALETTE[index % len(PALETTE)], LINES[index // len(PALETTE) % len(LINES)]
        model = f"{one.factors.model}, " if wording.several(shown, "model") else ""
        name = model + wording.place(one, shown, "allowed")
        axes.step([*sizes, reach], [*misses, misses[-1]], line, where="post", color=colour, label=name)
    axes.set_ylim(0, 104)
    axes.set_xlim(0, reach)
    axes.set_xlabel(f"size of the cache ({wording.TIMES} the weights)")
    axes.set_ylabel("accesses that miss (%)")
    legend(figure, [axes])
    return figure
