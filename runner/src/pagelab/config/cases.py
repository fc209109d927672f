"""Which combinations of models and factors an experiment has: a product, lists of cases, and what is left out.

Without cases the combinations are the product of the models and the lists in `factors`. A case names values of some
factors, and stands for the product of these with the lists of the others; the combinations are those of all cases, each
once. An exclusion takes out the combinations that have all the values that it names.
"""

import difflib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from types import GenericAlias
from typing import Annotated, Any, get_type_hints

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from pagelab.config.factors import FACTORS, FactorLists, Factors, refuse_repeats
from pagelab.errors import quoted


def _listed(given: object) -> object:
    return given if isinstance(given, list) else [given]


def _one_or_more(kind: Any) -> Any:
    """A value, or a list of such values; either becomes a list. None where the key is not there; null is no value."""
    several: Any = Annotated[GenericAlias(list, (kind,)), Field(min_length=1, fail_fast=True)]
    return Annotated[several | None, BeforeValidator(_listed, json_schema_input_type=kind | several)]


def _some() -> Any:
    """A model that may have a value, or several, for the model and each factor."""
    kinds = get_type_hints(Factors, include_extras=True)
    words = {"model": "a model's name"} | {name: factor.help for name, factor in FACTORS.items()}
    fields: dict[str, Any] = {
        name: (_one_or_more(kinds[name]), Field(default=None, description=text)) for name, text in words.items()
    }
    return create_model("SomeFactors", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


_Some = _some()


class _Named(_Some):  # type: ignore[misc,valid-type] # what it has follows from the factors
    """Values of some factors, and of no others."""

    @model_validator(mode="after")
    def _no_repeats(self) -> "_Named":
        refuse_repeats(self.named())
        return self

    @model_serializer(mode="wrap")
    def _without_the_others(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: values for name, values in handler(self).items() if values is not None}

    def named(self) -> dict[str, list[Any]]:
        """The values, by the name of their factor or `model`."""
        return {name: values for name, values in self if values is not None}


class Case(_Named):
    """Values of some factors, or of the model; the other factors take the values that `factors` has."""


class Exclusion(_Named):
    """Combinations that have all these values are left out."""

    @model_validator(mode="after")
    def _names_some(self) -> "Exclusion":
        if not self.named():
            raise ValueError("names no value, so it would leave out everything; name one or remove it")
        return self


def refuse_unknown_models(models: Collection[str], key: str, named: Sequence[_Named]) -> None:
    """Raise ValueError where one of the cases or exclusions under a key names a model that is not there."""
    for index, one in enumerate(named):
        for name in one.named().get("model", ()):
            if name not in models:
                near = difflib.get_close_matches(name, models, n=1)
                hint = f"did you mean {quoted(near[0])}?" if near else "name one of `models`"
                raise ValueError(f"{key}[{index}].model: {quoted(name)} is no model of this configuration; {hint}")


def count_before_exclusion(models: Sequence[str], factors: FactorLists, cases: Sequence[Case]) -> int:
    """How many combinations there are where no two cases have one in common and nothing is left out."""
    return sum(prod(map(len, lists.values())) for lists in _products(models, factors, cases))


def combinations(
    models: Sequence[str], factors: FactorLists, cases: Sequence[Case], exclusions: Sequence[Exclusion]
) -> list[Factors]:
    """The combinations, each once, those of the first case first; look at `count_before_exclusion` before."""
    left_out = [exclusion.named() for exclusion in exclusions]
    chosen: dict[tuple[Any, ...], Factors] = {}
    for lists in _products(models, factors, cases):
        for values in itertools.product(*lists.values()):
            combination = dict(zip(lists, values, strict=True))
            if values not in chosen and not any(_has(combination, one) for one in left_out):
                chosen[values] = Factors(**combination)
    return list(chosen.values())


def _products(models: Sequence[str], factors: FactorLists, cases: Sequence[Case]) -> Iterator[dict[str, Sequence[Any]]]:
    """The lists whose product the combinations of each case are; without cases one product."""
    common: dict[str, Sequence[Any]] = {"model": models, **{name: getattr(factors, name) for name in FACTORS}}
    for case in cases or [Case()]:
        yield common | case.named()


def _has(combination: Mapping[str, Any], named: Mapping[str, list[Any]]) -> bool:
    return all(combination[name] in values for name, values in named.items())
