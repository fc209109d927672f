import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.units import GIB, MIB, format_bytes, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * GIB), ("512 MiB", 512 * MIB), ("1.5 GB", 1_500_000_000), ("4096", 4096), (77, 77), ("3 kb", 3000)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2 gigs", "-1MiB", "GiB", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (999_499, "999 kB"), (999_500, "1 MB")])
def test_a_size_goes_over_to_the_next_unit_where_it_is_rounded_up_to_it(size, text):
    assert format_bytes(size) == text


@given(st.integers(min_value=0, max_value=2**50))
def test_a_written_size_reads_back_within_its_three_digits(size):
    text = format_bytes(size)
    if text.endswith("TB"):
        return
    assert abs(parse_bytes(text) - size) <= 0.005 * size + 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12.34, "12.3 s"), (250, "4 min 10 s"), (3900, "1 h 05 min")]
)
def test_durations_are_written_for_people(seconds, text):
    assert format_seconds(seconds) == text
