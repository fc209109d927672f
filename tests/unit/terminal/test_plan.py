"""A plan on the terminal: the first trials and, of all, the sums."""

from example_raw import CONFIG
from rich.console import Console

from pagelab.config.load import parse_config
from pagelab.run.plan import make_plan
from pagelab.terminal.plan import SHOWN_TRIALS, print_plan


def text_of(repetitions: int, more: str = "", read_rate: float | None = None) -> str:
    console = Console(width=160, color_system=None, force_terminal=False, highlight=False)
    plan = make_plan(parse_config(CONFIG % ("0" * 64) + f"repetitions: {repetitions}\n{more}", "test"))
    with console.capture() as capture:
        print_plan(plan, {"gemma-3-270m": 10**9}, 24 * 10**9, console, read_rate)
    return capture.get()


def test_a_short_plan_is_shown_whole() -> None:
    text = text_of(3)
    assert sum("gemma-3-270m" in line for line in text.splitlines()) == 9
    assert "9 trials; about" in text
    assert "more;" not in text


def test_of_a_long_plan_the_first_trials_and_the_sum_of_all() -> None:
    text = text_of(1000)
    assert sum("gemma-3-270m" in line for line in text.splitlines()) == SHOWN_TRIALS
    assert f"… and {3000 - SHOWN_TRIALS} more;" in text
    assert "3000 trials; about" in text


def test_what_the_estimate_assumes_is_said() -> None:
    assert "Roughly, if the disk reads 1 GB/s, which is assumed." in text_of(3)
    found = text_of(3, read_rate=2e9)
    assert "Roughly, if the disk reads 2 GB/s, as an earlier run found here." in found
    assert "swap" not in found


def test_with_a_budget_the_least_and_the_most() -> None:
    text = text_of(3, "until: {interval: 5%, at_most: 6}\n")
    assert sum("gemma-3-270m" in line for line in text.splitlines()) == 9
    assert "\n9 to 18 trials; about " in text
    assert "; repeated until the 95 % interval of a speed is within 5 %" in text


def test_what_anonymous_weights_write_to_swap() -> None:
    text = text_of(3, "cases: [{}, {weights: anonymous, resident: [1.0, 0.5]}, {repack: true, resident: 0.75}]\n")
    assert "; 2.25 GB written to swap, if what does not fit of anonymous weights goes there once" in text
