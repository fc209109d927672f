"""Text from outside (names, paths, messages of the system) on the terminal: as it is, and nothing but text.

A string that is given to rich is markup: `[v2]` in it would vanish, `[/INST]` be an error and `:warning:` a picture.
Control codes in it would reach the terminal. So everything that may come from outside is printed by `plain`.
"""

from rich.text import Text

from pagelab.errors import printable


def plain(value: object, style: str = "") -> Text:
    """A text of any lines for rich, with control codes written out."""
    return Text(printable(str(value), lines=True), style=style)
