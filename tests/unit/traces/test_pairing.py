"""Which issue belongs to which completion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.traces.arrays import Columns
from pagelab.traces.events import Devices, Kind
from pagelab.traces.pairing import IssueMatcher
from pagelab.traces.problems import Problems
from raw_traces import DEVICE_NUMBER

Event = tuple[int, int, int]  # time, device, sector


def table(kind: Kind, events: list[Event]) -> Columns:
    columns = np.array(events, dtype=np.int64).reshape(-1, 3).T
    others = {name: np.zeros(len(events), dtype=np.int64) for name in kind.types}
    return kind.columns(**(others | {"time_ns": columns[0], "device": columns[1], "sector": columns[2]}))


def matched(matcher: IssueMatcher, issues: list[Event], completions: list[Event]) -> list[int | None]:
    issued_ns, known = matcher.match(table(Kind.ISSUE, issues), table(Kind.COMPLETE, completions))
    return [time if is_known else None for time, is_known in zip(issued_ns.tolist(), known.tolist(), strict=True)]


def test_the_last_issue_before_a_completion_of_the_same_place() -> None:
    issues = [(1, 0, 8), (2, 0, 16), (3, 0, 8), (4, 1, 8), (9, 0, 8), (12, 0, 16)]
    completions = [(5, 0, 8), (6, 0, 8), (7, 1, 8), (10, 0, 8), (11, 0, 24), (12, 0, 16)]
    # 8 was issued again at 3; the second completion of it has no issue of its own; one at the same moment counts.
    assert matched(IssueMatcher(Problems()), issues, completions) == [3, None, 4, 9, None, 12]


def test_an_issue_waits_for_later_batches() -> None:
    matcher = IssueMatcher(Problems())
    assert matched(matcher, [(1, 0, 8), (2, 0, 16)], []) == []
    assert matched(matcher, [(3, 0, 24)], [(4, 0, 16)]) == [2]
    assert matched(matcher, [], [(5, 0, 8), (6, 0, 16), (7, 0, 24)]) == [1, None, 3]


def test_what_never_completes_is_forgotten_at_last_the_oldest_first() -> None:
    problems = Problems()
    matcher = IssueMatcher(problems, largest_open=2)
    matched(matcher, [(1, 0, 8), (2, 0, 16), (3, 0, 24)], [])
    assert matched(matcher, [], [(4, 0, 8), (5, 0, 16), (6, 0, 24)]) == [None, 2, 3]
    assert problems.sentences() == [
        "block requests: issue of a request that did not complete within 2 others; forgotten"
    ]


def plainly(issues: list[Event], completions: list[Event]) -> list[int | None]:
    waiting: dict[tuple[int, int], int] = {}
    found: list[int | None] = []
    events = [(time, 0, place, (device, place)) for time, device, place in issues]
    events += [(time, 1, place, (device, place)) for time, device, place in completions]
    for time, is_completion, _, key in sorted(events, key=lambda event: event[:2]):
        if is_completion:
            found.append(waiting.pop(key, None))
        else:
            waiting[key] = time
    return found


@given(st.data(), st.sampled_from([1, 1 << 58, -1]))
def test_batches_of_any_size_give_what_one_by_one_gives(data: st.DataObject, scale: int) -> None:
    """Also where places are so large that a number cannot hold them with the position."""
    times = st.lists(st.integers(0, 40), max_size=12).map(sorted)
    events = [
        [(time, data.draw(st.integers(0, 2)), scale * data.draw(st.integers(0, 3))) for time in data.draw(times)]
        for _ in range(2)
    ]
    cut = data.draw(st.integers(0, 41))
    matcher = IssueMatcher(Problems())
    found = []
    for early in (True, False):
        found += matched(matcher, *([one for one in kind if (one[0] < cut) is early] for kind in events))
    assert found == plainly(*events)


@pytest.mark.parametrize("closed", [True, False])
def test_devices_that_are_not_traced(closed: bool) -> None:
    devices = Devices(["vda"], closed=closed, _indices={DEVICE_NUMBER: 0})
    indices = devices.indices(np.array([DEVICE_NUMBER, 8 << 20 | 1, DEVICE_NUMBER]))
    assert indices.tolist() == ([0, -1, 0] if closed else [0, 1, 0])
    assert devices.names == (["vda"] if closed else ["vda", "8:1"])
