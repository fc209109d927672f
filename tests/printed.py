"""What the product prints on a terminal, as plain text."""

from rich.console import Console, RenderableType


def printed(renderable: RenderableType, width: int = 120) -> str:
    """A rich renderable on a terminal without colours, `width` characters wide."""
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
