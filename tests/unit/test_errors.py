"""Messages are printable, of one line and of bounded length, whatever they repeat."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odd_names import ODD_NAMES
from pagelab.errors import LONGEST_MESSAGE, ModelError, PagelabError, StoreError, printable, quoted, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain [/INST] ü 模型 $x$", "plain [/INST] ü 模型 $x$"),
        ("a\nb\tc\x00", r"a\nb\tc\x00"),
        ("\x1b[2J\x9b", r"\x1b[2J\x9b"),
        ("\u202egpj\u2028", r"\u202egpj\u2028"),
        ("\udcff", r"\udcff"),
        ("nb\u00a0sp", "nb\u00a0sp"),
    ],
)
def test_only_what_is_no_visible_character_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(f"{text}\n{text}", lines=True) == "\n".join(
        printable(part) for part in f"{text}\n{text}".split("\n")
    )


@given(st.text(st.characters()))
def test_whatever_is_printable_can_be_encoded_and_is_one_line(text: str) -> None:
    shown_text = printable(text)
    assert len(shown_text.encode().decode().splitlines()) <= 1
    assert printable(shown_text) == shown_text


@pytest.mark.parametrize("kind", [PagelabError, ModelError, StoreError])
def test_a_message_keeps_its_beginning_and_its_remedy(kind: type[PagelabError]) -> None:
    error = kind(f"{'/long' * 100_000} cannot be read: name another file")
    assert len(str(error)) <= LONGEST_MESSAGE
    assert str(error).startswith("/long")
    assert str(error).endswith("cannot be read: name another file")


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_what_is_repeated_is_short(name: str) -> None:
    assert len(shown(name * 1000)) <= 200
    assert shown(name[:20]) == printable(name[:20])


def test_values_in_words() -> None:
    given = [None, True, 2.5, 12, "GiB", [1], {"a": 1}, "a\nb\x1b[31m\u2028", "x" * 1000]
    assert [quoted(value, 11) for value in given] == [
        "null", "true", "2.5", "12", "'GiB'", "a list", "a mapping", "'a\\nb\\…u2028'", "'xxxxx…xxxxx'",
    ]  # fmt: skip


@settings(derandomize=True)
@given(st.text(st.characters()), st.integers(3, 50))
def test_a_text_is_one_printable_line_of_bounded_length(text: str, most: int) -> None:
    found = shown(text, most)
    assert printable(found) == found
    assert len(found) <= most
    assert found == text or len(text) > most or printable(text) != text
