"""A comparison of runs on the terminal: whether they are the same experiment, where the hosts differ, then numbers."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagelab.analysis.compare import Comparison, Difference
from pagelab.analysis.significance import SIGNIFICANCE, RateRatio
from pagelab.analysis.speed_ratios import Against, Compared
from pagelab.analysis.summary import Combination
from pagelab.report import tables, wording
from pagelab.report.wording import TIMES
from pagelab.terminal.plain import plain
from pagelab.units import format_bytes

_LONGEST = 60
_IDENTITY_WORDS = {
    "config_sha256": "configuration",
    "llama_cpp_commit": "llama.cpp commit",
    "llama_cpp_sha256": "llama.cpp binaries",
    "image_digest": "container image",
    "pagelab_version": "pagelab",
}
_FOOTNOTE = (
    "Ratio: tokens/s over the tokens/s of A, by geometric means, with its 95 % interval. "
    f"Significant: p < {SIGNIFICANCE:g} by Welch's test on logarithms, corrected for the number of rows (Holm). "
    "By ranks: how often the other run is the faster one, over all pairs of a repetition of each (half is no effect), "
    "and Mann and Whitney's test, corrected alike; it does not decide, since few repetitions cannot be significant by "
    "ranks. "
    "The tests cannot tell a setting from what else differs between two runs (the hour, the state of the host): "
    "only a factor within one run shows what a setting does."
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print a comparison; fits into 80 columns."""
    (console or Console(highlight=False)).print(comparison_renderable(comparison))


def comparison_renderable(comparison: Comparison) -> RenderableType:
    """Runs, identity, configuration and host first; then one line for each combination of factors and later run."""
    parts: list[RenderableType] = [
        plain(f"{letter}: {run.experiment} on {run.host}, {run.run_id}")
        for letter, run in zip(comparison.letters, comparison.runs, strict=True)
    ]
    parts += [Text(), _identity(comparison)]
    parts += _differences("Where the configurations differ:", comparison, comparison.configuration)
    parts += _differences("Where the hosts differ:", comparison, comparison.host)
    parts += [plain(line) for line in (_other_differences(comparison),) if line]
    parts.append(Text())
    parts += [plain(f"*** {line} ***", style="bold red") for line in _banners(comparison)]
    if comparison.rows:
        parts += [_table(comparison), Text()]
    parts += [plain(f"! {line}", style="yellow") for line in _warnings(comparison)]
    parts.append(plain(_FOOTNOTE, style="dim"))
    return Group(*parts)


# --- before any number ------------------------------------------------------------------------------------------------


def _identity(comparison: Comparison) -> RenderableType:
    if comparison.same_experiment:
        return plain("These runs are the same experiment: all that identifies it is equal.", style="bold green")
    title = plain("THESE RUNS ARE NOT THE SAME EXPERIMENT. They differ in", style="bold red")
    return Group(title, *_lines(comparison, comparison.identity))


def _differences(title: str, comparison: Comparison, found: Sequence[Difference]) -> list[RenderableType]:
    return [plain(title, style="bold"), *_lines(comparison, found)] if found else []


def _other_differences(comparison: Comparison) -> str:
    count = len(comparison.host_details)
    if count:
        also = "also differ" if comparison.host else "differ"
        details = "1 detail" if count == 1 else f"{count} details"
        return f"The hosts {also} in {details} of less weight, or not recorded of every host; --json lists all."
    return "" if comparison.host else "The hosts do not differ in what is recorded of them."


def _lines(comparison: Comparison, found: Iterable[Difference]) -> Iterator[Text]:
    for difference in found:
        values = "; ".join(
            f"{letter} {_value(difference.name, value)}"
            for letter, value in zip(comparison.letters, difference.values, strict=True)
        )
        yield plain(f"  {_name(difference.name)}: {values}")


def _name(name: str) -> str:
    model = name.removeprefix("model_sha256.")
    return f"model {model}" if model != name else _IDENTITY_WORDS.get(name, name)


def _value(name: str, value: Any) -> str:
    """A value of any shape in few words; of a hash the beginning is enough to see that it differs."""
    if value is None:
        return "absent"
    if isinstance(value, int | float) and not isinstance(value, bool) and "bytes" in name:
        return format_bytes(value) + ("/s" if "bytes_per_second" in name else "")
    text = value if isinstance(value, str) else json.dumps(value)
    if "sha256" in name or name == "image_digest":
        return text.removeprefix("sha256:")[:12]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


# --- the numbers ------------------------------------------------------------------------------------------------------


def _banners(comparison: Comparison) -> list[str]:
    return [
        f"{letter}: {banner}"
        for letter, trials in zip(comparison.letters, comparison.trials, strict=True)
        if (banner := wording.invalid_included(trials, comparison.include_invalid))
    ]


def _table(comparison: Comparison) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    several = len(comparison.runs) > 2
    table.add_column("combination\n")
    for heading in ("A\ntokens/s", "other\ntokens/s" if several else "B\ntokens/s", "ratio\n95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict\n", ratio=1)
    for row in comparison.rows:
        for index, against in enumerate(row.against_first, start=1):
            mark = f"{comparison.letters[index]}: " if several else ""
            table.add_row(
                plain(_place(row, comparison.rows) if index == 1 else ""),
                plain(_speed(row.runs[0]) if index == 1 else ""),
                plain(mark + _speed(row.runs[index])),
                plain(_interval(against.ratio)),
                plain(_verdict(against), style="bold" if against.verdict in ("slower", "faster") else ""),
            )
    return table


def _place(row: Compared, rows: Sequence[Compared]) -> str:
    model = f"{row.factors.model}, " if wording.several(rows, "model") else ""
    alone = wording.several(rows, "pressure") and wording.pressure(row.factors) == "none"
    return model + wording.place(row, rows) + (f", {row.factors.pressure}" if alone else "")


def _speed(run: Combination | None) -> str:
    """Median, and below it how many repetitions count of how many trials."""
    if run is None:
        return wording.ABSENT
    rates = run.tokens_per_second
    return f"{wording.number(wording.median(rates))}\n{rates.count if rates else 0} of {len(run.trials)}"


def _interval(ratio: RateRatio | None) -> str:
    if ratio is None:
        return wording.ABSENT
    interval = f"{wording.number(ratio.low)} to {wording.number(ratio.high)}"
    return f"{wording.number(ratio.value)}{TIMES}\n{interval}"


def _verdict(against: Against) -> str:
    """What was found, in words: how the time of a token changes, which grows where a rate falls."""
    ratio = against.ratio
    if ratio is None:
        return f"not judged: {against.reason}"
    p_value = f"p = {against.corrected_p_value:.2g}"
    ranks = ""
    if against.ranks is not None:
        share = wording.percent(against.ranks.faster_share)
        ranks = f"\nby ranks faster in {share}, p = {against.corrected_rank_p_value:.2g}"
    if against.verdict == "same":
        return f"no significant difference ({p_value}){ranks}"
    return f"significantly {against.verdict}: {_change(ratio)} ({p_value}){ranks}"


def _change(ratio: RateRatio) -> str:
    """How much longer or shorter a token takes, with the 95 % interval."""
    value, low, high = 1 / ratio.value, 1 / ratio.high, 1 / ratio.low
    if value >= 2 or value <= 0.5:
        ends = f"{wording.number(low)}{TIMES} to {wording.number(high)}{TIMES}"
        return f"a token takes {wording.number(value)}{TIMES} as long ({ends})"
    if value >= 1:
        return f"a token takes {_percent(value - 1)} % longer ({_percent(low - 1)} to {_percent(high - 1)} %)"
    return f"a token takes {_percent(1 - value)} % less time ({_percent(1 - high)} to {_percent(1 - low)} %)"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.3g}"


def _warnings(comparison: Comparison) -> Iterator[str]:
    """What each run's own table says before one may believe it."""
    for letter, damage in zip(comparison.letters, comparison.damage, strict=False):
        yield from (f"{letter}: {line}" for line in damage)
    for index, letter in enumerate(comparison.letters):
        rows = [found for row in comparison.rows if (found := row.runs[index]) is not None]
        run, trials = comparison.runs[index], comparison.trials[index]
        for line in tables.warning_lines(run, trials, rows, comparison.include_invalid):
            yield f"{letter}: {line}"
