"""The lab's directory, wherever it is: nothing of it is left, and what was there before stays."""

import json
import sys
from pathlib import Path

import pytest

from lab import needs_root, play_role

PLAYBOOK = Path(__file__).parent / "playbooks" / "lab_directory.yml"

pytestmark = needs_root


def play(pagelab_dir: Path | str, *steps: str) -> str:
    """Run steps of the role one after the other; what was printed."""
    variables = {
        "pagelab_dir": str(pagelab_dir),
        "steps": list(steps),
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
    }
    answer = play_role(PLAYBOOK, "here,", "--extra-vars", json.dumps(variables))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.parametrize("ending", ["", "/"])
def test_directories_that_were_made_for_it_go_with_it(tmp_path: Path, ending: str) -> None:
    there, lab = tmp_path / "there", tmp_path / "there" / "made" / "too" / "lab"
    there.mkdir()
    play(f"{lab}{ending}", "main")
    assert (lab / "installed" / "before.json").is_file()
    said = play(f"{lab}{ending}", "recall", "remove", "compare")
    assert there.is_dir()
    assert list(there.iterdir()) == []
    assert "here is as it was before the lab:" in said


@pytest.mark.parametrize("file", ["somebody's", "made/somebody's"])
def test_what_is_somebody_elses_stays(tmp_path: Path, file: str) -> None:
    lab = tmp_path / "made" / "lab"
    play(lab, "main")
    (tmp_path / file).write_text("kept")
    play(lab, "recall", "remove")
    assert (tmp_path / file).read_text() == "kept"
    assert not lab.exists()
    assert (tmp_path / "made").exists() == file.startswith("made")


def test_a_directory_that_is_left_is_said(tmp_path: Path) -> None:
    lab = tmp_path / "made" / "lab"
    play(lab, "main")
    said = play(lab, "recall", "compare")
    assert "here is not as it was" in said
    assert f"files, new: {lab}" in said.replace("\n", "")
