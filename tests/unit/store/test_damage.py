"""Random damage to a run: each is noticed, by a sentence that names the file, or changes nothing that is said."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from example_raw import raw_run
from example_run import dice_of
from fuzzing import how_many

from pagelab.analysis.analyze import analyse_run
from pagelab.analysis.compare import compare_runs
from pagelab.errors import PagelabError, StoreError
from pagelab.report.run_data import RunData
from pagelab.store.files import sha256_of
from pagelab.store.run_store import RunStore
from pagelab.store.verify import verify
from pagelab.terminal.comparison import comparison_renderable
from pagelab.terminal.summary import summary_renderable
from printed import printed

DAMAGES = how_many(1000)
UNCHECKED = how_many(60)
READ_BY_ALL = 12  # of them; the others are shown to what all readers ask first
TRACE = ("trials/001/trace/cpu0.raw.zst", "trials/001/trace/cpu1.raw.zst")


class Run:
    """A run on disk, and what it was."""

    def __init__(self, results: Path) -> None:
        self.store = raw_run(results)
        analyse_run(self.store)
        self.directory = self.store.directory
        self.content = self.read()
        self.names = sorted(self.content)
        self.said = self.outputs()

    def read(self) -> dict[str, bytes]:
        paths = (path for path in self.directory.rglob("*") if path.is_file())
        return {path.relative_to(self.directory).as_posix(): path.read_bytes() for path in paths}

    def restore(self) -> None:
        """Undo all damage."""
        there = self.read()
        for name in there.keys() - self.content.keys():
            (self.directory / name).unlink()
        for name, content in self.content.items():
            if there.get(name) != content:
                (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
                (self.directory / name).write_bytes(content)

    def outputs(self) -> list[str]:
        """All that analyze, report and compare say of it."""
        store = RunStore.open(self.directory)
        answers = []
        for reader in (
            lambda: printed(summary_renderable(RunData.read(store))),
            lambda: json.dumps(compare_runs([store, store]).document()),
            lambda: printed(comparison_renderable(compare_runs([store, store]))),
            lambda: "\n".join(analyse_run(store).notes),
        ):
            try:
                answers.append(reader())
            except PagelabError as error:
                answers.append(str(error))
        return answers


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("damaged"))


def flip(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice([name for name in run.names if run.content[name]])
    content = bytearray(run.content[name])
    for _ in range(dice.choice([1, 1, 1, 8])):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    (run.directory / name).write_bytes(content)
    return [name]


def cut(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice(run.names)
    content = run.content[name]
    (run.directory / name).write_bytes(content[: dice.randrange(len(content) + 1)])
    return [name]


def lengthen(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice(run.names)
    (run.directory / name).write_bytes(run.content[name] + dice.randbytes(dice.randrange(1, 100)))
    return [name]


def empty(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice([*run.names, *TRACE * 5])
    (run.directory / name).write_bytes(b"")
    return [name]


def delete(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice(run.names)
    (run.directory / name).unlink()
    return [name]


def swap(run: Run, dice: random.Random) -> list[str]:
    """Two files change places: of one name in two trials where there are such, else any two."""
    one = dice.choice(run.names)
    alike = [name for name in run.names if name != one and Path(name).name == Path(one).name]
    other = dice.choice(alike or run.names)
    (run.directory / one).write_bytes(run.content[other])
    (run.directory / other).write_bytes(run.content[one])
    return [one, other]


def swap_trials(run: Run, dice: random.Random) -> list[str]:
    one, other = (run.directory / "trials" / name for name in dice.sample(["001", "002", "003"], 2))
    aside = run.directory / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return [f"trials/{one.name}/", f"trials/{other.name}/"]


def delete_trial(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice(["trials/001", "trials/002", "trials/003"])
    shutil.rmtree(run.directory / name)
    return [name]


def numbers_of(document: Any) -> list[tuple[Any, Any]]:
    """Where the numbers are in a JSON document: what holds each, and its key or place there."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in pairs:
        if isinstance(value, dict | list):
            found += numbers_of(value)
        elif isinstance(value, int | float):
            found.append((document, key))
    return found


def edit_number(run: Run, dice: random.Random) -> list[str]:
    name = dice.choice([name for name in run.names if name.endswith(".json")])
    document = json.loads(run.content[name])
    holder, key = dice.choice(numbers_of(document))
    number = holder[key]
    holder[key] = dice.choice(
        [number * 10, -number, number + 1, number / 2, 0, not number, 2**70, float("inf"), number]
    )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (run.directory / name).write_text(text)
    return [name]


KINDS: list[Callable[[Run, random.Random], list[str]]] = [
    flip, flip, flip, cut, lengthen, empty, delete, swap, edit_number, edit_number, swap_trials, delete_trial
]  # fmt: skip


def sentences(run: Run) -> list[str]:
    """What every reader of a run asks first."""
    try:
        return [str(one) for one in verify(RunStore.open(run.directory))]
    except StoreError as error:
        return [str(error)]


def test_random_damage(run: Run) -> None:
    dice, tried, noticed, harmless = dice_of(14), Counter[str](), Counter[str](), Counter[str]()
    damaged_files = Counter[str]()
    for number in range(DAMAGES):
        kind = dice.choice(KINDS)
        names = kind(run, dice)
        tried[kind.__name__] += 1
        damaged_files.update(names)
        said = sentences(run)
        if any(name in sentence for name in names for sentence in said):
            noticed[kind.__name__] += 1
            if number % (DAMAGES // READ_BY_ALL) == 0:
                assert_all_readers_say(run, names)
        else:
            assert said == [], (kind.__name__, names)
            if run.read() != run.content:  # equal files that changed places, or an edit that is none, say the same
                assert run.outputs() == run.said, (kind.__name__, names)
            harmless[kind.__name__] += 1
        run.restore()
    assert noticed + harmless == tried
    assert damaged_files.keys() >= set(run.names), "every file was damaged"
    assert sentences(run) == []
    assert run.outputs() == run.said
    figures = f"{tried.total()} damages: {noticed.total()} noticed, {harmless.total()} harmless {dict(harmless)}"
    print(figures)  # noqa: T201 - shown by pytest -s
    assert harmless.total() < 0.1 * DAMAGES


def assert_all_readers_say(run: Run, names: list[str]) -> None:
    """Of report, compare and analyze each names a damaged file; or the record that lists it, or that there is more."""
    for answer in run.outputs():
        flat = " ".join(answer.split())
        assert any(name in flat for name in names) or "more files" in flat, (names, flat)


def test_records_that_no_checksum_knows_give_no_traceback(run: Run) -> None:
    """As in a run of an older pagelab: readers answer, or say in a sentence what they cannot use."""
    dice = dice_of(15)
    for _ in range(UNCHECKED):
        for kind in dice.choices([flip, edit_number, swap], k=2):
            kind(run, dice)
        forget_checksums(run)
        assert run.outputs()
        run.restore()


def forget_checksums(run: Run) -> None:
    """Make the damage look like what was recorded."""
    for name in ("checksums.json", "derived.json"):
        (run.directory / name).unlink(missing_ok=True)
    for path in (run.directory / "trials").glob("*/*.json"):
        key = {"observation.json": "raw_files", "trial.json": "derived_files"}.get(path.name)
        with suppress(ValueError):  # what is no JSON any more lists nothing
            document = json.loads(path.read_text())
            if key and isinstance(document.get(key), dict):
                there = (name for name in document[key] if (path.parent / name).is_file())
                document[key] = {name: sha256_of(path.parent / name) for name in there}
                path.write_text(json.dumps(document))


@pytest.mark.parametrize("name", TRACE)
def test_an_emptied_file_of_a_cpu(run: Run, name: str) -> None:
    (run.directory / name).write_bytes(b"")
    try:
        assert_all_readers_say(run, [name])
    finally:
        run.restore()
