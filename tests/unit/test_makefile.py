"""What is typed after `make` is a value wherever it goes: nothing of it is run, split or expanded."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
STUB = '#!/bin/bash\nprintf "%s\\0" "${0##*/}" "$@" >"$CALLS/$(date +%s%N)-$$"\n'

ODD = [
    "x'; touch executed; '",
    'x"; touch executed; "',
    "x; touch executed",
    "$(touch executed)",
    "`touch executed`",
    "$(shell touch executed)",
    "$$HOME ${HOME} $x",
    "a b",
    "#a",
    "a%b",
    "-x",
    "--results",
    "ümlaut",
    "back\\slash",
    "{{ lookup('pipe', 'touch executed') }}",
    "*",
]


class Lab:
    """A checkout whose Ansible, pytest and launcher write down how they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "check'out $x"
        self.calls_directory = directory / "calls"
        self.lab = directory / "lab's $(touch executed)"
        shutil.copytree(CHECKOUT / "tools", self.directory / "tools")
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(CHECKOUT / name, self.directory)
        self.calls_directory.mkdir()
        binaries = self.directory / ".venv" / "bin"
        for path in (*(binaries / name for name in ("ansible-playbook", "pytest")), self.lab / "bin" / "pagelab"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(STUB)
            path.chmod(0o755)
        (binaries / "python").symlink_to(sys.executable)
        self._stamp(".packages", "requirements.lock")
        self._stamp(".pagelab", "requirements.lock", "pyproject.toml")

    def _stamp(self, name: str, *files: str) -> None:
        """Where it is, nothing is installed."""
        content = f"{self.directory}\n".encode() + b"".join((self.directory / file).read_bytes() for file in files)
        (self.directory / ".venv" / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}").touch()

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            ["make", *words, f"PAGELAB_DIR={self.lab}"],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in ("SUDO_USER", "MAKEFLAGS")}
            | {"CALLS": str(self.calls_directory)},
        )
        assert not list(self.directory.parent.rglob("executed")), "something that was typed was run"
        return answer

    def calls(self) -> list[list[str]]:
        found = [path.read_text().split("\0")[:-1] for path in sorted(self.calls_directory.iterdir())]
        for path in self.calls_directory.iterdir():
            path.unlink()
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("make"))


class _Unsafe(yaml.SafeLoader):
    """Reads `!unsafe`, as Ansible does."""


_Unsafe.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def variables(call: list[str]) -> dict[str, object]:
    """The extra variables of a call of ansible-playbook."""
    (text,) = [call[index + 1] for index, word in enumerate(call) if word == "-e" and call[index + 1].startswith("{")]
    found: dict[str, object] = yaml.load(text, Loader=_Unsafe)  # noqa: S506
    return found


PLAYS = ["experiment", "provision", "check", "collect", "stop", "teardown", "bundle", "plan", "preflight"]


@pytest.mark.parametrize("target", PLAYS)
def test_what_is_typed_reaches_ansible_as_it_is(lab: Lab, target: str) -> None:
    for odd in ODD:
        answer = lab.make(target, f"CONFIG={odd}", f"RESULTS={odd}", f"RUN={odd}", "YES=1")
        assert answer.returncode == 0, answer.stderr
        playbook, *_ = lab.calls()
        given = variables(playbook)
        assert given["experiment_config"] == given["pagelab_results"] == str(lab.directory / odd)
        assert given["pagelab_dir"] == str(lab.lab)


@pytest.mark.parametrize("target", ["experiment", "plan", "preflight", "report"])
def test_what_is_typed_reaches_the_launcher_as_it_is(lab: Lab, target: str) -> None:
    for odd in ODD:
        answer = lab.make(target, f"CONFIG={odd}", f"RESULTS={odd}", f"RUN={odd}")
        assert answer.returncode == 0, answer.stderr
        *_, call = lab.calls()
        assert call[-1] == odd
        assert call[-2] == "--", "it may begin with a dash"
        assert f"--results={odd}" in call or target == "report"


@pytest.mark.parametrize("target", ["experiment", "plan", "preflight"])
def test_what_is_set_and_chosen_reaches_all_that_reads_the_configuration(lab: Lab, target: str) -> None:
    for odd in ODD[:: 1 if target == "experiment" else 5]:
        answer = lab.make(target, f"SET=a=1 {shlex.quote(f'b.c=[{odd}]')}", f"ONLY={shlex.quote(odd)}")
        assert answer.returncode == 0, answer.stderr
        playbook, *_, call = lab.calls()
        given = variables(playbook)
        assert (given["experiment_set"], given["experiment_only"]) == (["a=1", f"b.c=[{odd}]"], [odd])
        options = call[: call.index("--")]
        assert options[-3:] == ["--set=a=1", f"--set=b.c=[{odd}]", f"--only={odd}"]
    lab.make(target)
    playbook, *_, call = lab.calls()
    assert not {"experiment_set", "experiment_only"} & variables(playbook).keys()
    assert not [word for word in call if word.startswith(("--set", "--only"))]


@pytest.mark.parametrize("target", ["experiment", "provision", "check", "collect", "stop", "teardown"])
def test_odd_hosts_reach_ansible_as_they_are(lab: Lab, target: str) -> None:
    (lab.directory / "inventory 'x").mkdir(exist_ok=True)
    (lab.directory / "inventory 'x" / "hosts.yml").touch()
    for odd in (*ODD, "büro-pc", "lab (rack 2)"):
        answer = lab.make(target, f"HOST={odd}", "INVENTORY=inventory 'x", "YES=1")
        assert answer.returncode == 0, answer.stderr
        (call,) = lab.calls()
        given = variables(call)
        # A comma at the end keeps Ansible from splitting at spaces.
        expected = [f"{name.strip()}," if " " in name.strip() else name.strip() for name in odd.split(",")]
        assert given["experiment_hosts" if target == "experiment" else "pagelab_hosts"] == expected
        assert "./inventory 'x" in call


def test_the_newest_run_is_found_in_an_odd_place(lab: Lab) -> None:
    for odd in ODD:
        run = lab.directory / "place" / odd / "experiment" / "a host's\nname" / "run"
        run.mkdir(parents=True)
        (run / "run.json").touch()
        answer = lab.make("report", f"RESULTS={lab.directory / 'place' / odd}")
        assert answer.returncode == 0, answer.stderr
        assert lab.calls() == [["pagelab", "report", "--", str(run)]]


def test_words_may_have_quotes_of_their_own(lab: Lab) -> None:
    answer = lab.make("check", "EXTRA=-e 'a=b c' $(touch executed)")
    assert answer.returncode == 0, answer.stderr
    (call,) = lab.calls()
    assert call[-6:-3] == ["a=b c", "$(touch", "executed)"]
    lab.make("test", "TESTS=tests/unit -k 'one or two' $(touch executed)")
    assert lab.calls() == [["pytest", "tests/unit", "-k", "one or two", "$(touch", "executed)"]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["HOST=a b", "INVENTORY=no'where"], "no'where/hosts.yml is missing"),
        (["HOST=,"], "HOST names no host"),
        (["EXTRA='"], "EXTRA cannot be split into words (No closing quotation): close its quotes"),
        (["SET=a='"], "SET cannot be split into words (No closing quotation): close its quotes"),
        (["BUNDLE=no'file $(touch executed)"], "no'file $(touch executed) is not there"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(lab: Lab, words: list[str], sentence: str) -> None:
    (lab.directory / "inventories" / "lab").mkdir(parents=True, exist_ok=True)
    (lab.directory / "inventories" / "lab" / "hosts.yml").touch()
    answer = lab.make("provision", *words)
    assert answer.returncode == 2
    assert sentence in answer.stderr.splitlines()[0]
    assert lab.calls() == []
