"""The command line: reads arguments, calls one function of the lab, prints, and turns errors into exit codes."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pagelab import __version__, errors
from pagelab.commands.environment import builds_directory, models_directory, owner_from_environment, state_directory
from pagelab.commands.hold import hold
from pagelab.commands.model import SetOption, model_app
from pagelab.commands.predict import predict
from pagelab.commands.trace import trace_app
from pagelab.commands.tune import tune

if TYPE_CHECKING:  # loaded by the commands that need them, so that --help answers at once
    from pagelab.config.schema import Config
    from pagelab.run.lab import Lab
    from pagelab.run.plan import Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure LLM inference when the model does not fit in RAM and its weights are read from an SSD.",
)
app.add_typer(model_app, name="model")
app.add_typer(trace_app, name="trace")
app.command()(predict)
app.command()(hold)
app.command()(tune)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="the experiment's YAML file")]
ResultsOption = Annotated[Path, typer.Option("--results", help="directory that holds all results")]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="FACTOR=VALUE", help="only the trials with this value; may repeat")
]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Options before the command; `main` reads --debug itself, since errors pass through there."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from pagelab.config.schema import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))


@app.command()
def plan(
    config_path: ConfigArgument,
    results: ResultsOption = Path("results"),
    only: OnlyOption = None,
    settings: SetOption = None,
) -> None:
    """List the trials that would run, with memory sizes and estimates of time, disk and swap; runs nothing."""
    from pagelab.config.load import load_config
    from pagelab.host.procfs import total_memory_bytes
    from pagelab.run.estimate import known_read_rate
    from pagelab.run.plan import check_sizes, known_weights_bytes
    from pagelab.terminal.plan import print_plan

    config, total = load_config(config_path, settings or ()), total_memory_bytes()
    known = known_weights_bytes(config, models_directory())
    check_sizes(config, known, total)
    print_plan(_selected_plan(config, only), known, total, read_rate=known_read_rate(results, _lab(results).host))


@app.command()
def engines(config_path: ConfigArgument, settings: SetOption = None) -> None:
    """Say which builds of llama.cpp a configuration uses, by the names of its factor `engine`."""
    from pagelab.config.load import load_config

    for engine in load_config(config_path, settings or ()).engines():
        typer.echo(engine)


@app.command()
def preflight(
    config_path: ConfigArgument,
    results: ResultsOption = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="print the checks as JSON")] = False,
    settings: SetOption = None,
) -> None:
    """Run every check: verdict, what was found, why it matters, and what fixes it."""
    from pagelab.config.load import load_config
    from pagelab.run.preflight import refusals, run_checks
    from pagelab.terminal.checks import print_checks

    checks = run_checks(load_config(config_path, settings or ()), _lab(results))
    if as_json:
        typer.echo(json.dumps([check.document() for check in checks], indent=2))
    else:
        print_checks(checks)
    if refusals(checks):
        raise typer.Exit(errors.EXIT_PREFLIGHT_REFUSED)


@app.command()
def run(
    config_path: ConfigArgument,
    results: ResultsOption = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest unfinished run of this")] = False,
    only: OnlyOption = None,
    settings: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="run although a check failed; recorded in the run")] = False,
    skip_eviction: Annotated[
        bool, typer.Option("--skip-eviction", hidden=True, help="leave the model in the page cache: an invalid trial")
    ] = False,
) -> None:
    """Run the experiment, print its table, and write its report."""
    from pagelab.config.load import load_config
    from pagelab.run.experiment import run_experiment
    from pagelab.terminal.progress import TerminalObserver

    config = load_config(config_path, settings or ())
    selected = _selected_plan(config, only)
    with TerminalObserver(len(selected.trials), stopped=_stop_was_asked_for) as observer:
        store = run_experiment(
            selected, _lab(results), observer, resume=resume, force=force, skip_eviction=skip_eviction
        )
    with saying_that_the_page_is_left(store.directory):
        # Drawing and statistics take seconds to load on a slow machine, and memory: after the trials.
        from pagelab.report.page import write_report
        from pagelab.report.run_data import RunData
        from pagelab.terminal.summary import print_summary

        data = RunData.read(store)
        print_summary(data)
        typer.echo(f"\nPage: {write_report(data)}")
    if any(not trial.validity.valid for trial in data.trials):
        raise typer.Exit(errors.EXIT_INVALID_TRIALS)


@contextmanager
def saying_that_the_page_is_left(run_directory: Path) -> Iterator[None]:
    """Say what to do where a run ends after its last trial and before its page is written."""
    left = f"all trials are finished, and only the page is left: `pagelab report {run_directory}` or --resume writes it"
    try:
        yield
    except errors.StoreError as error:
        raise errors.StoreError(f"{error}; {left}") from error
    except KeyboardInterrupt:
        typer.echo(f"pagelab: {left}", err=True)
        raise


RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="directories of runs")]
IncludeInvalidOption = Annotated[
    bool, typer.Option("--include-invalid", help="count invalid trials too; what is printed says so in big words")
]


@app.command()
def report(runs: RunsArgument, include_invalid: IncludeInvalidOption = False) -> None:
    """Write the report of each run again from its files, and print its table."""
    from pagelab.report.page import write_report
    from pagelab.report.run_data import RunData
    from pagelab.store.run_store import RunStore
    from pagelab.terminal.summary import print_summary

    for directory in runs:
        data = RunData.read(RunStore.open(directory, owner_from_environment()), include_invalid)
        print_summary(data)
        typer.echo(f"\nPage: {write_report(data)}")


@app.command()
def analyze(runs: RunsArgument) -> None:
    """Compute every derived file of each run again from its raw files, here or on another machine."""
    from pagelab.analysis.analyze import analyse_run
    from pagelab.store.run_store import RunStore

    failed = 0
    for directory in runs:
        found = analyse_run(RunStore.open(directory, owner_from_environment()))
        typer.echo(f"{directory}: {len(found.computed)} trials computed again")
        for note in found.notes:
            typer.echo(f"! {errors.printable(note)}")
        failed += len(found.failed)
    if failed:
        noun = "trial" if failed == 1 else "trials"
        raise errors.StoreError(f"{failed} {noun} could not be computed again: restore what is named above from a copy")


@app.command()
def compare(
    runs: RunsArgument,
    include_invalid: IncludeInvalidOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the comparison as JSON")] = False,
) -> None:
    """Hold runs or hosts against the first one: first whether they are the same experiment, then speeds."""
    from pagelab.analysis.compare import compare_runs
    from pagelab.store.run_store import RunStore
    from pagelab.terminal.comparison import print_comparison

    comparison = compare_runs([RunStore.open(directory) for directory in runs], include_invalid)
    if as_json:
        typer.echo(json.dumps(comparison.document(), indent=2))
    else:
        print_comparison(comparison)


@app.command()
def restore() -> None:
    """Put back every kernel setting that a killed run left changed, remove its groups, and say what was undone."""
    from pagelab.host.journal import exclusive
    from pagelab.host.journal import restore as restore_host

    with exclusive(state_directory()):
        undone = restore_host(state_directory())
    for sentence in undone or ["nothing was left to put back"]:
        typer.echo(sentence)


def _selected_plan(config: "Config", only: list[str] | None) -> "Plan":
    from pagelab.run.plan import make_plan, select

    whole = make_plan(config)
    if not only:
        return whole
    pairs = [item.partition("=") for item in only]
    for name, equals, _ in pairs:
        if not equals:
            raise errors.ConfigError(
                f"--only {errors.shown(name, 80)}: write FACTOR=VALUE, for example --only resident=0.5"
            )
    return select(whole, {name: value for name, _, value in pairs})


def _lab(results: Path) -> "Lab":
    from pagelab.run.lab import Lab

    return Lab(
        builds_directory=builds_directory(),
        models_directory=models_directory(),
        results_directory=results,
        state_directory=state_directory(),
        host=os.environ.get("PAGELAB_HOST") or "localhost",
        image_digest=os.environ.get("PAGELAB_IMAGE") or None,
        owner=owner_from_environment(),
    )


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, once: a second one may not cut short the cleaning up after the first."""
    for number in STOP_SIGNALS:  # not SIG_IGN: Python prints a traceback for a signal that it caught just before
        signal.signal(number, _stopping_already)
    raise KeyboardInterrupt


def _stopping_already(_number: int, _frame: FrameType | None) -> None: ...


def _stop_was_asked_for() -> bool:
    return signal.getsignal(signal.SIGTERM) is _stopping_already


def main(arguments: list[str] | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """Entry point: one sentence on standard error for what pagelab can explain, no traceback unless --debug."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given or environment.get("PAGELAB_DEBUG") == "1"
    for number in STOP_SIGNALS:  # a stopped container and a closed terminal end as Ctrl-C does
        signal.signal(number, _interrupt)
    try:
        code = app(args=given, standalone_mode=False)
        if code == errors.EXIT_INTERRUPTED:  # typer answers this where Ctrl-C ended a command
            raise KeyboardInterrupt
    except errors.PagelabError as error:
        if debug:
            raise
        sys.exit(_fail(str(error), error.exit_code))
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted; finished trials are kept, --resume goes on", errors.EXIT_INTERRUPTED)
        if _stop_was_asked_for():
            _leave_at_once(code)
        sys.exit(code)
    except typer.TyperException as error:  # a misspelt command or option; where nothing was typed, the help was printed
        problem = " ".join(error.format_message().split())
        code = errors.EXIT_BAD_INPUT
        sys.exit(_fail(f"{problem}; `pagelab --help` shows what there is", code) if problem else code)
    sys.exit(code if isinstance(code, int) else 0)


def _leave_at_once(code: int) -> NoReturn:
    """Exit without Python's own end, which puts default handlers back: one more signal would change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"pagelab: {errors.shown(sentence, errors.LONGEST_MESSAGE)}\n")
    return code
