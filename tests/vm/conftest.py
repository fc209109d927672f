"""Virtual machines for all the tests here, from the first boot to the last look: two, or as many as asked for.

Under emulation they take minutes to be made and to boot. Unit tests measure nothing, so where those run too, the
machines get ready beside them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtual_lab.lab import down
from virtual_lab.machine import Machine
from virtual_lab.packages import missing_packages

TESTS = Path(__file__).parents[1]
FACTS = TESTS.parent / ".cache" / "facts"
UP = [sys.executable, "-m", "virtual_lab", "up", "--memory-mib=1536", "--disk-gib=8"]


class Lab:
    """The machines of this session. They are made in a process of their own: tests change much in this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin to make them, unless that has begun, or cannot be."""
        if self._process or Machine.all() or os.geteuid() != 0:
            return
        for cached in FACTS.glob("lab*"):
            cached.unlink()
        self._process = subprocess.Popen(
            [*UP, f"--count={os.environ.get('PAGELAB_TEST_MACHINES', '2')}"],
            env=os.environ | {"PYTHONPATH": str(TESTS.parent / "tools")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> list[Machine]:
        """The machines, once they answer."""
        if os.geteuid() != 0:
            pytest.skip("only root may make the disk images of the virtual machines")
        self.start()
        if self._process is None:
            pytest.fail("a virtual lab is running, and the tests need one of their own: make vm-down")
        said, _ = self._process.communicate()
        if self._process.returncode != 0 and missing_packages():
            pytest.skip(f"there is nothing to run virtual machines with: {said}")
        assert self._process.returncode == 0, said
        return Machine.all()

    def end(self) -> None:
        """Remove them, however far they have come."""
        if self._process:
            self._process.wait()
            down(packages=False)


LAB = Lab()


class BesideUnitTests:
    """Starts the machines with the first unit test: what comes before may measure, and is not to be disturbed."""

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Before each test."""
        if item.path.is_relative_to(TESTS / "unit"):
            LAB.start()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where no test needs the machines, nobody starts them."""
    if any(item.path.is_relative_to(TESTS / "vm") for item in session.items):
        session.config.pluginmanager.register(BesideUnitTests())


def pytest_sessionfinish() -> None:
    """On every way out."""
    LAB.end()


@pytest.fixture(scope="session")
def machines() -> dict[str, Machine]:
    """Machines lab1, bare, lab2, with an administrator's container engine, and more, as they come out of the box."""
    return {machine.name: machine for machine in LAB.wait()}
