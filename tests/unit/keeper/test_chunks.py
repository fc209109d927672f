"""Chunks of files: every byte of each file lies in one."""

from hypothesis import given
from hypothesis import strategies as st

from pagelab.keeper.chunks import CHUNK_BYTES, Chunks

SIZES = st.lists(st.integers(1, 5 * CHUNK_BYTES), min_size=1, max_size=4)


@given(SIZES)
def test_the_chunks_of_each_file_cover_it_once(sizes: list[int]) -> None:
    chunks = Chunks(sizes)
    ends = [0] * len(sizes)
    for chunk in range(len(chunks)):
        file, offset, length = chunks.place(chunk)
        assert offset == ends[file]
        assert 0 < length <= CHUNK_BYTES
        ends[file] += length
    assert ends == sizes


@given(SIZES, st.data())
def test_a_stretch_lies_within_its_chunks(sizes: list[int], data: st.DataObject) -> None:
    chunks = Chunks(sizes)
    file = data.draw(st.integers(0, len(sizes) - 1))
    first = data.draw(st.integers(0, sizes[file] - 1))
    end = data.draw(st.integers(first + 1, sizes[file]))
    places = [chunks.place(chunk) for chunk in chunks.within(file, first, end - first)]
    assert {place.file for place in places} == {file}
    assert places[0].offset <= first < places[0].offset + places[0].length
    assert places[-1].offset < end <= places[-1].offset + places[-1].length
