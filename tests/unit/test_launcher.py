"""The launcher's own words, rights and exit codes, with a `docker` that writes down how it was called."""

import csv
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from collection import launcher
from own_launcher import FILES, OwnLauncher, make_launcher
from pagelab import errors

IMAGE = f"sha256:{'1' * 64}"
DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"

# `model files` is answered by pagelab itself, everything else by what the test says.
DOCKER = f"""#!/bin/bash
printf '%s\\0' "$@" >"$STUB/$(date +%s%N)-$$"
case $2/$*/ in
    run/*' pagelab model files '*)
        while [ "$1" != pagelab ]; do shift; done
        PAGELAB_MODELS=/models exec {sys.executable} -m "$@" ;;
    version/*) echo docker 1; exit ;;
    container/*) echo 'Error: No such container: x' >&2; exit 1 ;;
esac
[ ! -e "$STUB/wait" ] || exec {sys.executable} -c "$(cat "$STUB/wait")"
[ ! -e "$STUB/says" ] || cat "$STUB/says" >&2
exit "$(cat "$STUB/code" 2>/dev/null || echo 0)"
"""


@dataclass
class Stub:
    """The launcher and what its `docker` was called with."""

    launcher: OwnLauncher
    directory: Path

    def says(self, code: int, words: str = "") -> None:
        """How it ends from now on."""
        (self.directory / "code").write_text(str(code))
        (self.directory / "says").write_text(words)

    def calls(self) -> list[list[str]]:
        """The arguments of every `docker run` that was not a question, in order."""
        found = [path.read_text().split("\0")[:-1] for path in sorted(self.directory.glob("[0-9]*"))]
        return [call[1:] for call in found if call[1] == "run" and "files" not in call]

    def call(self) -> list[str]:
        """The only one."""
        (call,) = self.calls()
        return call

    def mounts(self) -> dict[str, tuple[str, bool]]:
        """Source and whether it can be written, by place in the container."""
        found = {}
        for option in self.call():
            if option.startswith("--mount="):
                (fields,) = csv.reader([option.removeprefix("--mount=")], strict=True)
                given = dict(field.partition("=")[::2] for field in fields)
                assert given["type"] == "bind"
                found[given["target"]] = (given["source"], "readonly" not in given)
        return found


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    directory, path = tmp_path / "calls", tmp_path / "path"
    directory.mkdir()
    path.mkdir()
    (path / "docker").write_text(DOCKER)
    (path / "docker").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        # The name of a socket may have 107 bytes, the directories of a test more.
        place = Path(os.path.relpath(tmp_path / "engine", "/tmp"))  # noqa: S108
        os.chdir("/tmp")  # noqa: S108
        listening.bind(str(place))
        environment = {"PATH": f"{path}:{os.environ['PATH']}", "STUB": str(directory)}
        launcher = make_launcher(tmp_path / "lab", socket=tmp_path / "engine", image=IMAGE, **environment)
        yield Stub(launcher, directory)


def config(directory: Path, source: str = "file: /nowhere/m.gguf") -> Path:
    path = directory / "c.yml"
    path.write_text(f"experiment: x\nmodels: [{{name: m, source: {{{source}, sha256: {'a' * 64}}}}}]\n")
    return path


COMPUTING = ["plan CONFIG", "report RUN", "compare RUN RUN", "analyze RUN", "model inspect CONFIG", "version", "--help"]
MEASURING = ["run CONFIG", "preflight CONFIG", "restore", "shell -c true", "tune --ram 1GiB CONFIG"]


def type_it(stub: Stub, command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "run").mkdir(exist_ok=True)
    words = {"CONFIG": str(config(directory)), "RUN": str(directory / "run")}
    answer = stub.launcher(*(words.get(word, word) for word in command.split()), cwd=directory)
    assert answer.returncode == 0, answer.stderr
    return answer


@pytest.mark.parametrize("command", COMPUTING)
def test_what_computes_has_no_rights(stub: Stub, tmp_path: Path, command: str) -> None:
    type_it(stub, command, tmp_path)
    call = stub.call()
    for option in (
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--network=none",
        f"--user={os.getuid()}:{os.getgid()}",
    ):
        assert option in call
    assert any(option.startswith("--memory=") for option in call)
    assert any(option.startswith("--pids-limit=") for option in call)
    assert not [option for option in call if re.match("--(cap-add|privileged|pid=|cgroupns|device|volume|ipc)", option)]
    assert not [option for option in call if "unconfined" in option]
    named = {str(tmp_path / "c.yml"), str(tmp_path / "run"), str(stub.launcher.lab / "models")}
    assert set(stub.mounts()) <= named, "nothing of the host is there but what was named"
    writable = {place for place, (_, can_write) in stub.mounts().items() if can_write}
    assert writable == ({str(tmp_path / "run")} if command in ("report RUN", "analyze RUN") else set())


@pytest.mark.parametrize("command", MEASURING)
def test_what_measures_has_the_rights_that_the_document_explains(stub: Stub, tmp_path: Path, command: str) -> None:
    type_it(stub, command, tmp_path)
    call = stub.call()
    assert "--cap-drop=ALL" in call
    assert "--privileged" not in call
    assert "--network=none" in call
    granted = {option.removeprefix("--cap-add=") for option in call if option.startswith("--cap-add=")}
    explained = set(re.findall(r"^\| `CAP_(\w+)`", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert granted == (explained - {"IPC_LOCK", "SYS_NICE", "MKNOD"} if command == "restore" else explained)


@pytest.mark.parametrize("command", COMPUTING + MEASURING)
def test_every_container_is_of_the_recorded_image_and_of_the_hosts_users(
    stub: Stub, tmp_path: Path, command: str
) -> None:
    """By its id, whatever a tag says; and an engine that gives its containers users of their own gives these none."""
    type_it(stub, command, tmp_path)
    call = stub.call()
    assert IMAGE in call
    assert "--pull=never" in call
    assert "--userns=host" in call
    assert not [option for option in call if option.startswith(("-v", "--volume"))]


@pytest.mark.parametrize("command", COMPUTING + MEASURING)
def test_the_root_of_the_host_is_never_in_it(stub: Stub, tmp_path: Path, command: str) -> None:
    (tmp_path / "run").mkdir(exist_ok=True)
    words = {"CONFIG": str(config(tmp_path)).lstrip("/"), "RUN": str(tmp_path / "run").lstrip("/")}
    if command.startswith("run"):
        command += f" --results {tmp_path}/results"
    answer = stub.launcher(*(words.get(word, word) for word in command.split()), cwd="/")
    assert answer.returncode == 0, answer.stderr
    assert "/" not in {place for mount in stub.mounts().items() for place in (mount[0], mount[1][0])}
    assert "--workdir=/" in stub.call()


def test_results_are_of_who_typed_it_under_sudo(stub: Stub, tmp_path: Path) -> None:
    environment = {**stub.launcher.environment, "SUDO_UID": "1234", "SUDO_GID": "4321"}
    (tmp_path / "run").mkdir()
    OwnLauncher(stub.launcher.lab, environment)("report", tmp_path / "run")
    assert "--user=1234:4321" in stub.call()


def test_results_that_are_a_link_are_written_where_it_leads(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to("elsewhere")
    type_it(stub, "run CONFIG", tmp_path)
    assert stub.mounts()[str(tmp_path / "results")] == (str(tmp_path / "elsewhere"), True)


def test_what_is_written_can_be_written_where_it_is_named(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    answer = stub.launcher("model", "synth", "--output=a,b/m.gguf", cwd=tmp_path)
    assert answer.returncode == 0
    assert stub.mounts() == {str(tmp_path / "a,b"): (str(tmp_path / "a,b"), True)}
    refused = stub.launcher("trace", "export", ".", "--out", "missing/x.csv", cwd=tmp_path)
    assert (refused.returncode, "make it first" in refused.stderr) == (2, True)


def test_models_that_a_configuration_names_are_there_and_links_lead_on(stub: Stub, tmp_path: Path) -> None:
    disk = tmp_path / "a disk"
    disk.mkdir()
    for number in (1, 2, 3):
        (disk / f"m-0000{number}-of-00003.gguf").touch()
    (disk / "other.gguf").touch()
    (stub.launcher.lab / "models" / "link.gguf").symlink_to(disk / "other.gguf")
    sources = f'"{disk}/m-00001-of-00003.gguf"'
    answer = stub.launcher("run", config(tmp_path, f"file: {sources}"), cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert {str(path) for path in disk.iterdir()} <= set(stub.mounts())


@pytest.mark.parametrize(("command", "form"), [("run", "--set={}"), ("plan", "--set {}")])
def test_models_that_are_set_are_there_and_what_was_in_their_place_is_not(
    stub: Stub, tmp_path: Path, command: str, form: str
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "a.gguf").touch()
    set_model = tmp_path / "b'$x.gguf"
    set_model.touch()
    setting = f'models=[{{name: m, source: {{file: "{set_model}", sha256: {"a" * 64}}}}}]'
    words = [word.format(setting) for word in form.split()]
    answer = stub.launcher(command, config(tmp_path, f"file: {tmp_path}/a.gguf"), *words, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert str(set_model) in stub.mounts()
    assert str(tmp_path / "a.gguf") not in stub.mounts()
    assert stub.call()[-len(words) :] == words


def test_what_is_chosen_names_no_file(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "resident=0.5").mkdir()
    assert stub.launcher("plan", config(tmp_path), "--only", "resident=0.5", cwd=tmp_path).returncode == 0
    assert str(tmp_path / "resident=0.5") not in stub.mounts()


def test_a_plan_sees_the_results_that_are_named_to_read(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    assert stub.launcher("plan", "--results=results", "--", config(tmp_path), cwd=tmp_path).returncode == 0
    assert stub.mounts()[str(tmp_path / "results")] == (str(tmp_path / "results"), False)


def test_what_is_asked_for_in_the_background_is_the_configuration_with_what_is_set_and_chosen(
    stub: Stub, tmp_path: Path
) -> None:
    path = config(tmp_path)
    words = ["--set=repetitions=3", "--set=inference.prompt='$(x) é\n'", "--only=resident=0.5"]
    answer = stub.launcher("start", path, "--results", tmp_path / "results", *words, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert f"--label=pagelab.request={launcher.request_of(path, words)}" in stub.call()
    assert launcher.request_of(path, words) != launcher.request_of(path, words[:2]) != launcher.request_of(path, [])
    assert launcher.request_of(path, []) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_configuration_that_cannot_be_read_is_said_once(stub: Stub, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("experiment: x\nfile: y\n")
    answer = stub.launcher("run", bad, cwd=tmp_path)
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert not stub.calls()


@pytest.mark.parametrize("command", ["plan", "run", "preflight", "model inspect", "report"])
def test_what_is_no_file_is_refused_before_anything_waits_for_it(stub: Stub, tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero", "/dev/stdin"):
        answer = stub.launcher(*command.split(), name, cwd=tmp_path)
        assert answer.returncode == 2
        assert answer.stderr.endswith(f"{name} is neither a file nor a directory: name a regular file\n")
    assert not stub.calls()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (rb"{}/a\040b file 1 0 -2", "a b"),
        (rb"{}/tab\011line\012back\134slash100%d file 1 0 -2", "tab\tline\nback\\slash100%d"),
    ],
)
def test_swap_files_with_odd_names_are_seen(tmp_path: Path, line: bytes, name: str) -> None:
    (tmp_path / name).touch()
    swaps = tmp_path / "swaps"
    head = b"Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -1\n"
    swaps.write_bytes(head + line.replace(b"{}", bytes(tmp_path)) + b"\n")
    script = 'set -eu; fail() { exit 2; }; . "$1"; expose_swap_files "$2"; printf "%s\\0" "${!source_of[@]}"'
    answer = subprocess.run(
        ["bash", "-c", script, "bash", str(FILES / "names.sh"), str(swaps)], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"{tmp_path / name}\0"


@pytest.mark.parametrize(
    "code",
    [
        errors.EXIT_DONE,
        errors.EXIT_INVALID_TRIALS,
        errors.EXIT_BAD_INPUT,
        errors.EXIT_PREFLIGHT_REFUSED,
        errors.EXIT_INTERRUPTED,
    ],
)
def test_it_ends_as_pagelab_ends(stub: Stub, code: int) -> None:
    stub.says(code, "pagelab: its own words\n")
    answer = stub.launcher("version")
    assert (answer.returncode, answer.stderr) == (code, "pagelab: its own words\n")


REFUSALS = [
    ("docker: Error response from daemon: No such image: sha256:1.\nSee 'docker run --help'.\n", "is not here"),
    ("docker: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?.\n", "does not answer"),
    ("docker: Error response from daemon: failed to create shim: OCI runtime\ncreate failed.\n", "OCI runtime create"),
    ("docker: Error response from daemon: no.\n\nRun 'docker run --help' for more information\n", "refused: no; type"),
    ("docker: Error response from daemon: " + "x" * 100_000, "refused: xxx"),
]


@pytest.mark.parametrize("command", ["version", "run"])
@pytest.mark.parametrize(("words", "sentence"), REFUSALS)
def test_what_the_engine_refuses_is_one_sentence_with_a_remedy(
    stub: Stub, tmp_path: Path, command: str, words: str, sentence: str
) -> None:
    stub.says(125, f"WARNING: something else\n{words}")
    answer = stub.launcher(command, cwd=tmp_path)
    assert answer.returncode == errors.EXIT_BAD_INPUT
    warning, said = answer.stderr.splitlines()
    assert warning == "WARNING: something else"
    assert said.startswith("pagelab: ")
    assert sentence in said
    assert "type: make provision" in said
    assert len(said) < 600


def test_what_the_engine_refuses_to_start_in_the_background_too(stub: Stub, tmp_path: Path) -> None:
    stub.says(125, REFUSALS[0][0])
    answer = stub.launcher("start", config(tmp_path), cwd=tmp_path)
    assert answer.returncode == errors.EXIT_BAD_INPUT
    assert answer.stderr.splitlines() == [
        "pagelab: the image that provisioning recorded is not here; type: make provision"
    ]


def test_one_that_was_killed_for_its_memory_is_told_how_to_have_more(stub: Stub) -> None:
    stub.says(137)
    answer = stub.launcher("version")
    assert answer.returncode == errors.EXIT_BAD_INPUT
    assert "PAGELAB_MEMORY" in answer.stderr


def test_a_signal_goes_on_to_the_container(stub: Stub) -> None:
    # As the engine's client: it listens to the signal although it is started with that ignored.
    (stub.directory / "wait").write_text(
        "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print('ready', flush=True)\n"
        "signal.pause()"
    )
    process = subprocess.Popen(
        [str(stub.launcher.lab / "bin" / "pagelab"), "version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **stub.launcher.environment},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == errors.EXIT_INTERRUPTED
