"""How numbers and findings are put into words, the same on the terminal and on the page."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from pagelab.analysis.bootstrap import Interval
from pagelab.analysis.hypotheses import Uncertain, Verdict
from pagelab.analysis.patterns import Pattern
from pagelab.analysis.summary import BASELINE_RESIDENT, Combination, Ratio, Spread
from pagelab.config.factors import FACTORS, Factors, key_of
from pagelab.store.record import TrialRecord
from pagelab.units import format_bytes, format_seconds

# Named here once, since they look like ASCII characters in source code.
DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MICRO = "\N{MICRO SIGN}"
ABSENT = DASH

_SHARES = {0.75: "three quarters", 0.5: "half", 0.25: "a quarter", 0.0: "none"}
_COUNTED = {
    "block": "requests of the disk that lie in its files",
    "page_cache": "pages of its files that entered the page cache",
}
_ORDERED = {"issue": "issue", "completion": "completion", "page_cache": "their entering it"}


class HasFactors(Protocol):
    """A trial, or trials with the same factors."""

    @property
    def factors(self) -> Factors:
        """What is set."""


def number(value: float | None) -> str:
    """A plain number with three significant digits, with separated thousands from a hundred on."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def size(value: float | None) -> str:
    """A number of bytes with its unit."""
    return ABSENT if value is None else format_bytes(value)


def duration(value: float | None) -> str:
    """A number of seconds with its unit."""
    return ABSENT if value is None else format_seconds(value)


def short_time(value: float | None) -> str:
    """A number of seconds with its unit, down to microseconds."""
    if value is None or value >= 1:
        return duration(value)
    return f"{value * 1000:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} {MICRO}s"


def moment(text: str) -> str:
    """A point in time (ISO 8601) in UTC to the second, as `2026-11-23 10:15:00 UTC`."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def time_of_day(text: str) -> str:
    """The same without the date."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%H:%M:%S}"


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return ABSENT if value is None else f"{value * 100:.3g} %"


def count(value: int | None) -> str:
    """A whole number."""
    return ABSENT if value is None else f"{value:,}"


def yes_no(value: bool | None) -> str:
    """Whether something holds."""
    return ABSENT if value is None else "yes" if value else "no"


def median(spread: Spread | None) -> float | None:
    """The median of what may be absent."""
    return None if spread is None else spread.median


def extremes(spread: Spread | None) -> str:
    """Minimum to maximum; empty where there are not two values."""
    return f"{number(spread.minimum)}{DASH}{number(spread.maximum)}" if spread and spread.count > 1 else ""


def times(ratio: Ratio | None) -> str:
    """A ratio as `12.3x`, with the multiplication sign."""
    return ABSENT if ratio is None else f"{number(ratio.value)}{TIMES}"


def interval(ends: Interval | None) -> str:
    """The ends of an interval; empty where there is none."""
    return "" if ends is None else f"{number(ends[0])}{DASH}{number(ends[1])}"


def uncertain(found: Uncertain | None) -> str:
    """A value, with its 95 % interval where it has one of some width: `13.1 [12.2-14.2]`."""
    if found is None:
        return ABSENT
    has_width = found.interval is not None and found.interval[0] < found.interval[1]
    return number(found.value) + (f" [{interval(found.interval)}]" if has_width else "")


def limit_reached(row: Combination) -> str:
    """Whether the repetitions that say so reached their limit."""
    known = [trial.limit.effective for trial in row.counted if trial.limit.effective is not None]
    if not known:
        return ABSENT
    return "yes" if all(known) else f"{sum(known)} of {len(known)}" if any(known) else "no"


# --- factors ----------------------------------------------------------------------------------------------------------

_SETTINGS = tuple(name for name in FACTORS if name not in ("resident", "pressure"))


def pressure(factors: Factors) -> str:
    """The kind of pressure; a baseline has none."""
    return "none" if factors.resident == BASELINE_RESIDENT else factors.pressure


def varying_settings(among: Iterable[HasFactors]) -> list[str]:
    """The names of the settings, other than model, resident share and pressure, in which some differ."""
    rows = [one.factors for one in among]
    return [name for name in _SETTINGS if len({str(getattr(row, name)) for row in rows}) > 1]


def common_settings(among: Sequence[HasFactors]) -> str:
    """The settings that are the same in all, in words."""
    varying = varying_settings(among)
    same = [name for name in _SETTINGS if name not in varying]
    return settings(among[0].factors, (n for n in same if any(FACTORS[n].matters(one.factors) for one in among)))


def settings(factors: Factors, names: Iterable[str]) -> str:
    """Some factors in words: `weights anonymous, readahead 128 KiB`."""
    return ", ".join(FACTORS[name].words(name, getattr(factors, name)) for name in names)


def several(among: Iterable[HasFactors], name: str) -> bool:
    """Whether a factor has several values."""
    return len({getattr(one.factors, name) for one in among}) > 1


def place(one: HasFactors, among: Sequence[HasFactors], in_ram: str = "in RAM") -> str:
    """Where a combination stands among others of its model: share, pressure, and the settings in which some differ."""
    parts = [f"{percent(one.factors.resident)} {in_ram}"]
    parts += [] if one.factors.resident == BASELINE_RESIDENT else [one.factors.pressure]
    return _listed(*parts, settings(one.factors, varying_settings(among)))


def group(one: HasFactors, among: Sequence[HasFactors]) -> str:
    """What tells a series of resident shares from others: model, pressure and settings, where some differ."""
    return _listed(
        one.factors.model if several(among, "model") else "",
        one.factors.pressure if several(among, "pressure") else "",
        settings(one.factors, varying_settings(among)),
    )


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def series_of(rows: Sequence[Combination]) -> list[list[Combination]]:
    """Rows that differ in their resident share only, each list with that share descending.

    A baseline is under no pressure, so it also begins the series of another kind of pressure that has none of its own.
    Then it is no series of its own where it is alone.
    """
    groups: dict[tuple[str, ...], list[Combination]] = {}
    for row in rows:
        groups.setdefault(key_of(row.factors, "resident"), []).append(row)
    baselines = {key_of(row.factors, "resident", "pressure"): row for row in rows if row.is_baseline}
    series = []
    for found in groups.values():
        shared = baselines.get(key_of(found[0].factors, "resident", "pressure"))
        series.append(found if shared is None or found[0].is_baseline else [shared, *found])
    begun = [id(found[0]) for found in series if len(found) > 1]
    return [found for found in series if len(found) > 1 or id(found[0]) not in begun]


def series_names(series: Sequence[Sequence[Combination]]) -> list[str]:
    """A name for each series: its model and pressure, and the settings in which the series differ."""
    last = [found[-1] for found in series]
    varying = varying_settings(last)
    return [_listed(one.factors.model, pressure(one.factors), settings(one.factors, varying)) for one in last]


# --- sentences --------------------------------------------------------------------------------------------------------


def invalid_included(trials: Sequence[TrialRecord], include_invalid: bool) -> str:
    """The warning, in capitals, that invalid trials are included; empty where they are not."""
    if not include_invalid:
        return ""
    invalid = [f"{trial.trial:03d}" for trial in trials if not trial.validity.valid]
    if not invalid:
        return "INVALID TRIALS WERE ASKED FOR, BUT EVERY TRIAL IS VALID"
    noun = "TRIAL" if len(invalid) == 1 else "TRIALS"
    verb = "IS" if len(invalid) == 1 else "ARE"
    return f"INVALID {noun} {', '.join(invalid)} {verb} INCLUDED IN EVERY NUMBER HERE: DO NOT PUBLISH THESE"


def findings(rows: Sequence[Combination]) -> list[str]:
    """The answer of a run, one sentence for each series of resident shares, from its combinations alone."""
    sentences = []
    for series in series_of(rows):
        limited = [row for row in series if not row.is_baseline and row.tokens_per_second]
        if limited:
            lead = group(limited[0], rows)
            sentences.append(_sentence(f"{lead}: " if lead else "", limited[0], limited[-1]))
    return sentences or ["No valid trial with less than the whole model in RAM, so there is no slowdown to report."]


def order_findings(found: Sequence[Pattern]) -> list[str]:
    """In which order decoding read the model, one sentence for each series of resident shares, without baselines."""
    series: dict[str, list[str]] = {}
    for one in found:
        order, notes = one.spread("access.sequential_fraction"), one.spread("access.sequential_fraction_notes")
        if order is not None and not one.is_baseline:
            text = f"{percent(order.median)} with {percent(one.factors.resident)} of the weights allowed in RAM"
            text += f" ({percent(notes.median)} by the notes' rule)" if notes is not None else ""
            series.setdefault(group(one, found), []).append(text)
    lead = "bytes read in order: "
    return [f"{f'{name}, {lead}' if name else lead.capitalize()}{'; '.join(texts)}." for name, texts in series.items()]


def counted_from(found: Sequence[Pattern]) -> str:
    """What the model's reads were counted from and ordered by, in one sentence; empty without any."""
    access = [trial.access for one in found for trial in one.counted]
    sources = [text for name, text in _COUNTED.items() if any(name == one.model_bytes_source for one in access)]
    orders = [text for name, text in _ORDERED.items() if any(name == one.order for one in access)]
    if not sources:
        return ""
    return f"The model's reads are {' or '.join(sources)}, in order of {' or '.join(orders)}."


def hypothesis(verdict: Verdict) -> str:
    """A hypothesis and what became of it, in one sentence."""
    found = f"{uncertain(verdict.left)} against {uncertain(verdict.right)}{contrast(verdict, ', ')}"
    found += f", from {trials_that_entered(verdict)}"
    more = f"; what would decide: {verdict.more}" if verdict.more else ""
    return f"{verdict.outcome}: “{verdict.claim}” ({found}){more}. {verdict.expect}"


def contrast(verdict: Verdict, lead: str = "") -> str:
    """What the two sides of a hypothesis are to each other; empty where one is a number, or unknown."""
    if verdict.ratio is not None:
        return f"{lead}ratio {uncertain(verdict.ratio)}"
    return "" if verdict.difference is None else f"{lead}difference {uncertain(verdict.difference)}"


def trials_that_entered(verdict: Verdict) -> str:
    """How many trials a verdict is from, and how many were left out."""
    text = f"{verdict.trials} trial{'' if verdict.trials == 1 else 's'}"
    return f"{text}, {verdict.left_out} invalid left out" if verdict.left_out else text


def _sentence(lead: str, first: Combination, last: Combination) -> str:
    text = f"With {_share(first)} of the weights allowed in RAM{_lack(first)} decoding {_predicate(first)}"
    if last is not first:
        text += f"; with {_share(last)} of them it {_predicate(last)}"
    if last.read_bytes_per_token is not None:
        text += (
            f". For each token it then read {size(last.read_bytes_per_token.median)}, "
            f"{number(last.read_share_of_weights)} times the size of the weights{_origin(last)}"
        )
    return f"{lead}{text}."


def _lack(row: Combination) -> str:
    """How much more RAM would hold all of the weights, where it is the smaller part of them."""
    share = row.factors.resident
    return f" (you lack {size((1 - share) * row.weights_bytes)})" if 0.5 < share < 1 else ""


def _predicate(row: Combination) -> str:
    rate = f"{number(median(row.tokens_per_second))} tokens/s"
    ratio = row.slowdown
    if ratio is None:
        return f"ran at {rate}, and no valid baseline says how much slower that is"
    if ratio.interval is not None and ratio.interval[0] <= 1 <= ratio.interval[1]:
        slowdown = f"slowdown {number(ratio.value)}, {interval(ratio.interval)}"
        return f"was as fast as in RAM within the spread ({slowdown}; {rate})"
    word, shown = ("slower", ratio) if ratio.value > 1 else ("faster", ratio.inverse)
    ends = f"{interval(shown.interval)}; " if shown.interval else ""
    return f"was {times(shown)} {word} ({ends}{rate})"


def _share(row: Combination) -> str:
    return _SHARES.get(row.factors.resident, percent(row.factors.resident))


def _origin(row: Combination) -> str:
    total, from_file = median(row.read_bytes_per_token), median(row.per_token("reads.decode.model_bytes"))
    if not total or from_file is None:
        return ""
    return f", {percent(min(1.0, from_file / total))} of it from the model file"
