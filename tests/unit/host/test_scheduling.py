import os
from pathlib import Path

import pytest

from pagelab.host.scheduling import RunDelay, run_delay, stall_seconds


def test_the_delays_of_all_threads_are_summed(tmp_path: Path) -> None:
    for thread, line in (("7", "1500000000 250000000 3\n"), ("8", "500000000 750000000 9\n")):
        (tmp_path / "7" / "task" / thread).mkdir(parents=True)
        (tmp_path / "7" / "task" / thread / "schedstat").write_text(line)
    assert run_delay(7, tmp_path) == RunDelay(2.0, 1.0)


def test_a_kernel_that_does_not_say_is_no_zero(tmp_path: Path) -> None:
    assert run_delay(7, tmp_path) is None
    assert stall_seconds("cpu", tmp_path) is None


def test_a_process_of_this_host_has_run() -> None:
    seen = run_delay(os.getpid())
    if seen is None:
        pytest.skip("this kernel has no CONFIG_SCHED_INFO")
    assert seen.run_seconds > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (
            b"some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
            2.5,
        ),
        (b"full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", None),
        (b"some avg10=0.00\n", None),
        (b"some total=x\n", None),
        (b"", None),
    ],
)
def test_stalls(tmp_path: Path, text: bytes, seconds: float | None) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_bytes(text)
    assert stall_seconds("memory", tmp_path) == seconds
