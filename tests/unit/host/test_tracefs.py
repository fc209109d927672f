"""What a trace instance says of the events that it could not keep."""

from pathlib import Path

from pagelab.host.tracefs import Instance

STATS = "entries: 3\noverrun: {}\ncommit overrun: 0\noldest event ts: 12.345678\ndropped events: 2\n"


def instance(root: Path, *stats: str) -> Instance:
    found = Instance(root)
    for number, text in enumerate(stats):
        directory = found.path / "per_cpu" / f"cpu{number}"
        directory.mkdir(parents=True)
        (directory / "stats").write_text(text)
    return found


def test_lost_events_of_all_processors(tmp_path: Path) -> None:
    assert instance(tmp_path, STATS.format(5), STATS.format(0)).lost_events() == 5 + 2 + 2


def test_where_a_processor_does_not_say_the_number_is_unknown(tmp_path: Path) -> None:
    assert instance(tmp_path / "1", STATS.format(0), "entries: 3\n").lost_events() is None
    assert instance(tmp_path / "2", STATS.format(0), "").lost_events() is None
    assert instance(tmp_path / "3").lost_events() is None
