"""What the tests of the lab share: where it is, how it is called, and what of the host it must leave as it found it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from pagelab.config.factors import HUGE_PAGES_FILE
from pagelab.config.load import load_config
from pagelab.host.cgroup import parent_path, stale_groups
from pagelab.host.journal import selected
from pagelab.host.procfs import process_read_bytes, read_int, read_text, swap_areas
from pagelab.host.storage import disk_of
from pagelab.host.tracefs import INSTANCE_PREFIX
from pagelab.models.catalog import model_path
from pagelab.run.plan import PlannedTrial, make_plan
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

CHECKOUT = Path(__file__).parents[1]
LAB = Path(os.environ.get("PAGELAB_DIR") or "/var/lib/pagelab")
LAUNCHER = LAB / "bin" / "pagelab"
MODELS = LAB / "models"
# Unlike /tmp never in RAM; what is made there is removed. In a container it has to be a directory of the host.
DISK_DIRECTORY = Path(os.environ.get("PAGELAB_TEST_DIRECTORY") or "/var/tmp")  # noqa: S108
POLL_SECONDS = 0.02  # oftener takes processor time from the trials that are waited for
RUN_SECONDS = 240.0  # the longest that one call may take before the test fails

needs_lab = pytest.mark.skipif(not LAUNCHER.exists(), reason=f"{LAUNCHER} is missing: run make provision")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the host's groups and settings")

Value = TypeVar("Value")


def eventually(condition: Callable[[], Value], what: str, seconds: float = 90.0) -> Value:
    """Wait until a condition holds and return what it answered; fail the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return answer


# --- roles ------------------------------------------------------------------------------------------------------------


def play_role(playbook: Path, inventory: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the tests, which takes a role of the project for itself."""
    ansible = CHECKOUT / ".venv" / "bin" / "ansible-playbook"
    return subprocess.run(
        [str(ansible), "--inventory", str(inventory), str(playbook), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(CHECKOUT / "ansible" / "roles"),
            "ANSIBLE_CACHE_PLUGIN": "memory",  # the facts of these hosts are nobody else's
            "ANSIBLE_GATHERING": "explicit",
            "ANSIBLE_NOCOLOR": "1",
        },
    )


# --- configurations ---------------------------------------------------------------------------------------------------

# 94 MB of weights: what is read for each token is most of what a trial takes.
DENSE: dict[str, Any] = {"architecture": "llama", "layers": 10, "width": 1024, "feed_forward": 4096, "type": "Q4_0"}


def write_config(path: Path, *, synthetic: Mapping[str, Any] = DENSE, **sections: Any) -> Path:
    """Write a small configuration of one synthetic model; `sections` are added to it or replace what it has."""
    document: dict[str, Any] = {
        "experiment": path.stem,
        "models": [{"name": "dense", "source": {"synthetic": dict(synthetic)}}],
        "factors": {"resident": [1.0, 0.0]},
        "repetitions": 1,
        "inference": {"tokens": 12},
        # The machine of the tests may have any swap; what these trials need is little.
        "memory": {"swap_minimum": "256MiB"},
    }
    path.write_text(yaml.safe_dump(document | sections, sort_keys=False))
    return path


def planned(config: Path, **wanted: object) -> PlannedTrial:
    """The first planned trial whose factors have the wanted values."""
    for trial in make_plan(load_config(config)).trials:
        if all(getattr(trial.factors, name) == value for name, value in wanted.items()):
            return trial
    raise AssertionError(f"{config} plans no trial with {wanted}")


def remove_model(path: Path) -> None:
    """Take a model and its stamp away."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.json").unlink(missing_ok=True)


@contextmanager
def fetched_models(config: Path) -> Iterator[list[Path]]:
    """The models of a configuration, generated into the lab's models directory; what was not there is taken away."""
    paths = [model_path(spec, MODELS) for spec in load_config(config).models]
    new = [path for path in paths if not path.exists()]
    try:
        answer = on_host("model", "fetch", config, "--models", MODELS)
        assert answer.returncode == 0, answer.stderr
        yield paths
    finally:
        for path in new:
            remove_model(path)


# --- calls ------------------------------------------------------------------------------------------------------------


def on_host(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Call pagelab of the virtual environment, without the container."""
    command = [sys.executable, "-m", "pagelab", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
        env={**os.environ, **(environment or {})},
    )


@dataclass
class Call:
    """One call of the launcher; `stdout` and `stderr` are there once it has ended."""

    process: subprocess.Popen[str]
    results: Path
    stdout: str = ""
    stderr: str = ""
    code: int = field(default=-1)

    def finish(self) -> "Call":
        """Wait for the end."""
        self.stdout, self.stderr = self.process.communicate(timeout=RUN_SECONDS)
        code = self.process.returncode
        self.code = 128 - code if code < 0 else code  # as a shell reports it
        return self

    def interrupt(self) -> "Call":
        """Do as Ctrl-C does, and wait for the end."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    @property
    def error(self) -> str:
        """The last line on standard error."""
        return (self.stderr.strip().splitlines() or [""])[-1]

    def show(self) -> str:
        """Everything that was printed, for the message of a failed assertion."""
        return f"exit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def store(self) -> RunStore:
        """The only run among the results."""
        (found,) = self.results.glob("*/*/*/run.json")
        return RunStore.open(found.parent)

    def trial(self, **wanted: object) -> TrialRecord:
        """The only finished trial whose factors have the wanted values."""
        (found,) = [
            record
            for record in self.store.read_trials()
            if all(getattr(record.factors, name) == value for name, value in wanted.items())
        ]
        return found


@contextmanager
def calling(*arguments: str | Path, results: Path, environment: Mapping[str, str] | None = None) -> Iterator[Call]:
    """Call the launcher; a call that is still running when the context ends is interrupted."""
    directory = results.parent
    process = subprocess.Popen(
        [str(LAUNCHER), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )
    call = Call(process, results)
    try:
        yield call
    finally:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.send_signal(signal.SIGINT)
                process.wait(timeout=30)
            process.kill()
            process.communicate()


def starting(config: Path, results: Path, *options: str, environment: Mapping[str, str] | None = None):  # type: ignore[no-untyped-def]
    """Start `pagelab run`; a context that gives the call."""
    return calling("run", config, "--results", results, *options, results=results, environment=environment)


def run(config: Path, results: Path, *options: str, environment: Mapping[str, str] | None = None) -> Call:
    """`pagelab run` to its end."""
    with starting(config, results, *options, environment=environment) as call:
        return call.finish()


def restore(directory: Path) -> Call:
    """`pagelab restore` to its end."""
    with calling("restore", results=directory / "results") as call:
        return call.finish()


@dataclass
class Terminal:
    """A terminal with a command in it; `text` is what has appeared there so far."""

    process: subprocess.Popen[bytes]
    keyboard: int
    text: str = ""

    def type(self, characters: str) -> None:
        """Press keys."""
        os.write(self.keyboard, characters.encode())

    def answer(self, question: str, answer: str) -> None:
        """Type a line once something is asked for."""

        def asked() -> bool:
            assert self.process.poll() is None, self.text
            return question in self.text

        eventually(asked, f"{question!r} is asked for")
        self.type(f"{answer}\n")

    def show(self) -> None:
        """Take what appears, until nobody holds the other end of the terminal any more."""
        with suppress(OSError):
            while chunk := os.read(self.keyboard, 65536):
                self.text += chunk.decode(errors="replace")


def typing(*arguments: str | Path, cwd: Path) -> AbstractContextManager[Terminal]:
    """Call the launcher in a terminal, as people do."""
    return in_terminal([str(LAUNCHER), *map(str, arguments)], cwd=cwd)


@contextmanager
def in_terminal(command: Sequence[str], cwd: Path) -> Iterator[Terminal]:
    """Call a command in a terminal; one that still runs when the context ends is interrupted there."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: os.login_tty(slave),  # the terminal then turns Ctrl-C into a signal
        pass_fds=[slave],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"},
    )
    os.close(slave)
    terminal = Terminal(process, master)
    reader = threading.Thread(target=terminal.show)
    reader.start()
    try:
        yield terminal
    finally:
        if process.poll() is None:
            terminal.type("\x03")
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            process.kill()
            process.wait()
        reader.join()
        os.close(master)


# --- looking at a run from outside ------------------------------------------------------------------------------------


def llama_in(group: Path, results: Path) -> int | None:
    """The id of the llama-cli in one of the lab's groups, once it is there, if its run writes to `results`."""
    text = read_text(group / "cgroup.procs") or ""
    for pid in map(int, text.split()):
        if read_text(f"/proc/{pid}/comm") == "llama-cli":
            runner = read_text(f"/proc/{parent_of(pid)}/cmdline") or ""
            return pid if str(results) in runner.split("\0") else None
    return None


def parent_of(pid: int) -> int:
    """The id of a process's parent: of llama-cli's, the runner in the container."""
    status = read_text(f"/proc/{pid}/status") or ""
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")), 0)


@contextmanager
def frozen(call: Call, group_name: str, has_read_bytes: int = 0) -> Iterator[int]:
    """Stop the llama-cli of a group once it has read that much from disk, so that the run stays where it is; its id.

    It goes on when the context ends, if it is still there.
    """
    group = parent_path() / group_name  # once: to look takes processor time from the trial before it

    def reached() -> int | None:
        if call.process.poll() is not None:
            pytest.fail(f"the run ended before {group_name} was as far as it should be\n{call.finish().show()}")
        pid = llama_in(group, call.results)
        return pid if pid is not None and (process_read_bytes(pid) or 0) >= has_read_bytes else None

    pid = eventually(reached, f"llama-cli in {group_name} has read {has_read_bytes} bytes")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def fill(directory: Path) -> Path:
    """Take all the room that is left on a disk."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


def own_faults(record: TrialRecord) -> list[str]:
    """Why a trial is invalid, but for the processor time that others took: a test shares its host with services."""
    return [reason for reason in record.validity.reasons if not reason.startswith("other processes took ")]


# --- the host ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostState:
    """What a test may not leave changed."""

    swap_areas: list[tuple[str, int]]
    readahead_kib: int | None
    huge_pages: str | None
    swappiness: int | None
    groups: list[str]
    trace_instances: list[str]
    llama_processes: list[int]


def trace_instances() -> list[str]:
    """Trace instances of the lab that the kernel has; tracefs is mounted for the looking alone where it is not."""
    place = "/sys/kernel/tracing"
    look = f"[ -d {place}/instances ] || mount -t tracefs tracefs {place} && ls {place}/instances"
    answer = subprocess.run(["unshare", "--mount", "sh", "-c", look], capture_output=True, text=True, check=False)
    return [name for name in answer.stdout.split() if name.startswith(INSTANCE_PREFIX)]


def huge_pages() -> str | None:
    """The mode of transparent huge pages, as the kernel says it."""
    return selected(read_text(HUGE_PAGES_FILE))


def host_state() -> HostState:
    """Read it from the kernel."""
    return HostState(
        swap_areas=[(area.path, area.size_bytes) for area in swap_areas()],
        readahead_kib=disk_of(DISK_DIRECTORY).readahead_kib(),
        huge_pages=huge_pages(),
        swappiness=read_int("/proc/sys/vm/swappiness"),
        groups=[str(group.path) for group in stale_groups()],
        trace_instances=trace_instances(),
        llama_processes=[
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if read_text(path) == "llama-cli"
        ],
    )


def ansible_environment() -> dict[str, str]:
    """For a playbook of a test: the project's own settings and roles, wherever it is."""
    settings = {
        "ANSIBLE_CONFIG": CHECKOUT / "ansible.cfg",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_ROLES_PATH": CHECKOUT / "ansible" / "roles",
    }
    return os.environ | {name: str(value) for name, value in settings.items()}
