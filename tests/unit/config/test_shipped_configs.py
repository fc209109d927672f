"""The configurations that come with the lab can be planned, and their hypotheses speak of trials that they have."""

from pathlib import Path

import pytest

from pagelab.config.expectation import Aggregate, has_value, parse_expectation
from pagelab.config.load import load_config
from pagelab.config.model_specs import SyntheticSource, SyntheticSpec
from pagelab.config.schema import Config
from pagelab.models.synthetic import estimate_bytes
from pagelab.run.plan import make_plan

CONFIGS = sorted((Path(__file__).parents[3] / "runner/configs").glob("*.yml"))


def aggregates(config: Config) -> list[Aggregate]:
    expectations = [parse_expectation(hypothesis.expect) for hypothesis in config.hypotheses]
    return [side for expectation in expectations for side in (expectation.left, expectation.right) if side is not None]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_can_be_planned(path: Path) -> None:
    config = load_config(path)
    trials = make_plan(config).trials
    assert trials
    for aggregate in aggregates(config):
        chosen = [trial for trial in trials if all(has_value(trial.factors, *pair) for pair in aggregate.where)]
        assert len(chosen) == config.repetitions, aggregate


def shapes(config: Config) -> list[SyntheticSpec]:
    return [model.source.synthetic for model in config.models if isinstance(model.source, SyntheticSource)]


def test_dense_and_experts_are_of_one_size() -> None:
    dense, *mixtures = shapes(load_config(CONFIGS[0].with_name("moe.yml")))
    assert dense.architecture == "llama"
    assert [mixture.router_skew for mixture in mixtures] == [0.0, 2.0]
    for mixture in mixtures:
        assert estimate_bytes(mixture) == pytest.approx(estimate_bytes(dense), rel=0.01)
        # Layers then draw independently (pagelab.models.routing).
        assert mixture.layers * mixture.experts < mixture.width // 2
