"""Which combinations cases and exclusions give, and what is refused of them."""

from typing import Any

import pytest
import yaml

from pagelab.config.factors import FACTORS
from pagelab.config.load import parse_config
from pagelab.config.schema import MOST_TRIALS, Config
from pagelab.errors import ConfigError

MODELS = [{"name": name, "source": {"file": f"{name}.gguf", "sha256": "a" * 64}} for name in ("dense", "experts")]
WHOLE: dict[str, Any] = {"experiment": "e", "models": MODELS, "factors": {"resident": [1.0, 0.5]}, "repetitions": 1}


def config(**sections: Any) -> Config:
    return parse_config(yaml.safe_dump(WHOLE | sections), "test.yml")


def refusal(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**sections)
    return str(caught.value)


def found(*names: str, **sections: Any) -> list[tuple[Any, ...]]:
    """What the combinations have of some factors, in order."""
    return [tuple(getattr(one, name) for name in names) for one in config(**sections).combinations()]


def test_without_cases_it_is_the_product() -> None:
    assert found("model", "resident") == [("dense", 1.0), ("dense", 0.5), ("experts", 1.0), ("experts", 0.5)]


def test_a_case_replaces_what_it_names_and_the_rest_is_the_product() -> None:
    cases = [
        {"model": "dense", "weights": "anonymous", "resident": 0.25},
        {"swappiness": [10, 60], "model": ["experts"]},
    ]
    assert found("model", "resident", "weights", "swappiness", cases=cases) == [
        ("dense", 0.25, "anonymous", "default"),
        ("experts", 1.0, "mmap", 10),
        ("experts", 1.0, "mmap", 60),
        ("experts", 0.5, "mmap", 10),
        ("experts", 0.5, "mmap", 60),
    ]


def test_an_empty_case_is_the_product_and_what_two_cases_have_is_there_once() -> None:
    cases = [{}, {"resident": [0.5, 0.0], "model": "dense"}]
    assert found("model", "resident", cases=cases) == [*found("model", "resident"), ("dense", 0.0)]


def test_what_has_all_the_values_of_an_exclusion_is_left_out() -> None:
    exclude = [{"model": "dense", "resident": 1.0}, {"resident": [0.5, 0.0], "model": "experts"}]
    assert found("model", "resident", exclude=exclude) == [("dense", 0.5), ("experts", 1.0)]


def test_a_share_may_be_written_as_a_whole_number() -> None:
    assert found("resident", cases=[{"resident": 0, "model": "dense"}]) == [(0.0,)]
    assert len(found("resident", exclude=[{"resident": 1}])) == 2


def test_what_was_read_is_stored_and_read_again() -> None:
    one = config(
        cases=[{"threads": [1, "physical"], "repack": True}, {}],
        exclude=[{"resident": 1.0}],
        repetitions=3,
        until={"interval": "2.5 %", "at_most": 7},
    )
    again = parse_config(one.resolved_yaml(), "config.yml")
    assert again == one
    assert again.sha256() == one.sha256()
    assert again.combinations() == one.combinations()
    assert yaml.safe_load(one.resolved_yaml())["cases"] == [{"threads": [1, "physical"], "repack": [True]}, {}]
    assert again.until is not None
    assert again.until.interval == 0.025


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"cases": [{"residents": 1.0}]}, "unknown key 'cases[0].residents'; did you mean 'resident'?"),
        ({"exclude": [{"swapiness": 1}]}, "unknown key 'exclude[0].swapiness'; did you mean 'swappiness'?"),
        ({"until": {"intervall": "5%", "at_most": 9}}, "unknown key 'until.intervall'; did you mean 'interval'?"),
        ({"case": []}, "unknown key 'case'; did you mean 'cases'?"),
        ({"cases": [{}, {"resident": 2.0}]}, "cases[1].resident: input should be less than or equal to 1 (got 2.0)"),
        ({"cases": [{"resident": [1.0, "x"]}]}, "cases[0].resident[1]: input should be a valid number (got 'x')"),
        ({"cases": [{"resident": []}]}, "cases[0].resident: list should have at least 1 item"),
        ({"cases": [{"resident": None}]}, "cases[0].resident: input should be a valid number"),
        ({"cases": [{"resident": [0.5, 0.5]}]}, "cases[0]: resident names a value twice"),
        ({"cases": [{"model": "dens"}]}, "cases[0].model: 'dens' is no model of this configuration; did you mean 'den"),
        ({"exclude": [{"model": ["dense", "x"]}]}, "exclude[0].model: 'x' is no model of this configuration; name one"),
        ({"exclude": [{}]}, "exclude[0]: names no value"),
        ({"exclude": [{"resident": [1.0, 0.5]}]}, "exclude leaves no combination"),
        ({"cases": {"resident": 1.0}}, "cases: input should be a valid list"),
        ({"until": {"interval": 5, "at_most": 9}, "repetitions": 3}, "until.interval: input should be less than"),
        ({"until": {"interval": "0%", "at_most": 9}, "repetitions": 3}, "until.interval: input should be greater than"),
        ({"until": {"interval": "narrow", "at_most": 9}, "repetitions": 3}, "until.interval: input should be a valid"),
        ({"until": {"interval": "5%"}, "repetitions": 3}, "until.at_most is missing"),
        ({"until": {"interval": "5%", "at_most": "9"}, "repetitions": 3}, "until.at_most"),
        ({"until": {"interval": "5%", "at_most": 9.0}, "repetitions": 3}, "until.at_most"),
        ({"until": {"interval": "5%", "at_most": -1}, "repetitions": 3}, "until.at_most"),
        ({"until": {"interval": "5%", "at_most": 9}}, "until needs 3 repetitions at least, of fewer no interval is"),
        ({"until": {"interval": "5%", "at_most": 3}, "repetitions": 4}, "until.at_most (3) is below repetitions (4)"),
        ({"factors": {"threads": [0]}}, "factors.threads[0]"),
        ({"factors": {"threads": ["logical"]}}, "factors.threads[0]"),
        ({"factors": {"repack": ["perhaps"]}}, "factors.repack[0]"),
        (
            {"factors": {"strategy": ["hold"], "weights": ["anonymous"]}},
            "strategy hold keeps pages of the model's file",
        ),
        ({"factors": {"strategy": ["behind"], "repack": [True]}}, "strategy behind keeps pages of the model's file"),
        ({"factors": {"strategy": ["kernel", "hold"], "held": [0.5]}}, "means nothing beside strategy kernel"),
        ({"factors": {"strategy": ["hold"], "held": [1.5]}}, "factors.held[0]"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(sections: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**sections)


def test_the_number_of_trials_is_bounded_with_cases_and_a_budget_before_any_is_made() -> None:
    many = {"readahead_kib": list(range(100)), "swappiness": list(range(100))}
    assert "make 80000 trials" in refusal(cases=[many, many])
    assert "make 60000000 trials" in refusal(factors=many, until={"interval": "5%", "at_most": 1000}, repetitions=3)
    half = MOST_TRIALS // 4
    assert len(config(until={"interval": "5%", "at_most": half}, repetitions=3).combinations()) == 4
    assert f"make {4 * (half + 1)} trials" in refusal(until={"interval": "5%", "at_most": half + 1}, repetitions=3)
    fewer = {"readahead_kib": list(range(100)), "swappiness": list(range(15))}
    assert len(config(factors=fewer, exclude=[{"resident": 1.0}], repetitions=1).combinations()) == 6000


def test_the_json_schema_knows_cases_exclusions_the_budget_and_every_factor() -> None:
    schema = Config.model_json_schema()
    for name in ("FactorLists", "Case", "Exclusion"):
        assert set(schema["$defs"][name]["properties"]) - {"model"} == set(FACTORS)
    single = schema["$defs"]["Case"]["properties"]["resident"]
    assert {kind.get("type") for kind in single["anyOf"]} == {"number", "array"}
    assert set(schema["$defs"]["Budget"]["required"]) == {"interval", "at_most"}
