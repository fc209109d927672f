"""`pagelab model inspect | synth | fetch | files`.

What only one of the commands needs is loaded by that one: looking into a model is a matter of a moment, and loading
what reads configurations and generates models takes longer than that.
"""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pagelab.errors import ConfigError
from pagelab.units import format_bytes

if TYPE_CHECKING:
    from pagelab.config.model_specs import ModelSpec

model_app = typer.Typer(help="Look into, generate and fetch model files.", no_args_is_help=True)


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="what the configuration has here, as factors.resident=[1.0,0]; may repeat"
    ),
]


class _Kind(StrEnum):  # typer takes no list of Literal
    SYNTHETIC = "synthetic"
    URL = "url"


@model_app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A model in GGUF format.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the place of every tensor.")] = False,
) -> None:
    """Say what a model is: dense or not, architecture, attention, quantisation, and bytes by kind of tensor.

    Reads the header only. Of a split model, any part may be given.
    """
    from pagelab.models.gguf_map import read_gguf_map
    from pagelab.terminal.model import document, headline, print_tables

    model = read_gguf_map(file)
    if as_json:
        typer.echo(json.dumps(document(model), indent=2))
        return
    typer.echo(headline(model))
    print_tables(model)


@model_app.command()
def synth(
    architecture: Annotated[Literal["llama", "moe"], typer.Option(help="llama is dense, moe has experts.")],
    output: Annotated[Path, typer.Option(help="The file to write.")],
    size: Annotated[
        str | None, typer.Option(help="Of the file, such as 8GiB; in place of layers, width and feed-forward.")
    ] = None,
    layers: Annotated[int | None, typer.Option()] = None,
    width: Annotated[int | None, typer.Option(help="Length of the hidden state.")] = None,
    feed_forward: Annotated[
        int | None, typer.Option(help="Length of the inner layer; of one expert for moe.", show_default=False)
    ] = None,
    weight_type: Annotated[
        str, typer.Option("--type", help="Q4_0, Q4_K, MXFP4, F16 or another type of llama.cpp.")
    ] = "Q4_0",
    heads: Annotated[int | None, typer.Option(help="Default: width / 64.", show_default=False)] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Default: heads / 4.", show_default=False)] = None,
    experts: Annotated[int | None, typer.Option(help="Default for moe: 8.", show_default=False)] = None,
    experts_used: Annotated[int | None, typer.Option(help="Default for moe: 2.", show_default=False)] = None,
    vocabulary: Annotated[int, typer.Option(help="Number of tokens.")] = 2048,
    context: Annotated[int, typer.Option(help="Context length that the file declares.")] = 4096,
    seed: Annotated[int, typer.Option(help="One seed gives one file, byte for byte.")] = 0,
    router_skew: Annotated[
        str | None,
        typer.Option(
            help="For moe: 0 uses all experts alike, more the same few; or olmoe, deepseek-v4-flash. Default: random.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Generate a model with random weights, which llama.cpp loads and runs."""
    from pydantic import ValidationError

    from pagelab.config.model_specs import SyntheticSource
    from pagelab.models.synthetic import write_synthetic

    shape = {
        "architecture": architecture,
        "size": size,
        "layers": layers,
        "width": width,
        "feed_forward": feed_forward,
        "heads": heads,
        "kv_heads": kv_heads,
        "experts": experts,
        "experts_used": experts_used,
        "vocabulary": vocabulary,
        "context": context,
        "type": weight_type,
        "seed": seed,
        "router_skew": _number_or_word(router_skew),
    }
    given = {key: value for key, value in shape.items() if value is not None}
    try:
        source = SyntheticSource.model_validate({"synthetic": given})
    except ValidationError as error:
        first = error.errors()[0]
        _, *place = first["loc"]
        option = f"--{str(place[0]).replace('_', '-')}: " if place else ""
        raise ConfigError(f"{option}{first['msg'].removeprefix('Value error, ')}") from error
    write_synthetic(source.synthetic, output)
    typer.echo(f"{output}: {format_bytes(output.stat().st_size)}")


def _number_or_word(given: str | None) -> float | str | None:
    try:
        return float(given) if given is not None else None
    except ValueError:
        return given


@model_app.command()
def fetch(
    config: Annotated[Path, typer.Argument(help="An experiment's configuration.")],
    models: Annotated[Path, typer.Option(envvar="PAGELAB_MODELS", help="The directory that holds the models.")],
    thorough: Annotated[bool, typer.Option(help="Read files that are there again, to check their sha256.")] = False,
    skip: Annotated[
        list[_Kind] | None,
        typer.Option(help="Leave models from this kind of source; may repeat."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there as JSON.")] = False,
    settings: SetOption = None,
) -> None:
    """Fetch or generate every model of a configuration; one that is there already is left as it is."""
    from pagelab.config.load import load_config
    from pagelab.config.model_specs import SyntheticSource, UrlSource
    from pagelab.models.catalog import file_specs

    sources = {_Kind.SYNTHETIC: SyntheticSource, _Kind.URL: UrlSource}
    left = tuple(sources[kind] for kind in skip or [])
    wanted = [spec for spec in load_config(config, settings or ()).models if not isinstance(spec.source, left)]
    fetched = [_fetched(file, models, thorough) for spec in wanted for file in file_specs(spec)]
    if as_json:
        typer.echo(json.dumps(fetched, indent=2))
        return
    for model in fetched:
        typer.echo(f"{'changed' if model['changed'] else 'unchanged'}: {model['name']}")


@model_app.command()
def files(
    config: Annotated[Path, typer.Argument(help="An experiment's configuration.")],
    models: Annotated[Path, typer.Option(envvar="PAGELAB_MODELS", help="The directory that holds the models.")],
    null: Annotated[bool, typer.Option("--null", help="End each name with a NUL, as `find -print0` does.")] = False,
    settings: SetOption = None,
) -> None:
    """Say where the model files of a configuration are, or will be; of a split model, its first file."""
    from pagelab.config.load import load_config
    from pagelab.models.catalog import model_path

    for spec in load_config(config, settings or ()).models:
        path = model_path(spec, models)
        typer.echo(_encoded(spec.name, path) + (b"\0" if null else b"\n"), nl=False)


def _encoded(name: str, path: Path) -> bytes:
    """A path as the kernel takes it; YAML knows names that it does not."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ConfigError(f"the file of model {name} has a name that no file can have: correct it")
    return encoded


def _fetched(spec: "ModelSpec", models: Path, thorough: bool) -> dict[str, Any]:
    """Fetch one file of a model and say what it is; `file` is relative to the models directory where it is below it."""
    from pagelab.models.catalog import fetch as fetch_model
    from pagelab.models.catalog import model_path, verify_model

    changed = fetch_model(spec, models, thorough=thorough)
    path = model_path(spec, models)
    return {
        "name": spec.name,
        "file": str(path.relative_to(models) if path.is_relative_to(models) else path),
        "file_bytes": path.stat().st_size,
        "sha256": verify_model(spec, models),
        "changed": changed,
    }
