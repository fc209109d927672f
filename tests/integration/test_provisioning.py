"""The provisioned host, by its effects: a second time changes nothing, what was undone is done again."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab import LAB, LAUNCHER, needs_lab, needs_root

CHECKOUT = Path(__file__).parents[2]
SWAP_FILE = LAB / "swapfile"
PLAYBOOK = CHECKOUT / ".venv" / "bin" / "ansible-playbook"

pytestmark = [needs_lab, needs_root]


def command(*words: str | Path, directory: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """Run a command, without a terminal."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def changed(output: str) -> int:
    """The number of tasks that a playbook reports as changed; it must have run some."""
    recap = re.search(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=0\s+failed=0", output)
    assert recap, output
    assert int(recap[1]) > 10
    return int(recap[2])


def inside(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the runner's container."""
    return command(LAUNCHER, "shell", "-c", 'exec "$@"', "shell", *words)


def active_swap() -> str:
    return Path("/proc/swaps").read_text()


def test_provisioning_again_changes_nothing() -> None:
    again = command("make", "provision")
    assert again.returncode == 0, again.stdout + again.stderr
    assert changed(again.stdout) == 0


def test_the_playbook_can_be_typed_in_its_own_directory() -> None:
    typed = command(PLAYBOOK, "provision.yml", directory=CHECKOUT / "ansible")
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert changed(typed.stdout) == 0


def test_swap_that_was_switched_off_is_switched_on_again() -> None:
    assert str(SWAP_FILE) in active_swap()
    subprocess.run(["swapoff", str(SWAP_FILE)], check=True)
    assert str(SWAP_FILE) not in active_swap()
    again = command("make", "provision")
    assert again.returncode == 0, again.stdout + again.stderr
    assert changed(again.stdout) > 0
    assert str(SWAP_FILE) in active_swap()


@pytest.mark.parametrize("path", [LAB / "llama.cpp" / "pin" / "bin", LAB / "models", CHECKOUT])
def test_what_is_measured_cannot_be_changed_from_the_container(path: Path) -> None:
    answer = inside("touch", f"{path}/written-by-a-test")
    assert answer.returncode != 0
    assert "Read-only file system" in answer.stderr


def test_the_container_reaches_neither_the_engine_nor_a_network() -> None:
    assert inside("test", "-e", "/var/run/docker.sock").returncode == 1
    interfaces = [line.split(":")[0].strip() for line in inside("cat", "/proc/net/dev").stdout.splitlines()[2:]]
    assert interfaces == ["lo"]


FIND_FONTS = "import logging; logging.basicConfig(level=logging.INFO); import matplotlib.font_manager"


def test_the_image_knows_its_fonts_so_that_no_report_looks_for_them() -> None:
    found = inside("python3", "-c", FIND_FONTS)
    assert (found.returncode, found.stderr) == (0, ""), "matplotlib says what it reads and finds"
    anew = inside("env", "MPLCONFIGDIR=/tmp/elsewhere", "python3", "-c", FIND_FONTS)
    assert "generated new fontManager" in anew.stderr, "and would say this"


def test_results_belong_to_who_ran_make(tmp_path: Path) -> None:
    """The launcher takes the owner from sudo's variables; the container itself runs as root."""
    environment = os.environ | {"SUDO_UID": "12345", "SUDO_GID": "54321"}
    config = tmp_path / "owner.yml"
    config.write_text(
        (CHECKOUT / "runner" / "configs" / "quickstart.yml").read_text().replace("tokens: 32", "tokens: 2")
    )
    run = subprocess.run(
        [str(LAUNCHER), "run", str(config), "--results", str(tmp_path / "results"), "--only", "resident=1.0"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = list((tmp_path / "results").rglob("*"))
    assert any(path.name == "trial.json" for path in written)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(12345, 54321)}
