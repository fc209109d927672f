"""`--set KEY=VALUE`: what it replaces, and what is no setting."""

from pathlib import Path

import pytest

from pagelab.config.load import load_config, parse_config
from pagelab.config.schema import Config
from pagelab.errors import ConfigError

TEXT = """\
experiment: e
models: [{name: m, source: {file: m.gguf, sha256: "%s"}}]
factors: &lists {resident: [1.0, 0.5]}
repetitions: 5
""" % ("a" * 64)


def changed(tmp_path: Path, *settings: str, text: str = TEXT) -> Config:
    path = tmp_path / "c.yml"
    path.write_text(text)
    return load_config(path, settings)


def test_values_are_yaml_and_keys_have_dots(tmp_path: Path) -> None:
    config = changed(
        tmp_path,
        "repetitions=2",
        "factors.resident=[1.0,0]",
        "factors.threads=[1, physical]",
        "inference.prompt='a=b: \"ü\" # {x}'",
        "memory={floor: 64MiB}",
        "until=null",
        "repetitions=4",
    )
    assert (config.repetitions, config.factors.resident, config.factors.threads) == (4, [1.0, 0.0], [1, "physical"])
    assert config.inference.prompt == 'a=b: "ü" # {x}'
    assert config.memory.floor == 64 << 20
    assert config.until is None


def test_models_can_be_replaced_as_a_whole(tmp_path: Path) -> None:
    config = changed(tmp_path, f'models=[{{name: other, source: {{file: o.gguf, sha256: "{"b" * 64}"}}}}]')
    assert [model.name for model in config.models] == ["other"]


def test_it_is_the_experiment_that_a_file_with_these_values_is(tmp_path: Path) -> None:
    written = parse_config(TEXT.replace("repetitions: 5", "repetitions: 2"), "other.yml")
    assert changed(tmp_path, "repetitions=2").sha256() == written.sha256()
    assert changed(tmp_path, "repetitions=2").sha256() != changed(tmp_path).sha256()


def test_what_an_anchor_has_elsewhere_too_stays_there(tmp_path: Path) -> None:
    text = TEXT + "cases: [*lists, {swappiness: 1}]\n"
    config = changed(tmp_path, "factors.resident=[0.25]", text=text)
    assert config.factors.resident == [0.25]
    assert config.cases[0].named() == {"resident": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("repetitions", "--set repetitions: write KEY=VALUE"),
        ("=2", "--set =2: write KEY=VALUE"),
        ("inference..tokens=2", "write KEY=VALUE"),
        ("repetitions=[", "--set repetitions=…: the value is not valid YAML"),
        ("repetitions=!!int 5", "--set repetitions=…: the value line 1: the tag"),
        ("repetitions=1\n---\n2", "the value line 2: a second document begins"),
        (f"inference.prompt={'x' * 70_000}", "--set inference.prompt=…: the value is longer"),
        ("models.name=x", "--set models.name=…: models has no keys; set it as a whole"),
        ("repetitions.x.y=1", "--set repetitions.x.y=…: repetitions has no keys"),
        ("repetitons=2", "c.yml with --set: unknown key 'repetitons'; did you mean 'repetitions'?"),
        ("inference.tokns=2", "c.yml with --set: unknown key 'inference.tokns'; did you mean 'tokens'?"),
        ("repetitions=", "c.yml with --set: repetitions: input should be a valid integer (got null)"),
        ("factors.resident=[2]", "c.yml with --set: factors.resident[0]: input should be less than or equal to 1"),
    ],
)
def test_what_is_no_setting_is_refused_in_a_sentence(tmp_path: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(tmp_path, setting)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
