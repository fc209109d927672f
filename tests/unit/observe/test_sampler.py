"""The sampler reads until it is stopped, and keeps every reading."""

from pagelab.observe.sampler import Sampler


def test_the_sampler_reads_until_it_is_stopped_and_windows_its_samples() -> None:
    readings = iter(range(1_000_000))
    with Sampler(lambda: {"counter": next(readings), "unread": None}, 0.0, interval_seconds=0.0) as sampler:
        while len(sampler.between(float("-inf"), float("inf"), "counter")) < 2:
            pass
    table = sampler.table()
    assert table["counter"].to_pylist() == list(range(table.num_rows))
    assert table["unread"].null_count == table.num_rows
    assert sampler.between(float("-inf"), table["seconds"][0].as_py(), "counter") == [0]
    assert sampler.between(float("-inf"), float("inf"), "unread") == []
