"""What is in the page cache, and that who is not told it is told so."""

import os
from pathlib import Path

import pytest

from pagelab.errors import HostError
from pagelab.host.page_cache import _mincore_pages, opened, resident_bytes
from pagelab.host.procfs import PAGE_BYTES

NOBODY = 65534
SOMEBODY_S = Path("/etc/passwd")  # everybody may read it, and root alone may write it


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_may_not_write_a_file_is_not_told_that_all_of_it_is_resident() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, f"{_by_mincore(SOMEBODY_S)} pages".encode())
        except HostError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert said == f"the kernel does not tell which pages of {SOMEBODY_S} are in RAM; run as its owner or as root"


def _by_mincore(path: Path) -> int:
    """As on a kernel that has no cachestat(2), or refuses it."""
    with opened(path) as descriptor:
        return int(_mincore_pages(descriptor, [0, path.stat().st_size])[0])


def test_what_was_read_is_resident(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(10 * PAGE_BYTES + 1))
    file.read_bytes()
    assert resident_bytes(file) == 11 * PAGE_BYTES
    assert _by_mincore(file) == 11
