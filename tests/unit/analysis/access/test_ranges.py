"""Sets of bytes, against Python's own sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.access.ranges import Ranges, covered_bytes, shared_bytes, union

Range = tuple[int, int, int]

GROUPS = 3
some = st.lists(st.tuples(st.integers(0, GROUPS - 1), st.integers(0, 30), st.integers(0, 31)), max_size=12)


def ranges(given: list[Range]) -> Ranges:
    table = np.array(given, dtype=np.int64).reshape(-1, 3)
    return Ranges(table[:, 0], table[:, 1], table[:, 2])


def byte_set(given: list[Range], group: int) -> set[int]:
    return {byte for number, start, end in given if number == group for byte in range(start, end)}


class TestUnion:
    def test_by_hand(self) -> None:
        joined = union(*vars(ranges([(0, 5, 9), (0, 0, 5), (0, 7, 8), (0, 20, 21), (1, 9, 20), (1, 30, 30)])).values())
        assert joined.group.tolist() == [0, 0, 1]
        assert joined.start.tolist() == [0, 20, 9]
        assert joined.end.tolist() == [9, 21, 20]
        assert joined.total_bytes == 21

    def test_nothing(self) -> None:
        assert union(*vars(ranges([])).values()).total_bytes == 0

    @given(some)
    def test_covers_the_same_bytes(self, given: list[Range]) -> None:
        joined = union(*vars(ranges(given)).values())
        rows = list(zip(joined.group.tolist(), joined.start.tolist(), joined.end.tolist(), strict=True))
        for group in range(GROUPS):
            assert byte_set(rows, group) == byte_set(given, group)
        assert rows == sorted(rows)
        assert len(rows) == len({(group, byte) for group in range(GROUPS) for byte in _starts(byte_set(given, group))})

    @given(some)
    def test_far_out_as_well(self, given: list[Range]) -> None:
        group, start, end = vars(ranges(given)).values()
        far = 1 << 59  # where a start and a length no longer fit into one number
        near, moved = union(group * 0, start, end), union(group * 0, start + far, end + far)
        assert (moved.start - far).tolist() == near.start.tolist()
        assert (moved.end - far).tolist() == near.end.tolist()

    @given(some, some)
    def test_counts(self, one: list[Range], other: list[Range]) -> None:
        covered = covered_bytes(*vars(ranges(one)).values(), GROUPS).tolist()
        assert covered == [len(byte_set(one, group)) for group in range(GROUPS)]
        shared = shared_bytes(ranges(one), ranges(other), GROUPS).tolist()
        assert shared == [len(byte_set(one, group) & byte_set(other, group)) for group in range(GROUPS)]


def _starts(held: set[int]) -> list[int]:
    return [byte for byte in held if byte - 1 not in held]
