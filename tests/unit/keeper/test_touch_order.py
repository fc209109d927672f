"""The order in which chunks are touched: first the file's, then what was seen."""

from pagelab.keeper.touch_order import TouchOrder


def ahead(order: TouchOrder, count: int, held: frozenset[int] = frozenset()) -> list[int]:
    return list(order.ahead(count, held.__contains__))


def test_before_anything_was_touched_nothing_comes_next() -> None:
    assert ahead(TouchOrder(range(5)), 3) == []


def test_until_it_is_learnt_the_file_s_order_holds_and_the_first_follows_the_last() -> None:
    order = TouchOrder([0, 1, 2, 7])
    order.touched(2)
    assert ahead(order, 3) == [7, 0, 1]


def test_what_was_seen_comes_again_in_that_order() -> None:
    order = TouchOrder(range(6))
    for chunk in (5, 0, 1, 4, 2, 3, 5):  # the last tensor of a file is the first that is touched
        order.touched(chunk)
    assert ahead(order, 5) == [0, 1, 4, 2, 3]


def test_what_is_held_is_passed_over() -> None:
    order = TouchOrder(range(6))
    order.touched(0)
    assert ahead(order, 2, frozenset({1, 3})) == [2, 4]


def test_it_ends_after_one_turn() -> None:
    order = TouchOrder(range(4))
    order.touched(1)
    assert ahead(order, 100) == [2, 3, 0]
    assert ahead(order, 100, frozenset(range(4))) == []
