import copy

import pytest
import yaml

from pagelab.config.load import parse_config
from pagelab.errors import ConfigError
from pagelab.units import GIB, MIB

WHOLE = {
    "experiment": "spill",
    "models": [
        {"name": "gemma", "source": {"pypi": "gemma==1.0.0", "file": "g.gguf", "sha256": "a" * 64}},
        {
            "name": "dense",
            "source": {
                "synthetic": {
                    "architecture": "llama",
                    "layers": 2,
                    "width": 256,
                    "feed_forward": 512,
                    "type": "Q4_0",
                    "seed": 1,
                }
            },
        },
    ],
    "factors": {"resident": [1.0, 0.5, 0.0], "pressure": ["cgroup", "pin"], "readahead_kib": ["default", 128]},
    "repetitions": 2,
    "inference": {"prompt": "Once", "tokens": 16, "threads": "physical", "context": 256, "seed": 1, "repack": False},
    "memory": {"os_reserve": "2GiB", "floor": "16MiB"},
    "trace": {"block": "auto", "page_cache": "all"},
}


def parsed(**changes):
    document = copy.deepcopy(WHOLE)
    for path, value in changes.items():
        place = document
        *parents, last = path.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return parse_config(yaml.safe_dump(document), "test.yml")


def refusal(**changes):
    with pytest.raises(ConfigError) as caught:
        parsed(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("test.yml: ")
    return message


def test_the_values_of_a_file_arrive():
    config = parsed()
    assert config.factors.resident == [1.0, 0.5, 0.0]
    assert config.memory.os_reserve == 2 * GIB
    assert config.memory.floor == 16 * MIB
    assert config.inference.prompt == "Once"


def test_the_resolved_file_reads_back_as_the_same_configuration():
    config = parsed()
    assert parse_config(config.resolved_yaml(), "again") == config


def test_comments_order_and_spelling_do_not_change_the_hash_but_a_value_does():
    text = yaml.safe_dump(WHOLE)
    reordered = "# a comment\n" + yaml.safe_dump(dict(reversed(WHOLE.items())), sort_keys=False)
    assert parse_config(text, "a").sha256() == parse_config(reordered, "b").sha256()
    assert parsed().sha256() == parsed(memory__os_reserve=2 * GIB).sha256()
    assert parsed().sha256() != parsed(inference__prompt="Twice").sha256()
    assert parsed().sha256() != parsed(inference__repack=True).sha256()


@pytest.mark.parametrize(
    ("text", "block", "page_cache"),
    [
        ("{block: auto, page_cache: true}", "auto", "all"),
        ("{block: on, page_cache: false}", "auto", "off"),
        ("{block: off, page_cache: off}", "off", "off"),
        ("{}", "auto", "auto"),
    ],
)
def test_what_is_traced_may_be_said_by_yes_and_no(text, block, page_cache):
    trace = parsed(trace=yaml.safe_load(text)).trace
    assert (trace.block, trace.page_cache) == (block, page_cache)


def test_an_unknown_key_names_the_nearest_known_one():
    assert "unknown key 'inference.tokns'; did you mean 'tokens'?" in refusal(inference__tokns=3)
    assert "unknown key 'repetition'; did you mean 'repetitions'?" in refusal(repetition=3)
    assert "unknown key 'factors.residents'; did you mean 'resident'?" in refusal(factors__residents=[1])


@pytest.mark.parametrize("share", [-0.1, 1.5, "half"])
def test_a_share_outside_0_to_1_is_refused_with_its_place(share):
    message = refusal(factors__resident=[1.0, share])
    assert "factors.resident[1]" in message
    assert repr(share) in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": []}, "models"),
        ({"experiment": "../evil"}, "experiment"),
        ({"factors__resident": [0.5, 0.5]}, "names a value twice"),
        ({"inference__tokens": 256}, "must be below context"),
        ({"memory__os_reserve": "much"}, "is not a size"),
        ({"memory__os_reserve": "1MiB"}, "memory.os_reserve"),
        ({"repetitions": 0}, "repetitions"),
        ({"factors__weights": ["mmap", "direct"]}, "weights: direct is not known to engine pin"),
        ({"models": WHOLE["models"] + WHOLE["models"][:1]}, "two models are called 'gemma'"),
    ],
)
def test_impossible_values_are_refused_where_they_stand(changes, words):
    assert words in refusal(**changes)


@pytest.mark.parametrize("text", ["", "- a\n- b", "experiment: [", "a: 1\na: 2"])
def test_what_is_no_configuration_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yml")
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(ConfigError, match="the key 'experiment' stands twice"):
        parse_config("experiment: a\nexperiment: b\n", "test.yml")


def test_a_missing_key_is_named():
    document = {key: value for key, value in WHOLE.items() if key != "models"}
    with pytest.raises(ConfigError, match="models is missing"):
        parse_config(yaml.safe_dump(document), "test.yml")


def test_shipped_configurations_are_valid(shipped_configuration):
    parse_config(shipped_configuration.read_text(), str(shipped_configuration))
