"""What is read from outside is read strictly: known answers, bounds, and one sentence for everything else."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.documents import MOST_DEPTH, MOST_NODES, DocumentError, dump_yaml, load_json, load_yaml, read_file


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        load_yaml(text)
    message = str(caught.value)
    assert len(message) < 300
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("08", 8),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-12", -12),
        ("010.5", 10.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("~", None),
        ("", None),
        ("2026-13-45", "2026-13-45"),
        ("2026-11-29", "2026-11-29"),
        ("1:0.5", "1:0.5"),
        ("190:20:30", "190:20:30"),
        ("0_", "0_"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("=", "="),
        ("'12'", "12"),
        ('"true"', "true"),
        ("|\n 12\n", "12\n"),
    ],
)
def test_the_core_schema(text: str, value: object) -> None:
    found = load_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_a_merge_key_is_a_key_as_any_other() -> None:
    assert load_yaml("a: &x {b: 1}\nc: {<<: *x}") == {"a": {"b": 1}, "c": {"<<": {"b": 1}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!int foo", "line 1: the tag 'tag:yaml.org,2002:int' is not read"),
        ("a: !!bool foo", "the tag"),
        ("a: !!map foo", "the tag"),
        ("a: !!timestamp foo", "the tag"),
        ("a: ! foo", "the tag"),
        ("a: !!python/object/apply:os.getcwd []", "the tag"),
        ("b: 1\na: .inf", "line 2: .inf is no number"),
        ("a: -.INF", "is no number"),
        ("a: .nan", "is no number"),
        ("a: 1e999", "too large a number"),
        (f"a: {'9' * 5000}", "a number of 5000 characters is too long"),
        (f"a: 0x{'f' * 5000}", "a number of 5002 characters is too long"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("? [a]\n: 1", "a key is no word"),
        ("12: 1", "a key is no word"),
        ("a: *b", "no complete value before it is called &'b'"),
        ("a: &a [*a]", "no complete value before it"),
        ("a: 1\n---\nb: 2", "a second document begins"),
        ("a: [1\n}", "is not valid YAML (line 2)"),
        ("a: \x07", "is not valid YAML: control characters are not allowed"),
        ('a: "\\ud800"', "is not valid YAML"),
        ("a: " + "[" * 500, f"nested deeper than {MOST_DEPTH}"),
        ("a: " + "[" * 500_000, f"nested deeper than {MOST_DEPTH}"),
        ("- " * 500, f"nested deeper than {MOST_DEPTH}"),
        ("{a: " * 500, f"nested deeper than {MOST_DEPTH}"),
        (f"a: [{'1,' * MOST_NODES}]", f"more than {MOST_NODES} values and keys"),
        ("".join(f"k{n}: 1\n" for n in range(MOST_NODES)), f"more than {MOST_NODES} values and keys"),
        ("x" * 1_000_000 + ": 1\n", "is not valid YAML"),
        ("[" + "'" + "x" * 1_000_000 + "']: 1", "is not valid YAML"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


def test_30000_keys_are_read_and_one_that_comes_again_is_found() -> None:
    text = "".join(f"k{number}: 1\n" for number in range(20_000))
    assert len(load_yaml(text)) == 20_000
    assert "line 20001: the key 'k7' stands twice" in refusal(text + "k7: 1\n")


def test_aliases_count_as_what_they_stand_for() -> None:
    assert load_yaml("a: &x [1, 2]\nb: [*x, *x]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    laughs = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "values and keys are too many" in refusal("\n".join(laughs))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["0o17", "1e5", "off", "2026-11-29", "1:30", "0x1F", "null", "", " a", "a: b", "#", ".inf", "<<", "=", "\x85"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(VALUES)
def test_what_is_written_reads_back_as_the_same_in_both_versions_of_yaml(value: object) -> None:
    text = dump_yaml(value)
    assert load_yaml(text) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("Infinity", "is no number"),
        ("[NaN]", "is no number"),
        ("1e999", "too large a number"),
        (str(2**64), "too large a number"),
        ("9" * 5000, "too large a number"),
        ("[" * 100_000, "nested too deep"),
        ("[" * 100 + "]" * 100, "nested deeper than"),
        (b'"\xff"', "is not JSON"),
    ],
)
def test_json_that_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        load_json(text)
    assert len(str(caught.value)) < 200


def test_json_that_is_read() -> None:
    assert load_json('{"a": [1.5, 18446744073709551615, null, true, "x"]}') == {"a": [1.5, 2**64 - 1, None, True, "x"]}


class TestFiles:
    def test_a_regular_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")
        assert read_file(tmp_path / "a", 5) == b"12345"
        with pytest.raises(DocumentError, match="is larger than 4 B"):
            read_file(tmp_path / "a", 4)

    def test_what_may_have_no_end_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
            with pytest.raises(DocumentError, match="is no regular file"):
                read_file(path, 100)
