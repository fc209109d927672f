"""Every test here leaves the host as it found it."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import DISK_DIRECTORY, LAUNCHER, eventually, fetched_models, host_state, write_config


def _check_host_state() -> Iterator[None]:
    before = host_state()
    yield
    after = host_state()
    if after != before and LAUNCHER.exists():  # so that it is this test that fails, and not all that follow
        subprocess.run([str(LAUNCHER), "restore"], check=False)
    assert after == before


@pytest.fixture(scope="module", autouse=True)
def host_left_by_module() -> Iterator[None]:
    """The runs that a module's tests share leave the host as it was; nothing begins beside somebody else's run."""
    found = host_state()
    if found.groups or found.llama_processes:
        pytest.fail(f"an experiment is running here, or was left behind: {found.groups}, {found.llama_processes}")
    yield from _check_host_state()


@pytest.fixture(autouse=True)
def host_left_by_test() -> Iterator[None]:
    """Each test leaves the host as it was."""
    yield from _check_host_state()


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory that is on a disk, as /tmp need not be."""
    with tempfile.TemporaryDirectory(dir=DISK_DIRECTORY, prefix="pagelab-test-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def dense_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model that the runs share."""
    with fetched_models(write_config(tmp_path_factory.mktemp("model") / "fetch.yml")) as (path,):
        yield path


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """Where a test keeps its configuration and its results; taken away with what the container wrote."""
    yield tmp_path
    shutil.rmtree(tmp_path / "results", ignore_errors=True)


@pytest.fixture
def small_disk(workspace: Path) -> Iterator[Path]:
    """A file system of its own for results, with little room."""
    directory = workspace / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)], check=True)
    yield directory
    # The container's own mount of it is taken away a moment after the container has gone.
    eventually(
        lambda: subprocess.run(["umount", str(directory)], capture_output=True, check=False).returncode == 0,
        f"{directory} is unmounted",
        20,
    )
