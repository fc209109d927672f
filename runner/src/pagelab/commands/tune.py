"""`pagelab tune`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pagelab.commands.environment import builds_directory, state_directory
from pagelab.commands.sizes import size_option


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="the model's file")],
    ram: Annotated[str, typer.Option(metavar="SIZE", help="of the memory that llama.cpp gets, such as 8GiB")],
    tokens: Annotated[int, typer.Option(min=6, help="to generate each time")] = 16,
    repetitions: Annotated[int, typer.Option(min=3, help="of the best few, and of the kernel alone")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print what was found as JSON")] = False,
) -> None:
    """Find what makes a model fastest in so much RAM, by trying it, and print the command that uses it."""
    from pagelab.config.schema import InferenceSettings
    from pagelab.host.journal import Journal, exclusive, restore
    from pagelab.host.storage import disk_of_all
    from pagelab.inference.build import open_build
    from pagelab.models.gguf_map import read_gguf_map
    from pagelab.run.disk_profile import disk_rates_of
    from pagelab.run.tune import TuningBench
    from pagelab.run.tune import tune as find_fastest
    from pagelab.terminal.tune import print_tuned

    ram_bytes = size_option("--ram", ram)
    found, state = read_gguf_map(model), state_directory()
    with exclusive(state):
        restore(state)
        disk = disk_of_all(found.parts)
        rates = disk_rates_of(found.largest_part, disk, state)
        bench = TuningBench(
            found,
            disk,
            open_build(builds_directory() / "pin"),
            Journal(state),
            ram_bytes,
            InferenceSettings(tokens=tokens),
        )
        tuned = find_fastest(bench, rates, repetitions, lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps(asdict(tuned), indent=2))
    else:
        print_tuned(tuned, found, disk)
