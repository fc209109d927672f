"""What `pagelab tune` found, as it is printed."""

import shlex

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table

from pagelab.host.storage import Disk
from pagelab.models.gguf_map import GgufMap
from pagelab.report.wording import number
from pagelab.run.tune import Tuned
from pagelab.terminal.plain import plain

_HEADINGS = ("tokens/s", "from", "to", "tries", "disk allows")


def tuned_renderable(tuned: Tuned, model: GgufMap, disk: Disk) -> RenderableType:
    """A row for each candidate, the verdict, and the commands that use the choice."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("strategy")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in tuned.tried:
        speeds = [number(value) for value in (one.speed, min(one.speeds), max(one.speeds))] if one.speeds else [""] * 3
        most = "" if one.most_tokens_per_second is None else number(one.most_tokens_per_second)
        table.add_row(plain(one.candidate.words), *speeds, str(len(one.speeds)), most)
    return Group(table, plain(""), plain(verdict(tuned)), *map(plain, commands(tuned, model, disk)))


def verdict(tuned: Tuned) -> str:
    """What is fastest, in a sentence."""
    if tuned.chosen is tuned.stock:
        return f"The kernel alone is as fast as anything that was tried: {number(tuned.stock.speed)} tokens/s."
    low_high = "" if tuned.interval is None else f" (95 %: {number(tuned.interval[0])} to {number(tuned.interval[1])})"
    return (
        f"{tuned.chosen.candidate.words} is {number(tuned.ratio)} times as fast as the kernel alone{low_high}: "
        f"{number(tuned.chosen.speed)} tokens/s against {number(tuned.stock.speed)}."
    )


def commands(tuned: Tuned, model: GgufMap, disk: Disk) -> list[str]:
    """What to type to have it so; nothing where the kernel alone was chosen."""
    candidate, typed = tuned.chosen.candidate, []
    if candidate.readahead_kib is not None:
        typed.append(f"  echo {candidate.readahead_kib} | sudo tee {disk.readahead_file.resolve()}")
    if candidate.strategy != "kernel":
        path = shlex.quote(str(model.path))
        typed.append(f"  sudo pagelab hold {path} --strategy {candidate.strategy} -- llama-cli --model {path} …")
    return ["Use it by:", *typed] if typed else []


def print_tuned(tuned: Tuned, model: GgufMap, disk: Disk, console: Console | None = None) -> None:
    """Print it on the terminal."""
    (console or Console(highlight=False)).print(tuned_renderable(tuned, model, disk))
