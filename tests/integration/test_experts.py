"""What a trace says of experts is what llama.cpp's router chose: alike, or a few of them mostly."""

import shutil
from collections.abc import Iterator
from statistics import mean

import pytest

from lab import Call, fetched_models, needs_lab, needs_root, run, write_config

pytestmark = [needs_root, needs_lab]

EXPERTS, USED, LAYERS, TOKENS = 32, 4, 4, 24
# A readahead shorter than a matrix of an expert, so that few of its neighbours are read with it.
FACTORS = {"resident": [0.0], "readahead_kib": [16]}


def mixture(skew: float) -> dict[str, object]:
    shape = {"layers": LAYERS, "width": 768, "feed_forward": 512, "experts": EXPERTS, "experts_used": USED}
    return {"synthetic": {"architecture": "moe", "router_skew": skew, "seed": 1, **shape}}


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Both mixtures, nothing of them in RAM but the floor."""
    directory = tmp_path_factory.mktemp("mixtures")
    config = write_config(
        directory / "mixtures.yml",
        models=[{"name": "alike", "source": mixture(0.0)}, {"name": "concentrated", "source": mixture(2.0)}],
        factors=FACTORS,
        inference={"tokens": TOKENS},
        memory={"swap_minimum": "256MiB", "floor": "8MiB"},
    )
    with fetched_models(config):
        yield run(config, directory / "results")
    shutil.rmtree(directory)


def tokens_by_expert(call: Call, model: str) -> dict[int, list[int]]:
    """By layer: for how many tokens each expert was read, the most read one first."""
    trial = call.trial(model=model)
    table = call.store.read_trial_table(trial.trial, "access_experts")
    assert table is not None
    found: dict[int, list[int]] = {}
    for row in table.to_pylist():
        if row["decode_read_bytes"] > row["bytes"] / 2:  # more than what readahead takes of a neighbour
            found.setdefault(row["layer"], []).append(row["decode_tokens"])
    return {layer: sorted(counts, reverse=True) for layer, counts in found.items()}


def test_a_router_that_uses_all_alike_has_more_experts_read(mixtures: Call) -> None:
    assert mixtures.code == 0, mixtures.show()
    alike, concentrated = (tokens_by_expert(mixtures, name) for name in ("alike", "concentrated"))
    assert sorted(alike) == sorted(concentrated) == list(range(LAYERS))
    assert mean(map(len, alike.values())) > 0.8 * EXPERTS
    assert mean(map(len, concentrated.values())) < 0.8 * mean(map(len, alike.values()))


def test_a_token_reads_the_experts_that_it_uses_and_not_all(mixtures: Call) -> None:
    record = mixtures.trial(model="alike")
    assert record.access.model_bytes_per_token is not None
    assert USED / EXPERTS * 0.5 < record.access.model_bytes_per_token / record.weights_bytes < 0.6


def test_experts_that_are_preferred_are_read_for_more_tokens(mixtures: Call) -> None:
    alike, concentrated = (tokens_by_expert(mixtures, name) for name in ("alike", "concentrated"))
    # Not the very first: an expert beside another tensor is touched by that one's readahead for every token.
    often = [mean(mean(counts[1 : 1 + USED]) for counts in one.values()) for one in (alike, concentrated)]
    assert often[1] > 1.2 * often[0]
