"""`pagelab hold`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pagelab.commands.sizes import size_option

if TYPE_CHECKING:
    from pagelab.keeper.request import KeeperReport

_Strategy = Literal["behind", "hold", "hold+behind", "hold+behind+stream"]


def hold(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="the model's file, which COMMAND maps")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="what to run, such as llama-cli")],
    strategy: Annotated[_Strategy, typer.Option(help="what to do beside holding")] = "hold+behind+stream",
    budget: Annotated[
        str, typer.Option(metavar="SIZE|auto", help="of the model to hold in RAM; auto follows the memory there is")
    ] = "auto",
) -> None:
    """Run a command that maps a model larger than RAM, and keep in RAM what the kernel would lose.

    Needs no lab and no configuration: docs/keeper.md says what it does and what it may need.
    """
    from pagelab.keeper.hold import held, hold_plan, run_beside
    from pagelab.models.gguf_map import read_gguf_map
    from pagelab.units import format_bytes

    size = None if budget == "auto" else size_option("--budget", budget)
    found = read_gguf_map(model)
    plan = hold_plan(found, strategy, size)
    for note in plan.notes:
        typer.echo(f"pagelab: {note}", err=True)
    with held(found, plan) as keeper:
        first, whole = format_bytes(keeper.held_first_bytes), format_bytes(found.weights_bytes)
        typer.echo(f"pagelab: {first} of {whole} of weights are held", err=True)
        status, report = run_beside(keeper, command)
    if report is None:
        typer.echo("pagelab: the keeper was killed; the command went on without it", err=True)
    else:
        typer.echo(f"pagelab: {_in_words(report)}", err=True)
    raise typer.Exit(status)


def _in_words(report: "KeeperReport") -> str:
    from pagelab.keeper.chunks import CHUNK_BYTES
    from pagelab.units import format_bytes

    let_go, read = (format_bytes(count * CHUNK_BYTES) for count in (report.chunks_let_go, report.chunks_read_ahead))
    refused = f"; the kernel refused ({report.refused})" if report.refused else ""
    held = format_bytes(report.most_held_bytes)
    return f"at most {held} were held, {let_go} let go after their use, {read} read ahead{refused}"
