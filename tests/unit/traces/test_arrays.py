"""What several modules do with arrays of one length."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagelab.traces.arrays import (
    Integers,
    Rows,
    begins,
    counted_from,
    encode,
    group_count,
    in_time,
    joined,
    known,
    sorted_pairs,
    sums,
)


@dataclass(frozen=True)
class Inner(Rows):
    size: Integers


@dataclass(frozen=True)
class Outer(Rows):
    name: str
    time: Integers
    inner: Inner
    absent: Integers | None = None


def ints(*values: int) -> Integers:
    return np.array(values, dtype=np.int64)


def test_some_rows_of_a_record_and_of_those_in_it() -> None:
    rows = Outer("disk", ints(1, 2, 3), Inner(ints(10, 20, 30)))
    for which in (slice(1, 3), np.array([False, True, True]), ints(1, 2)):
        taken = rows.taken(which)
        assert (taken.name, taken.absent, len(taken)) == ("disk", None, 2)
        assert (taken.time.tolist(), taken.inner.size.tolist()) == ([2, 3], [20, 30])


def test_columns_are_joined_and_put_in_the_order_of_time() -> None:
    none = {"time_ns": ints(), "device": ints()}
    table = joined(
        [none, {"time_ns": ints(5, 7), "device": ints(0, -1)}, {"time_ns": ints(5, 6), "device": ints(2, 3)}]
    )
    assert in_time(table)["device"].tolist() == [0, 2, 3, -1]
    assert known(table, "device")["time_ns"].tolist() == [5, 5, 6]
    assert joined([none, none])["time_ns"].tolist() == []


def test_where_groups_begin_and_what_they_sum_up_to() -> None:
    assert begins(ints(1, 1, 2, 2, 2), ints(0, 0, 0, 5, 5)).tolist() == [True, False, True, True, False]
    assert begins(ints()).tolist() == []
    assert sums(ints(2, 0, 2), ints(1 << 60, 5, 1), 4).tolist() == [5, 0, (1 << 60) + 1, 0]
    assert (group_count(ints(3, 1)), group_count(ints())) == (4, 0)


def test_numbers_from_each_place_on() -> None:
    row, number = counted_from(ints(7, 0, 3), ints(2, 0, 3))
    assert (row.tolist(), number.tolist()) == ([0, 0, 2, 2, 2], [7, 8, 3, 4, 5])


def test_distinct_values_in_the_order_of_their_appearance() -> None:
    codes, distinct = encode(ints(9, 4, 9, 5))
    assert (codes.tolist(), distinct) == ([0, 1, 0, 2], [9, 4, 5])


NUMBERS = st.sampled_from([0, 1, 2, 1 << 31, 1 << 40, (1 << 62) - 1])


@given(st.lists(st.tuples(NUMBERS | st.just(-5), NUMBERS), max_size=20))
def test_pairs_are_sorted_whether_or_not_they_fit_into_one_number(pairs: list[tuple[int, int]]) -> None:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    key, other = sorted_pairs(table[:, 0], table[:, 1])
    assert list(zip(key.tolist(), other.tolist(), strict=True)) == sorted(pairs)
