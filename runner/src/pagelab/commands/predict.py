"""`pagelab predict`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagelab.errors import ConfigError, shown

if TYPE_CHECKING:
    from pagelab.host.disk_rates import DiskRates

_SHARES = ",".join(f"{tenth / 10:g}" for tenth in range(11))


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the directory of a run")],
    resident: Annotated[str, typer.Option("--resident", metavar="SHARES", help="with commas between")] = _SHARES,
    disk: Annotated[
        Path | None, typer.Option("--disk", metavar="FILE|RUN", help="rates of another disk, or a run on its host")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", metavar="RUN", help="runs to hold the predictions against")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the predictions as JSON")] = False,
) -> None:
    """Predict tokens a second over the share of the weights in RAM, from a run that was measured at a few."""
    from pagelab.analysis.predict import predict_run, relative_errors
    from pagelab.store.run_store import RunStore
    from pagelab.store.verify import trusted
    from pagelab.terminal.prediction import print_prediction

    store = RunStore.open(run)
    trials, _ = trusted(store, store.read_run())
    counted = [trial for trial in trials if trial.validity.valid]
    curves = predict_run(store, counted, _shares(resident), _rates(disk) if disk else None)
    others = [trial for one in map(RunStore.open, against or ()) for trial in trusted(one, one.read_run())[0]]
    valid = [trial for trial in others if trial.validity.valid]
    errors = [error for curve in curves for error in relative_errors(curve, valid)]
    if as_json:
        document = [asdict(curve) | {"factors": curve.factors.document()} for curve in curves]
        typer.echo(json.dumps({"curves": document, "errors": errors}, indent=2, default=lambda one: one.document()))
    else:
        print_prediction(curves, errors)


def _shares(text: str) -> list[float]:
    try:
        shares = [float(word) for word in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise ConfigError(f"--resident {shown(text, 80)}: write shares from 0 to 1 with commas between, as 0,0.5,1")
    return shares


def _rates(place: Path) -> "DiskRates":
    """The rates in a file, or those that a run's host measured."""
    from pagelab.run.disk_profile import read_disk_rates
    from pagelab.store.run_store import RunStore

    if not place.is_dir():
        return read_disk_rates(place)
    store = RunStore.open(place)
    seen = (store.read_observation(number).disk_rates for number in store.observed_trials())
    found = next(filter(None, seen), None)
    if found is None:
        raise ConfigError(f"{place} has no rates of its disk: it was made by an older pagelab")
    return found
