"""The launcher with the real engine: what is named is the same inside as outside, and nothing else is there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from example_raw import raw_run

from lab import play_role
from own_launcher import OwnLauncher, make_launcher
from pagelab.config.model_specs import SyntheticSpec
from pagelab.models.synthetic import write_synthetic
from raw_traces import COMPLETED, ISSUED, READ, blk_record
from splitting import split_model

SOCKET = Path("/var/run/docker.sock")
PLAYBOOK = Path(__file__).parent / "playbooks" / "launcher.yml"
PACKAGE = Path(__file__).parents[2] / "runner" / "src" / "pagelab"
TINY = SyntheticSpec(architecture="llama", layers=2, width=64, feed_forward=64, vocabulary=512)


def docker(*arguments: str | Path) -> str:
    """What the engine answers; nothing where it cannot."""
    command = ["docker", f"--host=unix://{SOCKET}", *map(str, arguments)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout.strip()


BASE = next(iter(docker("image", "ls", "--quiet", "pagelab/runner").split()), "") if shutil.which("docker") else ""
pytestmark = pytest.mark.skipif(not BASE, reason="there is no runner image: run make provision")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The runner's image with the package as it is in this checkout."""
    context = tmp_path_factory.mktemp("image")
    shutil.copytree(PACKAGE, context / "pagelab", ignore=shutil.ignore_patterns("__pycache__"))
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY pagelab /opt/pagelab/pagelab\n")
    name = f"pagelab-test/launcher:{os.getpid()}"  # without one it would go with the first image that is made from it
    yield docker("build", "--quiet", "--tag", name, context).splitlines()[-1]
    docker("image", "rm", name)


@pytest.fixture
def launcher(tmp_path: Path, image: str) -> OwnLauncher:
    return make_launcher(tmp_path / "lab", socket=SOCKET, image=image)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_synthetic(TINY, path)
    return path


def parts_seen(launcher: OwnLauncher, name: str | Path, cwd: Path | str = "/") -> list[str]:
    """The files of a model, as they are seen inside."""
    answer = launcher("model", "inspect", "--json", "--", name, cwd=cwd)
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert sum(tensor["bytes"] for tensor in document["tensors"]) == document["weights_bytes"] > 0
    parts: list[str] = document["parts"]
    return parts


# Each names a directory and the file in it.
ODD = [
    "a b",
    " leading and trailing ",
    "co:lon",
    "com,ma",
    "quo'te",
    'double"quote',
    "new\nline",
    "ends with a line feed\n",
    "ta\tb",
    "*",
    "?[a-z]{b,c}",
    "-dash",
    "--results",
    "ümlaut 模型",
    "(bracket)",
    "[bold]bracket[x]",
    "back\\slash\\054",
    "$HOME",
    "$(touch executed)`touch executed`",
    "semi;colon & | <>",
    "target=x,readonly",
    "{{ braces }}",
    "~",
    "#hash%s%n",
]


def test_odd_names_are_the_same_inside(launcher: OwnLauncher, model: Path, tmp_path: Path) -> None:
    for number, name in enumerate(ODD):
        directory = tmp_path / "odd" / name
        directory.mkdir(parents=True)
        shutil.copy(model, directory / f"{name}.gguf")
        if number % 2:
            typed, cwd = f"{name}.gguf", directory
        else:
            typed, cwd = str(directory / f"{name}.gguf"), tmp_path
        assert parts_seen(launcher, typed, cwd) == [typed]
    assert not list(tmp_path.rglob("executed"))


def test_odd_names_in_a_configuration_are_the_same_inside(launcher: OwnLauncher, model: Path, tmp_path: Path) -> None:
    models = []
    for number, name in enumerate(ODD):
        file = tmp_path / "odd" / name / f"{name}.gguf"
        file.parent.mkdir(parents=True)
        shutil.copy(model, file)
        models.append({"name": f"m{number}", "source": {"file": str(file), "sha256": "0" * 64}})
    config = tmp_path / "odd" / ODD[3] / "con:fig 'x\".yml"
    config.write_text(yaml.safe_dump({"experiment": "odd", "models": models, "factors": {"resident": [0.5]}}))
    answer = launcher("plan", config.name, cwd=config.parent)
    assert answer.returncode == 0, answer.stderr
    # It is said of each model that could not be read.
    assert "is not here yet" not in answer.stdout
    assert f"{5 * len(ODD)} trials" in answer.stdout


def test_links_lead_where_they_lead(launcher: OwnLauncher, model: Path, tmp_path: Path) -> None:
    """As in the cache of a model hub: names that are links to files elsewhere, by several links, and by `..`."""
    store, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    for directory in (store, snapshot):
        directory.mkdir(parents=True)
    for number, part in enumerate(split_model(model, store, 3)):
        part.rename(store / f"blob{number}")
        (snapshot / part.name).symlink_to(f"../../blobs/blob{number}")
    (tmp_path / "link").symlink_to("snapshots/main")
    second = sorted(snapshot.iterdir())[1].name
    expected = [str(path) for path in sorted(snapshot.iterdir())]
    assert parts_seen(launcher, snapshot / second) == expected
    assert parts_seen(launcher, f"../snapshots/main/{second}", store) == [
        str(Path("../snapshots/main", Path(path).name)) for path in expected
    ]
    for typed in (f"link/{second}", f"snapshots/../link/{second}", f"link/../main/{second}"):
        assert len(parts_seen(launcher, typed, tmp_path)) == 3
    (launcher.lab / "models" / "inside.gguf").symlink_to(tmp_path / "first-hop")
    (tmp_path / "first-hop").symlink_to(model)
    config = tmp_path / "config.yml"
    models = [{"name": "m", "source": {"file": "inside.gguf", "sha256": "0" * 64}}]
    config.write_text(yaml.safe_dump({"experiment": "x", "models": models, "factors": {"resident": [0.5]}}))
    answer = launcher("plan", config)
    assert answer.returncode == 0, answer.stderr
    assert "is not here yet" not in answer.stdout


@pytest.mark.parametrize("cwd", ["/", "/usr", "/opt", "/etc", "/var/lib/dpkg", "/dev", "/sys", "/run"])
def test_a_working_directory_that_the_container_has_itself(launcher: OwnLauncher, model: Path, cwd: str) -> None:
    relative = os.path.relpath(model, cwd)
    assert parts_seen(launcher, relative, cwd) == [relative]


def test_what_cannot_be_shared_is_refused_in_a_sentence(launcher: OwnLauncher, model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(model, tmp_path / "line\r\nend.gguf")
    (tmp_path / "circle").symlink_to("circle")
    for typed, words in (
        ("/", "is a directory that the container has itself"),
        ("/usr/lib", "is a directory that the container has itself"),
        ("pipe", "neither a file nor a directory"),
        ("/dev/zero", "neither a file nor a directory"),
        ("/proc/version", "no file on a disk"),
        (b"not-\xff-utf8", "not in UTF-8"),
        ("line\r\nend.gguf", "carriage return"),
        ("circle", "circle"),
        (SOCKET, "neither a file nor a directory"),
    ):
        answer = launcher("model", "inspect", typed, cwd=tmp_path)
        assert answer.returncode == 2, (typed, answer)
        assert words in answer.stderr
        assert answer.stderr.startswith("pagelab: ")


# What must fail in a container that only computes; each is tried by whoever it runs as.
ATTEMPTS = """#!/usr/bin/python3
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def refused(action):
    try:
        return action() in (None, -1)
    except OSError:
        return True

def write(path):
    with open(path, "w") as file:
        file.write("x")
    return "written"

status = dict(line.rstrip().split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"],
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]],
    "arguments": sys.argv[1:],
    "unrefused": [name for name, action in {
        "host's file": lambda: open(HOST_FILE).read() or "read",
        "root": lambda: write("/written"),
        "sys": lambda: write("/sys/kernel/mm/transparent_hugepage/enabled"),
        "proc sys": lambda: write("/proc/sys/vm/swappiness"),
        "group": lambda: os.mkdir("/sys/fs/cgroup/memory/pagelab-attempt") or "made",
        "mount": lambda: libc.mount(b"tmpfs", b"/run/pagelab", b"tmpfs", 0, None),
        "node": lambda: os.mknod("/run/pagelab/node", 0o60600, os.makedev(7, 0)) or "made",
        "network": lambda: socket.create_connection(("127.0.0.1", 22), 1),
        "raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "what was named": lambda: write(sys.argv[-1]),
    }.items() if not refused(action)],
}))
"""


@pytest.mark.parametrize("user", [None, "12345:54321"])
def test_what_computes_can_do_nothing_but_compute(tmp_path: Path, image: str, user: str | None) -> None:
    """pagelab's place is taken by a program that tries what it must not do."""
    host_file = tmp_path / "of-the-host"
    host_file.write_text("secret")
    host_file.chmod(0o644)
    named = tmp_path / "named.gguf"
    named.write_text("")
    named.chmod(0o666)
    context = tmp_path / "context"
    context.mkdir()
    (context / "pagelab").write_text(ATTEMPTS.replace("HOST_FILE", repr(str(host_file))))
    (context / "pagelab").chmod(0o755)
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY pagelab /opt/pagelab/bin/pagelab\n")
    built = docker("build", "--quiet", context).splitlines()[-1]
    ids = dict(zip(("SUDO_UID", "SUDO_GID"), user.split(":"), strict=True)) if user else {}
    launcher = make_launcher(tmp_path / "lab", socket=SOCKET, image=built, **ids)
    try:
        answer = launcher("model", "inspect", named)
        assert answer.returncode == 0, answer.stderr
        found = json.loads(answer.stdout)
    finally:
        docker("image", "rm", built)
    assert found == {
        "user": [int(part) for part in user.split(":")] if user else [os.getuid(), os.getgid()],
        "capabilities": 0,
        "no_new_privileges": "1",
        "processes": 1,
        "interfaces": ["lo"],
        "arguments": ["model", "inspect", str(named)],
        "unrefused": [],
    }
    assert named.read_text() == ""


def test_everything_that_computes_still_works(launcher: OwnLauncher, tmp_path: Path, model: Path) -> None:
    """As a user who owns the results, without root's rights."""
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == os.getuid() and place != place.parent:
            place.chmod(place.stat().st_mode | 0o055)
    results = tmp_path / "re,sults"
    store = raw_run(results)
    for path in (results, *results.rglob("*")):
        os.chown(path, 12345, 54321)
    typed = OwnLauncher(launcher.lab, {"SUDO_UID": "12345", "SUDO_GID": "54321"})
    run = store.directory
    recorded = tmp_path / "a:b.blktrace.0"
    recorded.write_bytes(blk_record(1_000, 8, 4096, ISSUED | READ) + blk_record(2_000, 8, 4096, COMPLETED | READ))
    for words in (
        ("analyze", run),
        ("report", run),
        ("compare", run, run, "--json"),
        ("schema",),
        ("model", "inspect", model),
        ("trace", "export", run, "--trial", "1", "--format", "csv", "--out", "re,sults/reads.csv"),
        (
            *[
                "model",
                "synth",
                "--architecture",
                "llama",
                "--layers",
                "1",
                "--width",
                "64",
                "--feed-forward",
                "64",
                "--output",
            ],
            "re,sults/m.gguf",
        ),
    ):
        answer = typed(*words, cwd=tmp_path)
        assert answer.returncode == 0, (words, answer)
        assert answer.stderr == "", words
    written = {path.relative_to(results).name for path in results.rglob("*")}
    assert {"trial.json", "index.html", "speed.svg", "reads.csv", "m.gguf", "access.json"} <= written
    assert {(path.stat().st_uid, path.stat().st_gid) for path in results.rglob("*")} == {(12345, 54321)}


def test_a_tag_that_was_given_to_another_image_changes_nothing(tmp_path: Path, image: str) -> None:
    """Provisioning names the image by a tag, and the launcher that it installs starts what had that tag then."""
    name, lab = f"pagelab-test/tag:{os.getpid()}", tmp_path / "lab"
    docker("tag", image, name)
    try:
        for place in ("models", "state", "llama.cpp", "bin", "installed"):
            (lab / place).mkdir(parents=True)
        (lab / "installed" / "container.fact").write_text('{"memlock": false}')
        given = {
            "pagelab_dir": str(lab),
            "image": name,
            "container_engine_socket": str(SOCKET),
            "container_engine_client": ["docker", f"--host=unix://{SOCKET}"],
            "ansible_python_interpreter": sys.executable,
        }
        installed = play_role(PLAYBOOK, "localhost,", "--connection=local", "--extra-vars", json.dumps(given))
        assert installed.returncode == 0, installed.stdout
        launcher = OwnLauncher(lab, {})
        assert launcher("version").returncode == 0

        (tmp_path / "Dockerfile").write_text(f"FROM {image}\nENV PATH=/nowhere\n")
        docker("build", "--quiet", "--tag", name, tmp_path)
        assert docker("image", "inspect", "--format", "{{.Id}}", name) != image
        answer = launcher("version")
        assert (answer.returncode, answer.stderr) == (0, "")
    finally:
        docker("image", "rm", name)


def test_an_image_that_is_gone_is_said_in_a_sentence(tmp_path: Path) -> None:
    answer = make_launcher(tmp_path / "lab", socket=SOCKET, image=f"sha256:{'0' * 64}")("version")
    assert answer.returncode == 2
    assert answer.stderr == "pagelab: the image that provisioning recorded is not here; type: make provision\n"
