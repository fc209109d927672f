"""Whether the files of a run are what was recorded, and what is derived follows from them.

checksums.json and derived.json know the files that list the others, trial by trial: observation.json the raw ones,
trial.json the derived ones. Everything is read once, and nothing is computed.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from pagelab.errors import StoreError
from pagelab.store.checksums import CHECKSUMS, DERIVED, read_checksums
from pagelab.store.files import PARTIAL_SUFFIX, sha256_of
from pagelab.store.record import RunRecord, TrialRecord
from pagelab.store.run_store import RunStore

DamageKind = Literal["run", "unchecked", "recorded", "derived", "other"]
Sums = Mapping[str, list[str]]  # of the files that list others: what each may be

_REMEDIES: Mapping[DamageKind, str] = {
    "run": "restore it from a copy",
    "unchecked": "restore it from a copy, unless an older pagelab made this run",
    "recorded": "restore it from a copy, or repeat the trial",
    "derived": "`pagelab analyze` computes it again from the raw files",
    "other": "remove it",
}
_WRONG: Mapping[DamageKind, str] = {
    "run": "is not what was recorded",
    "unchecked": "is missing, so it is not known whether records were changed",
    "recorded": "is not what was recorded",
    "derived": "is not what was computed",
    "other": "is of no trial",
}
_RAW = {"observation.json", "llama.log", "output.txt", "trace"} | {
    f"{name}.parquet" for name in ("tokens", "samples", "residency")
}
_SHOWN = 3  # findings in one sentence
_READERS = 4  # sha256 lets other threads run


@dataclass(frozen=True)
class Finding:
    """A file that is not what it was: its path in the run, what is wrong, and of which trial it is.

    Of the `run`; `recorded` in a trial; `derived` from what was recorded; or some `other`, which nobody reads. A run
    that has no checksums is `unchecked`.
    """

    name: str
    what: str
    kind: DamageKind
    trial: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.what}: {_REMEDIES[self.kind]}"


def verify(store: RunStore) -> list[Finding]:
    """All that is not what it was, by trial and name.

    Raises:
        StoreError: checksums.json is damaged, or a file cannot be read.
    """
    return sorted(_Verification(store).findings(), key=lambda one: (one.trial or 0, one.name))


def trusted(store: RunStore, run: RunRecord) -> tuple[list[TrialRecord], list[str]]:
    """The records of a run's trials, which follow from what was recorded, and sentences on what is damaged or missing.

    Raises:
        StoreError: a file of the run, or a derived one, is not what it was.
    """
    found = verify(store)
    refuse(store, [one for one in found if one.kind in ("run", "derived")])
    trials = store.read_trials()
    for trial in trials:
        if trial.factors.model not in run.identity.model_sha256:
            raise StoreError(
                f"{store.directory}: trial {trial.trial:03d} is of the model {trial.factors.model!r:.60}, which this "
                "run did not measure: restore trials/ from a copy"
            )
    known = {trial.trial for trial in trials} | {one.trial for one in found}
    planned = range(1, run.trials_planned + 1) if run.status == "complete" else range(0)
    missing = [_trial(number) for number in islice((one for one in planned if one not in known), _SHOWN)]
    damage = shortened(map(str, found))
    if missing:
        damage.append(f"trials of a complete run are missing, first {', '.join(missing)}")
    return trials, damage


def refuse(store: RunStore, found: Collection[Finding]) -> None:
    """Raise StoreError, which names the first of what was found; do nothing where nothing was."""
    if found:
        sentences = shortened(f"{one.name} {one.what}" for one in found)
        remedies = dict.fromkeys(_REMEDIES[one.kind] for one in found)
        raise StoreError(f"{store.directory}: {'; '.join(sentences)}: {'; '.join(remedies)}")


def shortened(sentences: Iterable[str]) -> list[str]:
    """The first of many sentences, and how many more there are."""
    every = list(sentences)
    more = len(every) - _SHOWN
    return [*every[:_SHOWN], f"and {more} more files"] if more > 0 else every


@dataclass(frozen=True)
class _Expected:
    """What a file may be, in the order in which it was."""

    digests: tuple[str, ...]
    kind: DamageKind
    trial: int | None = None


class _Verification:
    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._actual: dict[str, str] = {}
        self._expected: dict[str, _Expected] = {}
        self._believed = set(store.trial_numbers())
        recorded = read_checksums(store.directory)
        self._recorded: Sums | None = None if recorded is None else recorded.files

    def findings(self) -> Iterator[Finding]:
        """All of them; to be called once."""
        if self._recorded is None:
            yield Finding(CHECKSUMS, _WRONG["unchecked"], "unchecked")
        derived, damage = self._derived_sums()
        yield from damage
        self._expect(self._recorded or {}, "recorded")
        self._expect(derived or {}, "derived")
        listed = {number for one in self._expected.values() if (number := one.trial) is not None}
        there = set(self._believed)
        for number in listed - there:
            yield Finding(_trial(number), "is missing", "recorded", number)
        self._expected = {name: one for name, one in self._expected.items() if one.trial not in listed - there}
        self._read(self._expected)
        for number in there:
            yield from self._expect_listed(number, derived)
        self._read(name for name in self._expected if name not in self._actual)
        yield from self._different()
        for number in there:
            yield from self._added(number, number in self._believed)
        for path in (self._store.directory / "trials").glob("*"):
            if self._store.name_of(path) not in map(_trial, there):
                yield Finding(self._store.name_of(path), _WRONG["other"], "other")

    def _derived_sums(self) -> tuple[Sums | None, list[Finding]]:
        try:
            found = read_checksums(self._store.directory, DERIVED)
        except StoreError:
            return None, [Finding(DERIVED, "is damaged", "derived")]
        if found is not None:
            return found.files, []
        computed = any((self._store.directory / "trials").glob("*/trial.json"))
        missing = self._recorded is not None and computed
        return None, [Finding(DERIVED, "is missing", "derived")] if missing else []

    def _expect(self, sums: Sums, kind: DamageKind) -> None:
        for name, digests in sums.items():
            folder, _, rest = name.partition("/")
            number = rest.partition("/")[0]
            if folder == "trials" and number.isdecimal():
                self._expected[name] = _Expected(tuple(digests), kind, int(number))
            else:
                self._expected[name] = _Expected(tuple(digests), "run" if kind == "recorded" else kind)

    def _expect_listed(self, number: int, derived: Sums | None) -> Iterator[Finding]:
        """Expect what a trial lists of itself; both lists are `believed` unless one is not what it was."""
        lists: list[tuple[str, DamageKind, Sums | None, Callable[[], Mapping[str, str]]]] = [
            ("observation.json", "recorded", self._recorded, lambda: self._store.read_observation(number).raw_files),
            ("trial.json", "derived", derived, lambda: self._store.read_trial(number).derived_files),
        ]
        for file, kind, sums, read in lists:
            name = f"{_trial(number)}/{file}"
            there = (self._store.directory / name).is_file()
            if there and (sums is None or self._actual.get(name) in sums.get(name, ())):
                self._expected.setdefault(name, _Expected((), kind, number))  # of a run without checksums
                try:
                    listed = read()
                except StoreError as error:
                    yield Finding(name, f"cannot be used ({error})", kind, number)
                else:
                    names = {f"{_trial(number)}/{each}": digest for each, digest in listed.items()}
                    self._expected |= {each: _Expected((digest,), kind, number) for each, digest in names.items()}
                    continue
            self._believed.discard(number)

    def _read(self, names: Iterable[str]) -> None:
        """Take the checksums of those files that are there."""
        paths = {name: self._store.directory / name for name in names}
        there = {name: path for name, path in paths.items() if path.is_file()}
        with ThreadPoolExecutor(_READERS) as pool:
            self._actual |= dict(zip(there, pool.map(sha256_of, there.values()), strict=True))

    def _different(self) -> Iterator[Finding]:
        owner = {one.digests[-1]: name for name, one in self._expected.items() if one.digests}
        for name, one in self._expected.items():
            actual = self._actual.get(name)
            if actual is None and one.digests:
                yield Finding(name, "is missing", one.kind, one.trial)
            elif actual is not None and one.digests and actual not in one.digests:
                yield Finding(name, self._what(name, owner.get(actual), one.kind), one.kind, one.trial)

    def _what(self, name: str, other: str | None, kind: DamageKind) -> str:
        if other is not None:
            return f"{_WRONG[kind]} but {other}"
        if (self._store.directory / name).stat().st_size == 0:
            return f"{_WRONG[kind]}, it is empty"
        return _WRONG[kind]

    def _added(self, number: int, believed: bool) -> Iterator[Finding]:
        """Files of a trial that none of its lists has."""
        directory = self._store.directory / _trial(number)
        for path in (Path(place) / file for place, _, files in os.walk(directory) for file in files):
            name, inside = self._store.name_of(path), path.relative_to(directory)
            if name in self._expected or path.suffix == PARTIAL_SUFFIX:
                continue
            if inside.parts[0] in _RAW:
                if believed or str(inside) == "observation.json":
                    yield Finding(name, "was added to what was recorded", "recorded", number)
            elif str(inside) == "trial.json" or (believed and path.suffix in (".json", ".parquet")):
                yield Finding(name, "does not follow from what was recorded", "derived", number)
            elif believed:
                yield Finding(name, _WRONG["other"], "other", number)


def _trial(number: int) -> str:
    return f"trials/{number:03d}"
