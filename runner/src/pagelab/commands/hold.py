"""`pagelab hold`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pagelab.errors import ConfigError, shown

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
    from pagelab.units import format_bytes, parse_bytes

    try:
        size = None if budget == "auto" else parse_bytes(budget)
    except ValueError as error:
        raise ConfigError(f"--budget {shown(budget, 40)}: {error}") from error
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
        typer.echo(f"pagelab: {_in_words(report.document())}", err=True)
    raise typer.Exit(status)


def _in_words(report: dict[str, object]) -> str:
    from pagelab.keeper.chunks import CHUNK_BYTES
    from pagelab.units import format_bytes

    sizes = {
        name: format_bytes(int(str(report[name])) * scale)
        for name, scale in (("most_held_bytes", 1), ("chunks_let_go", CHUNK_BYTES), ("chunks_read_ahead", CHUNK_BYTES))
    }
    refused = f"; the kernel refused ({report['refused']})" if report["refused"] else ""
    return (
        f"at most {sizes['most_held_bytes']} were held, {sizes['chunks_let_go']} let go after their use, "
        f"{sizes['chunks_read_ahead']} read ahead{refused}"
    )
