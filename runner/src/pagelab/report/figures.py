"""The figures of a run. Matplotlib is loaded when a figure is drawn, so that other commands start quickly."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pagelab.analysis.patterns import Pattern
from pagelab.analysis.resident import Resident, TensorRows, resident
from pagelab.analysis.summary import Aggregate, aggregate
from pagelab.report import wording
from pagelab.report.access_figures import draw_access
from pagelab.report.drawing import FORMATS, GREY, LINES, MARKERS, PALETTE, STYLE, byte_unit, legend, new_figure, render
from pagelab.store.record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Latencies = Mapping[int, Sequence[tuple[int, float]]]
"""For each trial's number: index of a token, and seconds since the token before it."""

_SPAN_FOR_LOGARITHM = 10
_PANELS_A_ROW = 3


def render_all(
    trials: Sequence[TrialRecord],
    latencies: Latencies,
    tensors: TensorRows | None = None,
    include_invalid: bool = False,
    patterns: Sequence[Pattern] = (),
) -> dict[str, dict[str, bytes]]:
    """Draw every figure of a run.

    Args:
        trials: the finished trials; invalid ones are drawn as hollow grey points and enter no median.
        latencies: what is known of single tokens; a trial may be missing.
        tensors: what was in RAM of each tensor; without any there is no such figure.
        include_invalid: invalid trials do enter the medians, which is then written across every figure.
        patterns: what was read in which order; without any there are no such figures.

    Returns:
        For each figure's name, the content of its file in each of `FORMATS`; the same for the same input.
    """
    import matplotlib as mpl

    rows = aggregate(trials, include_invalid)
    parts = [one for one in resident(trials, tensors or {}, include_invalid) if _layers_of(one)]
    banner = wording.invalid_included(trials, include_invalid)
    with mpl.rc_context(STYLE):
        figures = {
            "speed": _draw_speed(rows, trials, include_invalid),
            "latency": _draw_latency(rows, trials, latencies),
            "reads": _draw_reads(rows),
        }
        if parts:
            figures["residency"] = _draw_residency(parts)
        figures |= draw_access(patterns)
        for figure in figures.values():
            _stamp(figure, banner)
        return {name: {kind: render(figure, kind) for kind in FORMATS} for name, figure in figures.items()}


def _stamp(figure: "Figure", banner: str) -> None:
    """Write across a figure that it counts invalid trials, so that its file says so without the page."""
    if banner:
        text = banner.partition(":")[0]
        figure.text(
            0.5, 0.5, text, ha="center", va="center", rotation=18, color="#b91c1c", alpha=0.45, fontsize=17, wrap=True
        )


# --- tokens/s against the share of the weights in RAM -----------------------------------------------------------------


def _draw_speed(rows: Sequence[Aggregate], trials: Sequence[TrialRecord], include_invalid: bool) -> "Figure":
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    series = wording.series_of(rows)
    names = wording.series_names(series)
    for index, (group, name) in enumerate(zip(series, names, strict=True)):
        _draw_series(axes, group, name, PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
    invalid = [
        (trial.factors.resident * 100, trial.decode.tokens_per_second)
        for trial in trials
        if not trial.validity.valid and trial.decode.tokens_per_second is not None
    ]
    if invalid:
        shares, speeds = zip(*invalid, strict=True)
        label = "invalid, BUT IN THE MEDIAN" if include_invalid else "invalid, not in the median"
        axes.plot(shares, speeds, "X", color=GREY, markersize=7, fillstyle="none", label=label)
    rates = [value for row in rows if row.tokens_per_second for value in row.tokens_per_second.values]
    _scale(axes, rates + [rate for _, rate in invalid])
    axes.set_xlabel("share of the weights allowed in RAM (%)")
    axes.set_ylabel("decode speed (tokens/s)")
    axes.set_xticks(sorted({row.factors.resident * 100 for row in rows}))
    axes.set_xlim(-6, 108)
    legend(figure, [axes])
    return figure


def _draw_series(axes: "Axes", group: Sequence[Aggregate], name: str, colour: str, marker: str) -> None:
    measured = [(row.factors.resident * 100, row.tokens_per_second) for row in group if row.tokens_per_second]
    points = [(share + shift, value) for share, spread in measured for shift, value in _side_by_side(spread.values)]
    if not points:
        return
    medians = [(share, spread.median) for share, spread in measured]
    axes.plot(*zip(*medians, strict=True), "-", color=colour, linewidth=1.6, zorder=2)
    shares, speeds = zip(*points, strict=True)
    axes.plot(shares, speeds, marker, color=colour, label=name, markersize=6, markeredgecolor="white", zorder=3)
    for share, value in medians:
        text = wording.number(value)
        axes.annotate(text, (share, value), (11, -11), textcoords="offset points", color=colour, fontsize=9)


def _side_by_side(values: Sequence[float]) -> list[tuple[float, float]]:
    """Move the repetitions of one share apart, by a percent each, so that equal ones do not hide each other."""
    middle = (len(values) - 1) / 2
    return [(index - middle, value) for index, value in enumerate(values)]


# --- the time of each token -------------------------------------------------------------------------------------------


def _draw_latency(rows: Sequence[Aggregate], trials: Sequence[TrialRecord], latencies: Latencies) -> "Figure":
    shares = sorted({trial.factors.resident for trial in trials}, reverse=True)
    columns = min(_PANELS_A_ROW, len(shares))
    lines = math.ceil(len(shares) / columns)
    figure = new_figure(0.9 + 2.5 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    series = wording.series_of(rows)
    names = wording.series_names(series)
    colour_of = {
        wording.combination(row.factors): (PALETTE[index % len(PALETTE)], names[index])
        for index, group in reversed(list(enumerate(series)))
        for row in group
    }
    flat = [axes for line in panels for axes in line]
    for axes, share in zip(flat, shares, strict=False):
        here = [trial for trial in trials if trial.factors.resident == share]
        drawn = [
            _draw_trial(axes, trial, latencies.get(trial.trial, ()), *_style_of(trial, colour_of)) for trial in here
        ]
        axes.set_title(f"{wording.percent(share)} allowed in RAM")
        if not any(drawn):
            axes.text(0.5, 0.5, "no token times recorded", transform=axes.transAxes, ha="center", color=GREY)
    for axes in flat[len(shares) :]:
        axes.set_visible(False)
    values = [seconds * 1000 for line in latencies.values() for _, seconds in line]
    for line in panels:
        line[0].set_ylabel("time of the token (ms)")
        _scale(line[0], values)
    figure.supxlabel("token (0 is the first generated one)", fontsize=10)
    legend(figure, flat)
    return figure


def _style_of(trial: TrialRecord, colour_of: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if not trial.validity.valid:
        return GREY, "invalid trial"
    return colour_of[wording.combination(trial.factors)]


def _draw_trial(axes: "Axes", trial: TrialRecord, line: Sequence[tuple[int, float]], colour: str, name: str) -> bool:
    if line:
        dashes = "-" if trial.validity.valid else ":"
        values = [(token, seconds * 1000) for token, seconds in line]
        axes.plot(*zip(*values, strict=True), dashes, color=colour, linewidth=0.9, alpha=0.75, label=name)
    return bool(line)


# --- bytes read for each token ----------------------------------------------------------------------------------------

_ORIGINS: tuple[tuple[str, str, str, Callable[[Aggregate], float | None]], ...] = (
    ("from the model file", PALETTE[0], "", lambda row: wording.median(row.model_bytes_per_token)),
    ("from swap", PALETTE[1], "//", lambda row: wording.median(row.swap_bytes_per_token)),
    ("other reads of the disk", "#b8bec8", "..", lambda row: wording.median(row.other_bytes_per_token)),
)


_ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def _draw_reads(rows: Sequence[Aggregate]) -> "Figure":
    models = list(dict.fromkeys(row.factors.model for row in rows))
    bars = max(sum(row.factors.model == model for row in rows) for model in models)
    figure = new_figure(1.1 * len(models) + 0.5 * bars * len(models) + 0.5)
    panels = figure.subplots(len(models), 1, squeeze=False)
    for line, model in zip(panels, models, strict=True):
        _draw_model_reads(line[0], [row for row in rows if row.factors.model == model])
    legend(figure, [panels[0][0]], columns=4)
    return figure


def _draw_model_reads(axes: "Axes", rows: Sequence[Aggregate]) -> None:
    scale, unit = byte_unit([rows[0].weights_bytes, *(_read_in_all(row) for row in rows)])
    varying, _ = wording.split_settings([row.factors for row in rows])
    positions = range(len(rows))
    left = [0.0] * len(rows)
    for name, colour, hatch, value in _ORIGINS:
        widths = [(value(row) or 0.0) / scale for row in rows]
        axes.barh(positions, widths, 0.62, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.axvline(
        rows[0].weights_bytes / scale, color="black", linewidth=1.2, linestyle="--", label="size of the weights"
    )
    for position, row, end in zip(positions, rows, left, strict=True):
        axes.annotate(
            _total(row), (end, position), (4, 0), textcoords="offset points", va="center", fontsize=9, bbox=_ON_WHITE
        )
    labels = [wording.place(row.factors, varying) for row in rows]
    axes.set_yticks(positions, labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*left, rows[0].weights_bytes / scale) * 1.25)
    axes.set_xlabel(f"bytes read for each decoded token, medians ({unit})")
    axes.set_title(f"{rows[0].factors.model}, {wording.size(rows[0].weights_bytes)} of weights")
    axes.grid(visible=False, axis="y")


def _total(row: Aggregate) -> str:
    share = row.read_share_of_weights
    if share is None:
        return "not measured"
    return f"{wording.size(wording.median(row.read_bytes_per_token))} ({wording.number(share)}{wording.TIMES})"


def _read_in_all(row: Aggregate) -> float:
    return sum(value(row) or 0.0 for *_, value in _ORIGINS)


# --- which layers were in RAM -----------------------------------------------------------------------------------------


def _draw_residency(parts: Sequence[Resident]) -> "Figure":
    """A panel for each model, a line for each combination of factors."""
    models = list(dict.fromkeys(one.factors.model for one in parts))
    figure = new_figure(1.2 + 2.6 * len(models))
    panels = [line[0] for line in figure.subplots(len(models), 1, squeeze=False)]
    varying, _ = wording.split_settings([one.factors for one in parts])
    for axes, model in zip(panels, models, strict=True):
        for index, one in enumerate(one for one in parts if one.factors.model == model):
            colour = PALETTE[index % len(PALETTE)]
            marker, line = MARKERS[index % len(MARKERS)], LINES[index // len(PALETTE) % len(LINES)]
            points = zip(*_layers_of(one), strict=True)
            name = wording.place(one.factors, varying).replace("in RAM", "allowed")
            axes.plot(*points, marker + line, color=colour, linewidth=1.2, markersize=4, label=name)
        axes.set_title(model)
        axes.set_ylim(-4, 104)
        axes.set_ylabel("in RAM (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel("layer")
    legend(figure, panels, columns=3)
    return figure


def _layers_of(one: Resident) -> list[tuple[int, float]]:
    """Layer and percent of it in RAM while decoding, where that was seen."""
    medians = [(layer, wording.median(part.decode)) for layer, part in one.by_layer.items()]
    return [(layer, share * 100) for layer, share in medians if share is not None]


# --- axes -------------------------------------------------------------------------------------------------------------


def _scale(axes: "Axes", values: Sequence[float]) -> None:
    """A linear axis from 0, or a logarithmic one where the values span more than tenfold."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= _SPAN_FOR_LOGARITHM * min(positive):
        axes.set_ylim(0, max(positive, default=1.0) * 1.15)
        return
    axes.set_yscale("log")
    axes.set_ylim(min(positive) / 1.5, max(positive) * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
