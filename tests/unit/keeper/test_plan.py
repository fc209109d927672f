"""From the name of a strategy to what a keeper is asked for."""

import pytest

from pagelab.keeper.chunks import CHUNK_BYTES
from pagelab.keeper.plan import AHEAD_CHUNKS, LAG_CHUNKS, Duties, duties_of, headroom_bytes
from pagelab.keeper.request import KeeperRequest
from pagelab.units import MIB


@pytest.mark.parametrize(
    ("strategy", "duties"),
    [
        ("kernel", Duties(hold=False, behind=False, stream=False)),
        ("behind", Duties(hold=False, behind=True, stream=False)),
        ("hold", Duties(hold=True, behind=False, stream=False)),
        ("hold+behind", Duties(hold=True, behind=True, stream=False)),
        ("hold+behind+stream", Duties(hold=True, behind=True, stream=True)),
    ],
)
def test_a_strategys_name_says_its_duties(strategy: str, duties: Duties) -> None:
    assert duties_of(strategy) == duties


def test_where_the_kernel_reads_each_thread_has_a_window() -> None:
    one, two = (headroom_bytes(duties_of("hold"), 8 * MIB, threads) for threads in (1, 2))
    assert two - one == 8 * MIB


def test_where_the_keeper_reads_its_chunks_have_room_instead() -> None:
    short, long = (headroom_bytes(duties_of("hold+behind+stream"), size, 2) for size in (0, 64 * MIB))
    assert short == long >= (LAG_CHUNKS + AHEAD_CHUNKS) * CHUNK_BYTES


def test_a_request_comes_over_as_it_was() -> None:
    one = KeeperRequest(["/m a.gguf", "/ü.gguf"], [0, 1, 5], [5, 0, 1], 10, 5, 3, 4, 8, ["/sys/fs/cgroup/x"], None)
    assert KeeperRequest.parse(one.line()) == one
    assert one.line().count("\n") == 1
