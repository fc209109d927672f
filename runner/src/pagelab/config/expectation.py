"""The small language in which a configuration states what an experiment should show.

    expectation = aggregate operator ( number | [ number * ] aggregate )
    aggregate   = ( median | mean | min | max ) ( column [ | factor=value, … ] )

for example `median(access.sequential_fraction | resident=0.0, model=dense-2g) >= 0.8`, or
`median(decode.tokens_per_second | resident=1.0) >= 10 * median(decode.tokens_per_second | resident=0.0)`. A column is a
dotted name of trial.json; a trial counts if it is valid and all its named factors have the given values.
"""

import re
from dataclasses import dataclass
from math import isfinite

from pagelab.config.factors import Factors, as_text, unknown_factor
from pagelab.errors import quoted

_AGGREGATE = r"(median|mean|min|max)\(\s*([a-z0-9_.]+)\s*(?:\|([^()]*))?\)"
_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_PATTERN = re.compile(rf"\s*{_AGGREGATE}\s*(>=|<=|>|<)\s*(?:({_NUMBER})|(?:({_NUMBER})\s*\*\s*)?{_AGGREGATE})\s*")


@dataclass(frozen=True)
class Aggregate:
    """One aggregate over the trials whose factors have the given values."""

    function: str
    column: str
    where: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Expectation:
    """`left operator factor * right`; without `right`, `left operator factor`."""

    left: Aggregate
    operator: str
    factor: float
    right: Aggregate | None


def parse_expectation(text: str) -> Expectation:
    """Read an expectation.

    Raises:
        ValueError: it is not in the language, or names an unknown factor.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{quoted(text)} is not an expectation; write for example median(rereads.factor | resident=0.0) >= 1"
        )
    left, operator, number, times, right = match.group(1, 2, 3), match[4], match[5], match[6], match.group(7, 8, 9)
    factor = float(number or times or 1)
    if not isfinite(factor):
        raise ValueError(f"{quoted(number or times)} is too large a number")
    return Expectation(
        left=_aggregate(*left),
        operator=operator,
        factor=factor,
        right=_aggregate(*right) if right[0] else None,
    )


def _aggregate(function: str, column: str, conditions: str | None) -> Aggregate:
    pairs = [condition.partition("=") for condition in (conditions or "").split(",") if condition.strip()]
    where = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    for name, value in where:
        if name not in Factors.model_fields or not value:
            raise ValueError(unknown_factor(name))
    return Aggregate(function, column, where)


def has_value(factors: Factors, name: str, wanted: str) -> bool:
    """Whether a factor has a value that was written as text; numbers are compared as numbers."""
    value = as_text(getattr(factors, name))
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted
