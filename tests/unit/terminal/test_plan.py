"""A plan on the terminal: the first trials and, of all, the sums."""

from example_raw import CONFIG
from rich.console import Console

from pagelab.config.load import parse_config
from pagelab.run.plan import make_plan
from pagelab.terminal.plan import SHOWN_TRIALS, print_plan


def text_of(repetitions: int) -> str:
    console = Console(width=160, color_system=None, force_terminal=False, highlight=False)
    plan = make_plan(parse_config(CONFIG % ("0" * 64) + f"repetitions: {repetitions}\n", "test"))
    with console.capture() as capture:
        print_plan(plan, {"gemma-3-270m": 10**9}, 24 * 10**9, console)
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
