"""The preflight's verdicts on the terminal."""

from rich.console import Console
from rich.table import Table

from pagelab.store.record import CheckRecord
from pagelab.terminal.plain import plain

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "info": "dim"}


def print_checks(checks: list[CheckRecord], console: Console | None = None) -> None:
    """One row a check; what needs doing stands under what was found."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("verdict", "check", "found", "why it matters"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        found = check.found + (f"\nfix: {check.fix}" if check.fix else "")
        table.add_row(plain(check.verdict, _STYLES[check.verdict]), *map(plain, (check.name, found, check.why)))
    (console or Console(highlight=False)).print(table)
