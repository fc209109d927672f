"""What comes from outside is printed as it is, by everything that prints on the terminal, and is nothing but text."""

import io
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from example_run import run_record, stored_run, trial_record, trials
from rich.console import Console

from odd_names import ODD_NAMES
from pagelab.analysis.compare import compare_runs
from pagelab.commands import cli
from pagelab.config.schema import Config
from pagelab.errors import ModelError, printable
from pagelab.models.gguf_map import read_gguf_map
from pagelab.report.run_data import RunData
from pagelab.run.plan import make_plan
from pagelab.store.record import CheckRecord, TrialRecord, Validity
from pagelab.terminal import model as model_module
from pagelab.terminal.checks import print_checks
from pagelab.terminal.comparison import print_comparison
from pagelab.terminal.plan import print_plan
from pagelab.terminal.progress import TerminalObserver
from pagelab.terminal.summary import print_summary

odd = pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)


class Screen:
    """A wide console with everything switched on that rich does to a string, and what was printed on it."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=20_000, color_system=None, force_terminal=False)

    def shows(self, name: str) -> bool:
        """Whether a name was printed as it is, each line of it, and no control code ever."""
        text = self.file.getvalue()
        assert printable(text.replace("\n", "")) == text.replace("\n", "")
        return all(printable(line) in text for line in name.split("\n"))


def odd_trials(name: str) -> list[TrialRecord]:
    records = [one.model_copy(update={"factors": one.factors.model_copy(update={"model": name})}) for one in trials()]
    other = trial_record(10, 0.5, 5.0)
    return [*records, other.model_copy(update={"validity": Validity(valid=False, reasons=[f"because of {name}"])})]


@odd
def test_a_summary_shows_names_as_they_are(tmp_path: Path, name: str) -> None:
    store = stored_run(tmp_path, [trial_record(1, 1.0, 80.0)], tokens=False)
    run = run_record(experiment=name, host=name, notes=[f"note {name}"], forced=[name])
    screen = Screen()
    print_summary(RunData(store, run, odd_trials(name)), screen.console)
    assert screen.shows(name)
    for line in (f"Trial 010 is invalid and left out: because of {name}.", f"! note {name}", f"{name} on {name}"):
        assert screen.shows(line)


@odd
def test_a_comparison_shows_names_as_they_are(tmp_path: Path, name: str) -> None:
    stores = [stored_run(tmp_path, trials(), tokens=False, run_id=run_id) for run_id in ("one", "two")]
    found = compare_runs(stores)
    runs = [run_record(experiment=name, host=f"{name}{letter}", run_id=letter) for letter in "ab"]
    screen = Screen()
    print_comparison(replace(found, runs=tuple(runs), trials=(odd_trials(name), odd_trials(name))), screen.console)
    assert screen.shows(f"A: {name} on {name}a, a")
    assert screen.shows(f"because of {name}")


@odd
def test_checks_and_a_plan_show_names_as_they_are(name: str) -> None:
    screen = Screen()
    print_checks(
        [CheckRecord(name=name, verdict="fail", found=name, why=f"why {name}", fix=f"do {name}")], screen.console
    )
    assert screen.shows(f"why {name}")
    assert screen.shows(f"fix: do {name}")
    models = [{"name": "m", "source": {"file": "/m.gguf", "sha256": "0" * 64}}]
    plan = make_plan(Config.model_validate({"experiment": "e", "models": models, "repetitions": 1}))
    trial = replace(plan.trials[0], factors=plan.trials[0].factors.model_copy(update={"model": name}))
    screen = Screen()
    print_plan(replace(plan, trials=[trial]), {}, 2**34, screen.console)
    assert screen.shows(name)
    assert screen.shows("model m is not here yet")


@odd
@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_names_as_they_are(name: str, terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=20_000, color_system=None, force_terminal=terminal, highlight=False)
    with TerminalObserver(2, console) as observer:
        observer.note(f"note {name}")
        observer.begin(name, 10)
        observer.phase("decode", 3)
        observer.trial_done(trial_record(1, 0.5, 5.0, validity=Validity(valid=False, reasons=[name])), 1, 2)
    shown = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", file.getvalue())  # rich's own codes of the bar
    for line in (f"note {name}", f"INVALID: {name}", name):
        assert all(printable(part) in shown for part in line.split("\n"))
    if terminal:
        assert "decode 3/10" in shown


def write_model(path: Path, name: bytes, kind: int = 0) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    pairs = [text(key) + struct.pack("<I", 8) + text(name) for key in (b"general.architecture", b"general.name")]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + b"".join(pairs) + text(name[:64])
    head += struct.pack("<IQIQ", 1, 8, kind, 0)
    path.write_bytes(head + bytes(-len(head) % 32 + 32))


@odd
def test_a_model_shows_its_name_and_its_path(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{name[:80].replace('/', '%').replace(chr(0), '0').replace(chr(0xD800), '')}.gguf"
    raw = name.encode(errors="replace")
    write_model(path, raw)
    screen = Screen()
    monkeypatch.setattr(model_module, "Console", lambda: screen.console)
    model_module.print_tables(read_gguf_map(path))
    assert screen.shows(read_gguf_map(path).name)
    assert screen.shows(printable(str(path)))
    if len(raw) <= 200:
        assert screen.shows(printable(raw.decode(errors="replace")))
    write_model(path, raw, kind=250)
    with pytest.raises(ModelError) as caught:
        read_gguf_map(path)
    assert printable(str(caught.value)) == str(caught.value)
    assert len(str(caught.value)) < 700
    with pytest.raises(SystemExit):
        cli.main(["model", "inspect", str(path)])
    said = capsys.readouterr().err
    assert said == f"pagelab: {caught.value}\n"


@odd
def test_what_was_typed_is_repeated_as_text_and_not_at_length(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([name * 5000])
    said = capsys.readouterr().err
    assert said.startswith("pagelab: ")
    assert len(said) < 1700
    assert printable(said[:-1]) == said[:-1]
