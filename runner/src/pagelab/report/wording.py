"""How numbers and findings are put into words, the same on the terminal and on the page."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pagelab.analysis.hypotheses import Verdict
from pagelab.analysis.patterns import Pattern
from pagelab.analysis.summary import BASELINE_RESIDENT, Aggregate, Ratio, Spread
from pagelab.config.factors import Factors
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
_SETTINGS = ("weights", "readahead_kib", "swappiness", "huge_pages", "strategy")


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


def trials(value: int) -> str:
    """A number of trials."""
    return f"{value} trial" if value == 1 else f"{value} trials"


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


def ratio_extremes(ratio: Ratio | None) -> str:
    """The least to the greatest ratio over pairs of repetitions; empty where there is no ratio."""
    return "" if ratio is None else _range(ratio)


def _range(ratio: Ratio) -> str:
    return f"{number(ratio.low)}{DASH}{number(ratio.high)}"


def limit_felt(row: Aggregate) -> str:
    """Whether the pressure was felt by the repetitions that say so."""
    if not row.limit_effective:
        return ABSENT
    felt, known = sum(row.limit_effective), len(row.limit_effective)
    return "yes" if felt == known else "no" if felt == 0 else f"{felt} of {known}"


def pressure(factors: Factors) -> str:
    """The kind of pressure; a baseline has none."""
    return "none" if factors.resident == BASELINE_RESIDENT else factors.pressure


def place(factors: Factors, names: Sequence[str]) -> str:
    """Where a combination stands in its experiment: share, pressure, and the settings that are named."""
    parts = [f"{percent(factors.resident)} in RAM"]
    parts += [] if factors.resident == BASELINE_RESIDENT else [factors.pressure]
    parts += [settings(factors, names)] if names else []
    return ", ".join(parts)


def settings(factors: Factors, names: Iterable[str]) -> str:
    """Some factors in words: `weights anonymous, readahead 128 KiB`."""
    return ", ".join(_setting(name, getattr(factors, name)) for name in names)


def _setting(name: str, value: object) -> str:
    if name == "readahead_kib":
        return f"readahead {value}" if value == "default" else f"readahead {value} KiB"
    return f"{name.replace('_', ' ')} {value}"


def split_settings(rows: Sequence[Factors]) -> tuple[list[str], list[str]]:
    """The names of the settings, other than model, resident share and pressure, that vary, and of those that do not."""
    varying = [name for name in _SETTINGS if len({str(getattr(row, name)) for row in rows}) > 1]
    return varying, [name for name in _SETTINGS if name not in varying]


def series_of(rows: Sequence[Aggregate]) -> list[list[Aggregate]]:
    """Rows that differ in their resident share only, each list with that share descending.

    A baseline is under no pressure, so it also begins the series of another kind of pressure that has none of its own.
    """
    groups: dict[str, list[Aggregate]] = {}
    for row in rows:
        groups.setdefault(_without(row.factors, "resident"), []).append(row)
    baselines = {_without(row.factors, "resident", "pressure"): row for row in rows if row.is_baseline}
    series = []
    for group in groups.values():
        shared = baselines.get(_without(group[0].factors, "resident", "pressure"))
        lacks = shared is not None and not group[0].is_baseline
        series.append([shared, *group] if shared is not None and lacks else group)
    return [group for group in series if len(group) > 1] or series


def series_names(series: Sequence[Sequence[Aggregate]]) -> list[str]:
    """A name for each series: its model and pressure, and the settings in which the series differ."""
    last = [group[-1].factors for group in series]
    varying, _ = split_settings(last)
    names = []
    for factors in last:
        parts = [factors.model, pressure(factors)] + ([settings(factors, varying)] if varying else [])
        names.append(", ".join(parts))
    return names


def combination(factors: Factors) -> str:
    """A key that is equal for equal factors."""
    return _without(factors)


def _without(factors: Factors, *names: str) -> str:
    return factors.model_dump_json(exclude=set(names))


def invalid_included(trials: Sequence[TrialRecord], include_invalid: bool) -> str:
    """What has to be said, in big words, where invalid trials were asked for; empty where they were not."""
    if not include_invalid:
        return ""
    invalid = [f"{trial.trial:03d}" for trial in trials if not trial.validity.valid]
    if not invalid:
        return "INVALID TRIALS WERE ASKED FOR, BUT EVERY TRIAL IS VALID"
    noun = "TRIAL" if len(invalid) == 1 else "TRIALS"
    verb = "IS" if len(invalid) == 1 else "ARE"
    return f"INVALID {noun} {', '.join(invalid)} {verb} INCLUDED IN EVERY NUMBER HERE: DO NOT PUBLISH THESE"


def findings(rows: Sequence[Aggregate]) -> list[str]:
    """The answer of a run, one sentence for each series of resident shares, from its aggregates alone."""
    several = len({row.factors.model for row in rows}) > 1
    varying, _ = split_settings([row.factors for row in rows])
    sentences = []
    for series in series_of(rows):
        limited = [row for row in series if not row.is_baseline and row.tokens_per_second]
        if limited:
            first = limited[0].factors
            place = [first.model] if several else []
            place += [first.pressure] if len({row.factors.pressure for row in rows}) > 1 else []
            place += [settings(first, varying)] if varying else []
            lead = f"{', '.join(place)}: " if place else ""
            shown = limited if len(limited) <= 2 else [limited[0], limited[-1]]
            sentences.append(_sentence(lead, shown))
    return sentences or ["No valid trial with less than the whole model in RAM, so there is no slowdown to report."]


def order_findings(found: Sequence[Pattern]) -> list[str]:
    """In which order decoding read the model, one sentence for each series of resident shares, without baselines."""
    several = len({one.factors.model for one in found}) > 1
    pressures = len({one.factors.pressure for one in found}) > 1
    varying, _ = split_settings([one.factors for one in found])
    series: dict[str, list[str]] = {}
    for one in found:
        factors, order = one.factors, one.spreads.get("sequential_fraction")
        if order is not None and factors.resident != BASELINE_RESIDENT:
            names = [factors.model] if several else []
            names += [factors.pressure] if pressures else []
            names += [settings(factors, varying)] if varying else []
            text = f"{percent(order.median)} with {percent(factors.resident)} of the weights allowed in RAM"
            notes = one.spreads.get("sequential_fraction_notes")
            text += f" ({percent(notes.median)} by the notes' rule)" if notes is not None else ""
            series.setdefault(", ".join(names), []).append(text)
    lead = "bytes read in order: "
    return [f"{f'{name}, {lead}' if name else lead.capitalize()}{'; '.join(texts)}." for name, texts in series.items()]


def counted_from(found: Sequence[Pattern]) -> str:
    """What the model's reads were counted from and ordered by, in one sentence; empty without any."""
    sources = [_COUNTED[one] for one in _COUNTED if any(one in other.sources for other in found)]
    orders = [_ORDERED[one] for one in _ORDERED if any(one in other.orders for other in found)]
    if not sources:
        return ""
    return f"The model's reads are {' or '.join(sources)}, in order of {' or '.join(orders)}."


def hypothesis(verdict: Verdict) -> str:
    """A hypothesis and what became of it, in one sentence."""
    word = {True: "holds", False: "does not hold", None: "cannot be judged, a value is missing"}[verdict.holds]
    found = f"{number(verdict.left)} against {number(verdict.right)}, from {trials(verdict.trials)}"
    found += f", {verdict.left_out} invalid left out" if verdict.left_out else ""
    return f"“{verdict.claim}” {word} ({found}): {verdict.expect}"


def _sentence(lead: str, rows: Sequence[Aggregate]) -> str:
    first, last = rows[0], rows[-1]
    text = f"With {_share(first)} of the weights allowed in RAM decoding {_predicate(first)}"
    if last is not first:
        text += f"; with {_share(last)} of them it {_predicate(last)}"
    share = last.read_share_of_weights
    if share is not None:
        text += (
            f". For each token it then read {size(median(last.read_bytes_per_token))}, "
            f"{number(share)} times the size of the weights{_origin(last)}"
        )
    return f"{lead}{text}."


def _predicate(row: Aggregate) -> str:
    rate = f"{number(median(row.tokens_per_second))} tokens/s"
    ratio = row.slowdown
    if ratio is None:
        return f"ran at {rate}, and no valid baseline says how much slower that is"
    if ratio.low <= 1 <= ratio.high:
        return f"was as fast as in RAM within the spread (slowdown {number(ratio.value)}, {_range(ratio)}; {rate})"
    if ratio.value < 1:
        inverse = Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
        return f"was {times(inverse)} faster ({_range(inverse)}; {rate})"
    return f"was {times(ratio)} slower ({_range(ratio)}; {rate})"


def _share(row: Aggregate) -> str:
    return _SHARES.get(row.factors.resident, percent(row.factors.resident))


def _origin(row: Aggregate) -> str:
    total, from_file = median(row.read_bytes_per_token), median(row.model_bytes_per_token)
    if not total or from_file is None:
        return ""
    return f", {percent(min(1.0, from_file / total))} of it from the model file"
