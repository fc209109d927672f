"""The figures of a run."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pagelab.analysis.resident import Resident
from pagelab.analysis.summary import Combination
from pagelab.report import wording
from pagelab.report.access_figures import draw_access
from pagelab.report.drawing import (
    GREY,
    MARKERS,
    PALETTE,
    PANELS_A_ROW,
    STYLE,
    byte_unit,
    draw_layers,
    legend,
    new_figure,
    panels,
    render,
)
from pagelab.report.run_data import RunData
from pagelab.store.record import TrialRecord

_SPAN_FOR_LOGARITHM = 10


def render_all(data: RunData) -> dict[str, dict[str, bytes]]:
    """Draw every figure of a run.

    Invalid trials are drawn as hollow grey points and enter no median; where they were asked for they do, which is then
    written across every figure. What was not recorded has no figure.

    Returns:
        For each figure's name, the content of its file in each format; the same for the same input.
    """
    layered = [one for one in data.resident if _layers_of(one)]
    banner = wording.invalid_included(data.trials, data.include_invalid)
    with mpl.rc_context(STYLE):
        figures = {
            "speed": _draw_speed(data),
            "latency": _draw_latency(data),
            "reads": _draw_reads(data.combinations),
        }
        if layered:
            figures["residency"] = _draw_residency(layered)
        figures |= draw_access(data.patterns)
        for figure in figures.values():
            _stamp(figure, banner)
        return {name: render(figure) for name, figure in figures.items()}


def _stamp(figure: Figure, banner: str) -> None:
    """Write across a figure that it counts invalid trials, so that its file says so without the page."""
    if banner:
        text = banner.partition(":")[0]
        figure.text(
            0.5, 0.5, text, ha="center", va="center", rotation=18, color="#b91c1c", alpha=0.45, fontsize=17, wrap=True
        )


# --- tokens/s against the share of the weights in RAM -----------------------------------------------------------------


def _draw_speed(data: RunData) -> Figure:
    rows = data.combinations
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    series = wording.series_of(rows)
    for index, (group, name) in enumerate(zip(series, wording.series_names(series), strict=True)):
        _draw_series(axes, group, name, PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
    invalid = [
        (trial.factors.resident * 100, trial.decode.tokens_per_second)
        for trial in data.trials
        if not trial.validity.valid and trial.decode.tokens_per_second is not None
    ]
    if invalid:
        shares, speeds = zip(*invalid, strict=True)
        label = "invalid, BUT IN THE MEDIAN" if data.include_invalid else "invalid, not in the median"
        axes.plot(shares, speeds, "X", color=GREY, markersize=7, fillstyle="none", label=label)
    rates = [value for row in rows if row.tokens_per_second for value in row.tokens_per_second.values]
    bounds = [rate for group in series for _, rate in _bounds(group)]
    _scale(axes, rates + bounds + [rate for _, rate in invalid])
    axes.set_xlabel("share of the weights allowed in RAM (%)")
    axes.set_ylabel("decode speed (tokens/s)")
    axes.set_xticks(sorted({row.factors.resident * 100 for row in rows}))
    axes.set_xlim(-6, 108)
    legend(figure, [axes])
    return figure


def _draw_series(axes: Axes, group: Sequence[Combination], name: str, colour: str, marker: str) -> None:
    measured = [(row.factors.resident * 100, row.tokens_per_second) for row in group if row.tokens_per_second]
    points = [(share + shift, value) for share, spread in measured for shift, value in _side_by_side(spread.values)]
    if not points:
        return
    medians = [(share, spread.median) for share, spread in measured]
    axes.plot(*zip(*medians, strict=True), "-", color=colour, linewidth=1.6, zorder=2)
    shares, speeds = zip(*points, strict=True)
    axes.plot(shares, speeds, marker, color=colour, label=name, markersize=6, markeredgecolor="white", zorder=3)
    if bounds := _bounds(group):
        axes.plot(*zip(*bounds, strict=True), ":", color=colour, linewidth=1.2, zorder=1, label=f"{name}: bound")
    for share, value in medians:
        text = wording.number(value)
        axes.annotate(text, (share, value), (11, -11), textcoords="offset points", color=colour, fontsize=9)


def _bounds(group: Sequence[Combination]) -> list[tuple[float, float]]:
    """Percent of the weights in RAM, and the speed that the best choice and the disk's highest rate would allow."""
    medians = [(row.factors.resident * 100, row.spread("bound.tokens_per_second")) for row in group]
    return [(share, spread.median) for share, spread in medians if spread is not None]


def _side_by_side(values: Sequence[float]) -> list[tuple[float, float]]:
    """Move the repetitions of one share apart, by a percent each, so that equal ones do not hide each other."""
    middle = (len(values) - 1) / 2
    return [(index - middle, value) for index, value in enumerate(values)]


# --- the time of each token -------------------------------------------------------------------------------------------


def _draw_latency(data: RunData) -> Figure:
    shares = sorted({trial.factors.resident for trial in data.trials}, reverse=True)
    figure = new_figure(0.9 + 2.5 * -(-len(shares) // PANELS_A_ROW))
    flat = panels(figure, len(shares), share=True)
    series = wording.series_of(data.combinations)
    styles = {
        trial.trial: (PALETTE[index % len(PALETTE)], name) if trial.validity.valid else (GREY, "invalid trial")
        for index, name in reversed(list(enumerate(wording.series_names(series))))
        for row in series[index]
        for trial in row.trials
    }
    latencies = {trial.trial: _latencies(data, trial) for trial in data.trials}
    for axes, share in zip(flat, shares, strict=True):
        here = [trial for trial in data.trials if trial.factors.resident == share and latencies[trial.trial]]
        for trial in here:
            dashes, (colour, name) = "-" if trial.validity.valid else ":", styles[trial.trial]
            points = zip(*latencies[trial.trial], strict=True)
            axes.plot(*points, dashes, color=colour, linewidth=0.9, alpha=0.75, label=name)
        axes.set_title(f"{wording.percent(share)} allowed in RAM")
        if not here:
            axes.text(0.5, 0.5, "no token times recorded", transform=axes.transAxes, ha="center", color=GREY)
    values = [value for points in latencies.values() for _, value in points]
    for axes in flat[::PANELS_A_ROW]:
        axes.set_ylabel("time of the token (ms)")
        _scale(axes, values)
    figure.supxlabel("token (0 is the first generated one)", fontsize=10)
    legend(figure, flat)
    return figure


def _latencies(data: RunData, trial: TrialRecord) -> list[tuple[int, float]]:
    """Index and milliseconds of each token of a trial that has a token before it; empty where none were recorded."""
    pairs = [(row["token_index"], row["latency_seconds"]) for row in data.rows_of(trial.trial, "tokens")]
    return [(index, seconds * 1000) for index, seconds in pairs if index is not None and seconds is not None]


# --- bytes read for each token ----------------------------------------------------------------------------------------

_ORIGINS = (
    ("from the model file", PALETTE[0], "", "reads.decode.model_bytes"),
    ("from swap", PALETTE[1], "//", "reads.decode.swap_bytes"),
    ("other reads of the disk", "#b8bec8", "..", "reads.decode.other_bytes"),
)
_ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def _draw_reads(rows: Sequence[Combination]) -> Figure:
    models = list(dict.fromkeys(row.factors.model for row in rows))
    bars = max(sum(row.factors.model == model for row in rows) for model in models)
    figure = new_figure(1.1 * len(models) + 0.5 * bars * len(models) + 0.5)
    flat = panels(figure, len(models), 1)
    for axes, model in zip(flat, models, strict=True):
        _draw_model_reads(axes, [row for row in rows if row.factors.model == model])
    legend(figure, flat[:1], columns=4)
    return figure


def _draw_model_reads(axes: Axes, rows: Sequence[Combination]) -> None:
    medians = [[wording.median(row.per_token(column)) or 0.0 for *_, column in _ORIGINS] for row in rows]
    scale, unit = byte_unit([rows[0].weights_bytes, *map(sum, medians)])
    positions = range(len(rows))
    left = [0.0] * len(rows)
    for index, (name, colour, hatch, _) in enumerate(_ORIGINS):
        widths = [row[index] / scale for row in medians]
        axes.barh(positions, widths, 0.62, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.axvline(
        rows[0].weights_bytes / scale, color="black", linewidth=1.2, linestyle="--", label="size of the weights"
    )
    for position, row, end in zip(positions, rows, left, strict=True):
        axes.annotate(
            _total(row), (end, position), (4, 0), textcoords="offset points", va="center", fontsize=9, bbox=_ON_WHITE
        )
    axes.set_yticks(positions, [wording.place(row, rows) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, max(*left, rows[0].weights_bytes / scale) * 1.25)
    axes.set_xlabel(f"bytes read for each decoded token, medians ({unit})")
    axes.set_title(f"{rows[0].factors.model}, {wording.size(rows[0].weights_bytes)} of weights")
    axes.grid(visible=False, axis="y")


def _total(row: Combination) -> str:
    share = row.read_share_of_weights
    if share is None:
        return "not measured"
    return f"{wording.size(wording.median(row.read_bytes_per_token))} ({wording.number(share)}{wording.TIMES})"


# --- which layers were in RAM -----------------------------------------------------------------------------------------


def _draw_residency(found: Sequence[Resident]) -> Figure:
    figure, flat = draw_layers(found, _layers_of)
    for axes in flat:
        axes.set_ylim(-4, 104)
        axes.set_ylabel("in RAM (%)")
        axes.locator_params(axis="x", integer=True)
    return figure


def _layers_of(one: Resident) -> Mapping[int, float]:
    """For each layer the percent of it in RAM while decoding, where that was seen."""
    medians = [(layer, wording.median(part.decode)) for layer, part in one.by_layer.items()]
    return {layer: share * 100 for layer, share in medians if share is not None}


# --- axes -------------------------------------------------------------------------------------------------------------


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """A linear axis from 0, or a logarithmic one where the values span more than tenfold."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= _SPAN_FOR_LOGARITHM * min(positive):
        axes.set_ylim(0, max(positive, default=1.0) * 1.15)
        return
    axes.set_yscale("log")
    axes.set_ylim(min(positive) / 1.5, max(positive) * 1.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
