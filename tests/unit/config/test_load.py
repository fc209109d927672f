"""Whatever a configuration file is or holds, the answer is a configuration or one sentence."""

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import how_many

from pagelab.config.load import load_config, parse_config
from pagelab.config.schema import MOST_PROMPT_BYTES, MOST_TRIALS, Config
from pagelab.errors import ConfigError, printable
from pagelab.run.estimate import estimate
from pagelab.run.plan import check_sizes, known_weights_bytes, longest, make_plan
from pagelab.units import GIB

CONFIGS = sorted((Path(__file__).parents[3] / "runner/configs").glob("*.yml"))
SHAPE = {"architecture": "llama", "layers": 2, "width": 256, "feed_forward": 512}
FILE = {"file": "m.gguf", "sha256": "a" * 64}
WHOLE: dict[str, Any] = {"experiment": "e", "models": [{"name": "m", "source": FILE}]}


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yml")
    message = str(caught.value)
    assert message.startswith("test.yml: ")
    assert message.isprintable()
    assert len(message) < 500
    return message


def written(**sections: Any) -> str:
    return yaml.safe_dump(WHOLE | sections, width=10**9)


def changed(place: str, value: Any) -> str:
    """A configuration with one value changed, `value` as YAML."""
    document = WHOLE | {"models": [{"name": "m", "source": {"synthetic": SHAPE}}]}
    document = copy.deepcopy(document)
    inner: Any = document
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for parent in parents:
        inner = inner.setdefault(parent, {}) if isinstance(inner, dict) else inner[parent]
    inner[last] = "VALUE"
    return yaml.safe_dump(document).replace("VALUE", value)


SIZES = ["memory.os_reserve", "memory.floor", "memory.swap_minimum", "trace.most_bytes"]
WHOLES = ["repetitions", "order_seed", "inference.tokens", "inference.context", "inference.seed", "inference.threads"]
WHOLES += [
    f"models.0.source.synthetic.{name}" for name in ("layers", "width", "heads", "vocabulary", "context", "seed")
]
NUMBERS = ["trial_timeout_seconds", "models.0.source.synthetic.router_skew"]
TEXTS = ["experiment", "inference.prompt", "models.0.name"]
CHOICES = ["memory.swap_disk", "trace.block", "trace.page_cache", "memory.fence_reserve", "inference.repack"]
SECTIONS = ["models", "models.0", "models.0.source", "factors", "inference", "memory", "trace", "hypotheses"]
SECTIONS += ["cases", "exclude", "until", "until.interval"]
OF_NO_KIND = ["{a: 1}", "[1, [2]]", "1.5e300", str(10**30), "'\\x01\\x02'", "x" * 5000]


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize(
    "value",
    ["2.5", "null", "[1, 2]", "{a: 1}", "true", "-1", "'-1MiB'", str(2**70), f"{2**34}GiB", "9" * 30 + "GB", "1e9"],
)
def test_what_is_no_size_is_refused_by_the_name_of_its_key(key: str, value: str) -> None:
    assert f"test.yml: {key}: " in refusal(changed(key, value))


def test_a_size_of_400_digits() -> None:
    assert "memory.floor: '1111" in refusal(changed("memory.floor", f"{'1' * 400}MiB"))
    assert "a number of 400 characters is too long" in refusal(changed("memory.floor", "1" * 400))


@pytest.mark.parametrize("key", WHOLES)
@pytest.mark.parametrize("value", ["true", "null", "'5'", "5.0", "[5]", "-1", str(2**70)])
def test_what_is_no_whole_number_is_refused_by_the_name_of_its_key(key: str, value: str) -> None:
    assert key.replace(".0.", "[0].") in refusal(changed(key, value))


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["true", "'5'", "[5]", "-1", "1e300", str(2**70)])
def test_what_is_no_number_is_refused_by_the_name_of_its_key(key: str, value: str) -> None:
    assert key.replace(".0.", "[0].") in refusal(changed(key, value))


@pytest.mark.parametrize("key", SIZES + WHOLES + NUMBERS + CHOICES + SECTIONS)
@pytest.mark.parametrize("value", OF_NO_KIND)
def test_a_value_of_another_kind_is_refused_in_a_sentence(key: str, value: str) -> None:
    refusal(changed(key, value))


@pytest.mark.parametrize("value", ["true", "null", "12", "2.5", "[a]", "{a: 1}", "''"])
@pytest.mark.parametrize("key", TEXTS)
def test_what_is_no_text_is_refused_by_the_name_of_its_key(key: str, value: str) -> None:
    assert key.replace(".0.", "[0].") in refusal(changed(key, value))


@pytest.mark.parametrize(
    ("factor", "value"),
    [
        ("resident", "true"),
        ("resident", "'0.5'"),
        ("readahead_kib", "true"),
        ("readahead_kib", "1.5"),
        ("readahead_kib", str(2**70)),
        ("swappiness", "false"),
        ("huge_pages", "true"),
        ("pressure", "null"),
    ],
)
def test_what_is_no_value_of_a_factor(factor: str, value: str) -> None:
    assert f"factors.{factor}[0]" in refusal(changed(f"factors.{factor}", f"[{value}]"))


# --- texts that are handed on -----------------------------------------------------------------------------------------


def test_a_prompt_that_no_program_can_be_given() -> None:
    assert "inference.prompt: character 2 is a NUL" in refusal(written(inference={"prompt": "a\0b"}))
    document = WHOLE | {"inference": {"prompt": "a\ud800"}}
    with pytest.raises(ValueError, match=r"inference\.prompt"):
        Config.model_validate(document)


def test_a_prompt_beyond_the_limit_of_an_argument() -> None:
    longest = "é" * (MOST_PROMPT_BYTES // 2)
    assert parse_config(written(inference={"prompt": longest}), "test").inference.prompt == longest
    message = refusal(written(inference={"prompt": longest + "xx"}))
    assert f"inference.prompt: has {MOST_PROMPT_BYTES + 1} bytes and llama.cpp can be given" in message
    assert "shorten it" in message


@pytest.mark.parametrize("prompt", ["a\x85b\u2028c\rd", "\ufeffx", "\x07\x1b[31m", "0o17", "1e5", "𝄞 é\t\n", " on "])
def test_a_prompt_of_odd_characters_is_stored_as_it_is(prompt: str) -> None:
    config = Config.model_validate(WHOLE | {"inference": {"prompt": prompt}})
    again = parse_config(config.resolved_yaml(), "config.yml")
    assert (again.inference.prompt, again.sha256()) == (prompt, config.sha256())


@pytest.mark.parametrize(
    "source",
    [
        {"file": "a\0b", "sha256": "a" * 64},
        {"file": "", "sha256": "a" * 64},
        {"file": "x" * 300, "sha256": "a" * 64},
        {"file": "x/" * 2000, "sha256": "a" * 64},
        {"url": "https://a/ü.gguf", "sha256": "a" * 64},
        {"url": "https://a/\r\nx/m.gguf", "sha256": "a" * 64},
        {"url": "https://a:b/m.gguf", "sha256": "a" * 64},
        {"url": "https://[1/m.gguf", "sha256": "a" * 64},
        {"url": f"https://a/{'m' * 300}.gguf", "sha256": "a" * 64},
        {"pypi": "a==1\n", "file": "a", "sha256": "a" * 64},
    ],
)
def test_a_source_that_cannot_be_opened(source: dict[str, str]) -> None:
    assert "models[0].source" in refusal(written(models=[{"name": "m", "source": source}]))


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_the_number_of_trials_is_bounded_before_any_is_made() -> None:
    assert len(make_plan(parse_config(written(repetitions=MOST_TRIALS // 3), "test")).trials) == MOST_TRIALS - 1
    message = refusal(written(repetitions=10**9))
    assert message == (
        "test.yml: models, factors and repetitions make 3000000000 trials and at most 10000 can be run; "
        "name fewer values, or make several experiments of it"
    )
    many = {"readahead_kib": list(range(200)), "swappiness": list(range(100))}
    assert "make 60000 trials" in refusal(written(factors=many, repetitions=1))


def test_a_seed_that_llama_cpp_would_not_take_as_it_is() -> None:
    for seed in (2**32 - 1, 2**32 + 1):  # the first would be another one in each trial, the second is taken for 1
        assert "inference.seed" in refusal(written(inference={"seed": seed}))


def test_what_was_read_can_be_stored_and_read_again() -> None:
    parts = {"file": "m-00001-of-00999.gguf", "sha256": ["a" * 64] * 999}
    models = [{"name": f"m{number}", "source": parts} for number in range(12)]
    hypotheses = [{"claim": "c", "expect": "min(x) > 0"}] * 100
    config = parse_config(written(models=models, hypotheses=hypotheses, repetitions=200), "test")
    assert parse_config(config.resolved_yaml(), "config.yml") == config


# --- files ------------------------------------------------------------------------------------------------------------


def file_refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("/dev/null")):
        assert file_refusal(path) == f"{path}: is no regular file; save what it holds as one; name a configuration file"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"\n")
    (tmp_path / "latin").write_bytes(b"experiment: \xe9\n")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    assert "is larger than 1.05 MB" in file_refusal(tmp_path / "large")
    assert "is larger than 1.05 MB" in file_refusal(tmp_path / "sparse")
    assert "byte 12 is no UTF-8" in file_refusal(tmp_path / "latin")
    assert "cannot be read (No such file or directory)" in file_refusal(tmp_path / "none")
    assert "cannot be read" in file_refusal(tmp_path / ("x" * 5000))
    assert "cannot be read" in file_refusal(tmp_path / "two\nlines")


def test_a_message_repeats_little_of_the_file(tmp_path: Path) -> None:
    for text in ("x" * 1_000_000, f"{'k' * 900}: 1", f"experiment: {'x' * 1_000_000}", written(models="y" * 10**6)):
        refusal(text)
    for text in (written(inference={"tokens": "9" * 10**6}), written(hypotheses=[{"claim": "c", "expect": "x" * 900}])):
        refusal(text)


# --- mutated files ----------------------------------------------------------------------------------------------------

TRIED = how_many(5000)
WITH_CASES = """\
experiment: cases
models:
  - {name: small, source: {synthetic: {architecture: llama, layers: 2, width: 256, feed_forward: 512}}}
  - {name: file, source: {file: m.gguf, sha256: %s}}
cases:
  - {}
  - model: small
    threads: [1, physical]
  - repack: [true, default]
    resident: 0.25
exclude:
  - {model: file, resident: 1.0}
repetitions: 3
until:
  interval: 5%%
  at_most: 9
""" % ("a" * 64)
ODD = [
    "null", "~", "[]", "{}", "true", "2.5", "-1", "08", "0o9", "1:0.5", "0_", "010.5", "2026-13-45",
    "2026-11-29T25:61:61Z", "!!int foo", "!!bool foo", "!!map foo", "!!timestamp foo", "!!binary x", "! x", ".inf",
    "-.inf", ".nan", "1e999", str(2**70), "9" * 5000, "9" * 400 + "GiB", "0x" + "f" * 5000, "[" * 500, "]", "{", "}",
    "- " * 300, "&a [*a]", "*a", "&a", "<<: *a", "? ", "\0", "\x07", "\x85", "\u2028", "\ufeff", "\ud7ff",
    "\U0010ffff", '"\\ud800"', "'\\0'", '"\\0"', '"', "'", "|", ">", "%YAML 1.1", "---", "...", "@", "`", "\t", "\r",
    "# ", ":", ": ", "a: 1", "a: a: a", "x" * 100_000, "[" + "1, " * 30_000 + "]",
    "".join(f"\nk{number}: 1" for number in range(30_000)), "1000000000", "2147483647", "yes",
]  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    """A text with a few places cut, doubled, swapped, or replaced by what has been trouble somewhere."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice((0, 1, 1, 3, 20, 200)))
        lines = text.splitlines(keepends=True) or [""]
        match chance.randrange(6):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + chance.choice(ODD) + text[end:]
            case 2:  # the value of a key
                number = chance.randrange(len(lines))
                lines[number] = f"{lines[number].partition(':')[0]}: {chance.choice(ODD)}\n"
                text = "".join(lines)
            case 3:
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                text = "".join(lines)
            case 4:
                text = text[:start] + chr(chance.choice((chance.randrange(128), chance.randrange(0xD800)))) + text[end:]
            case _:
                text = text[:start] + text[start:end] * 2 + text[end:]
    return text


def outcome(text: str, path: Path) -> str:
    path.write_text(text, encoding="utf-8", newline="")
    try:
        config = load_config(path)
        known = known_weights_bytes(config, path.parent)
        check_sizes(config, known, 24 * GIB)
        assert estimate(longest(make_plan(config)), known).result_bytes > 0
        assert parse_config(config.resolved_yaml(), "config.yml") == config
    except ConfigError as error:
        message = str(error)
        assert message.startswith((f"{path}: ", "model "))
        assert printable(message) == message
        assert len(message) < 500 + len(str(path))
        return "refused"
    return "accepted"


def test_5000_mutated_files_are_each_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    chance, seen = random.Random(14), {"accepted": 0, "refused": 0}  # noqa: S311 - to be repeated
    texts = [path.read_text() for path in CONFIGS] + [WITH_CASES]
    for _ in range(TRIED):
        text = mutated(chance.choice(texts), chance)
        seen[outcome(text, tmp_path / "c.yml")] += 1
    assert sum(seen.values()) == TRIED
    assert min(seen.values()) > TRIED / 20, "both ways are gone often"
