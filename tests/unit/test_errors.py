"""What messages repeat of what came from outside: little of it, in one line, and printable."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pagelab.errors import in_one_line, shown


def test_values_in_words() -> None:
    given = [None, True, 2.5, 12, "GiB", [1], {"a": 1}, "a\nb\x1b[31m\u2028", "x" * 1000]
    assert [shown(value, 11) for value in given] == [
        "null", "true", "2.5", "12", "'GiB'", "a list", "a mapping", "'a\\nb\\…u2028'", "'xxxxx…xxxxx'",
    ]  # fmt: skip


@settings(derandomize=True)
@given(st.text(st.characters()), st.integers(3, 50))
def test_a_text_is_one_printable_line_of_bounded_length(text: str, most: int) -> None:
    found = in_one_line(text, most)
    assert found.isprintable()
    assert len(found) <= most
    assert found == text or len(text) > most or not text.isprintable()
