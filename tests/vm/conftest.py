"""Virtual machines for all the tests here, from the first boot to the last look: two, or as many as asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtual_lab.errors import VirtualLabError
from virtual_lab.lab import down, up
from virtual_lab.machine import Machine
from virtual_lab.packages import install_packages

PROJECT = Path(__file__).parents[2]
COUNT = int(os.environ.get("PAGELAB_TEST_MACHINES", "2"))


@pytest.fixture(scope="session")
def machines() -> Iterator[dict[str, Machine]]:
    """Machines lab1, bare, lab2, with an administrator's container engine, and more, as they come out of the box."""
    if os.geteuid() != 0:
        pytest.skip("only root may make the disk images of the virtual machines")
    try:
        install_packages()
    except VirtualLabError as error:
        pytest.skip(f"there is nothing to run virtual machines with: {error}")
    if Machine.all():
        pytest.fail("a virtual lab is running, and the tests need one of their own: make vm-down")
    for cached in (PROJECT / ".cache" / "facts").glob("lab*"):
        cached.unlink()
    try:
        up(COUNT, memory_mib=1536, disk_gib=8)
        yield {machine.name: machine for machine in Machine.all()}
    finally:
        down(packages=False)
