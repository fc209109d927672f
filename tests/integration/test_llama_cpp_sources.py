"""The pinned commit of llama.cpp out of a repository: fetched by its name, which is the checksum of what it holds."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lab import CHECKOUT, ansible_environment

PLAYBOOK = Path(__file__).parent / "playbooks" / "llama_cpp_sources.yml"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="missing: git")


def git(repository: Path, *words: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    command = ["git", *identity, "-C", str(repository), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A source tree under git, whose second commit is not the one that is asked for."""
    path = tmp_path / "upstream"
    path.mkdir()
    git(path, "init", "--quiet")
    for text in ("the pinned commit", "a later one"):
        (path / "CMakeLists.txt").write_text(f"# {text}\n")
        git(path, "add", ".")
        git(path, "commit", "--quiet", "--message", text)
    return path


def fetch(tmp_path: Path, repository: Path, commit: str, source: str = "git") -> tuple[int, str]:
    given = {
        "llama_cpp_repository": repository.as_uri(),
        "llama_cpp_commit": commit,
        "llama_cpp_source": source,
        "pagelab_dir": str(tmp_path / "lab"),
        "pagelab_cache": str(tmp_path / "cache"),
        "pagelab_bin": str(Path(sys.executable).parent),
        "toolchain_image_name": "toolchain",
        "experiment_config": str(CHECKOUT / "runner" / "configs" / "quickstart.yml"),
    }
    playbook = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(PLAYBOOK)]
    command = [*playbook, "-e", json.dumps(given)]
    call = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=ansible_environment(),
        check=False,
        timeout=120,
    )
    return call.returncode, call.stdout + call.stderr


def test_the_commit_is_fetched_and_no_other(tmp_path: Path, repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD~1")
    code, said = fetch(tmp_path, repository, commit)
    assert code == 0, said
    with tarfile.open(tmp_path / "cache" / "llama.cpp" / f"{commit}.tar.gz") as archive:
        file = archive.extractfile(f"{commit}/CMakeLists.txt")
        assert file is not None
        assert file.read() == b"# the pinned commit\n"


def test_a_commit_that_the_repository_has_not_is_refused(tmp_path: Path, repository: Path) -> None:
    code, said = fetch(tmp_path, repository, "0123456789" * 4)
    assert code != 0
    assert "Fetch the commit" in said
    assert not list((tmp_path / "cache").rglob("*.tar.gz"))


def test_a_repository_that_is_not_there_is_refused_where_nothing_may_stand_in(tmp_path: Path) -> None:
    code, said = fetch(tmp_path, tmp_path / "nowhere", "0123456789" * 4)
    assert code != 0
    assert "Ask whether the repository can be reached" in said
