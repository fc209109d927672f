"""The command line: python -m virtual_lab up | down | status."""

import subprocess
import sys
from typing import Annotated

import typer

from virtual_lab import lab
from virtual_lab.errors import VirtualLabError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def up(
    count: Annotated[int, typer.Option(min=1, max=99, help="How many machines there are to be.")] = 2,
    memory_mib: Annotated[int, typer.Option(min=512, help="Memory of each machine that is made now.")] = 1536,
    cpus: Annotated[int | None, typer.Option(min=1, help="Processors of each machine that is made now.")] = None,
    disk_gib: Annotated[int, typer.Option(min=3, help="Size of the disk of each machine that is made now.")] = 8,
) -> None:
    """Start machines lab1 to labN and write the inventory; those that are there already stay as they are."""
    lab.up(count, memory_mib=memory_mib, cpus=cpus, disk_gib=disk_gib)


@app.command()
def down(
    packages: Annotated[bool, typer.Option("--packages", help="Also remove the packages that `up` installed.")] = False,
) -> None:
    """Remove every machine and the inventory; keeps the disk images."""
    lab.down(packages=packages)


@app.command()
def status() -> None:
    """List the machines."""
    lab.status()


def main() -> None:
    """Run a command; what the user can put right is one sentence."""
    try:
        app()
    except (VirtualLabError, subprocess.CalledProcessError) as error:
        typer.echo(f"virtual_lab: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
