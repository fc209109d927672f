"""Kernel settings are journalled before they are changed, and come back on every way out."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import DISK_DIRECTORY, needs_root, on_host
from pagelab.config.factors import HUGE_PAGES_FILE
from pagelab.errors import HostError
from pagelab.host.journal import Journal, selected
from pagelab.host.kernel_setting import KernelSetting
from pagelab.host.procfs import read_text
from pagelab.host.storage import disk_of
from pagelab.run.trial import put_back_afterwards

pytestmark = needs_root

# What the kernel says is read here, and not by the code under test.
READAHEAD_FILE = disk_of(DISK_DIRECTORY).readahead_file
CHOICES = {READAHEAD_FILE: ("512", "1024", "2048"), HUGE_PAGES_FILE: ("always", "madvise", "never")}

CHANGE_AND_WAIT = """
import sys
from pathlib import Path
from pagelab.host.journal import Journal, exclusive
from pagelab.host.kernel_setting import KernelSetting
with exclusive(Path(sys.argv[1])):
    for file, value in zip(sys.argv[2::2], sys.argv[3::2]):
        KernelSetting(Path(file), value).apply(Journal(Path(sys.argv[1])))
    print("changed", flush=True)
    sys.stdin.read()
"""


def in_kernel(file: Path) -> str:
    text = file.read_text()
    return text[text.index("[") + 1 : text.index("]")] if "[" in text else text.strip()


def others(file: Path) -> list[str]:
    """Two values or more that the setting does not have now."""
    return [value for value in CHOICES[file] if value != in_kernel(file)]


@pytest.fixture(params=CHOICES, ids=["readahead", "huge pages"])
def file(request: pytest.FixtureRequest) -> Iterator[Path]:
    path: Path = request.param
    if not path.exists():
        pytest.skip(f"this kernel has no {path}")
    before = in_kernel(path)
    yield path
    path.write_text(before)  # also where the test failed; host_left_by_test has the word on what it left


def test_a_setting_is_put_back_on_a_normal_exit(file: Path, tmp_path: Path) -> None:
    before, value, journal = in_kernel(file), others(file)[0], Journal(tmp_path)
    with put_back_afterwards(journal):
        KernelSetting(file, value).apply(journal)
        assert in_kernel(file) == value
        assert journal.entries() == [{"setting": str(file), "value": before}]
    assert in_kernel(file) == before
    assert journal.entries() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_setting_is_put_back_on_an_exception(file: Path, tmp_path: Path, error: type[BaseException]) -> None:
    before, journal = in_kernel(file), Journal(tmp_path)

    def interrupted() -> None:
        with put_back_afterwards(journal):
            KernelSetting(file, others(file)[0]).apply(journal)
            assert in_kernel(file) != before
            raise error

    with pytest.raises(error):
        interrupted()
    assert in_kernel(file) == before


def test_of_two_changes_the_first_value_comes_back(file: Path, tmp_path: Path) -> None:
    before, (first, second, *_), journal = in_kernel(file), others(file), Journal(tmp_path)
    KernelSetting(file, first).apply(journal)
    KernelSetting(file, second).apply(journal)
    assert journal.undo() == [f"set {file} back from {second} to {first}", f"set {file} back from {first} to {before}"]
    assert in_kernel(file) == before


def test_nothing_is_changed_that_cannot_be_journalled(file: Path, tmp_path: Path) -> None:
    before = in_kernel(file)
    with pytest.raises(HostError, match=r"cannot write the journal .*so nothing was changed"):
        KernelSetting(file, others(file)[0]).apply(Journal(tmp_path / "missing"))
    assert in_kernel(file) == before


def test_a_value_that_the_kernel_refuses_was_journalled_before(file: Path, tmp_path: Path) -> None:
    before, journal = in_kernel(file), Journal(tmp_path)
    with pytest.raises(HostError, match=f"cannot write nonsense to {file}"):
        KernelSetting(file, "nonsense").apply(journal)
    assert journal.entries() == [{"setting": str(file), "value": before}]
    assert journal.undo() == []
    assert in_kernel(file) == before


def test_the_setting_that_is_there_already_is_no_change(file: Path, tmp_path: Path) -> None:
    KernelSetting(file, in_kernel(file)).apply(Journal(tmp_path))
    assert Journal(tmp_path).entries() == []


def test_restore_puts_back_what_a_killed_process_left(tmp_path: Path) -> None:
    files = [file for file in CHOICES if file.exists()]
    before, wanted = [in_kernel(file) for file in files], [others(file)[0] for file in files]
    pairs = [str(item) for pair in zip(files, wanted, strict=True) for item in pair]
    environment = {"PAGELAB_STATE": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", CHANGE_AND_WAIT, str(tmp_path), *pairs], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"changed\n"
        refused = on_host("restore", environment=environment)
        assert refused.returncode == 2
        assert f"an experiment is running on this host (process {process.pid})" in refused.stderr
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert [in_kernel(file) for file in files] == wanted  # what was killed could not tidy up
    finally:
        process.kill()
        process.communicate()
        answer = on_host("restore", environment=environment)
    assert answer.returncode == 0
    expected = [f"set {file} back from {new} to {old}" for file, new, old in zip(files, wanted, before, strict=True)]
    assert answer.stdout.splitlines() == expected[::-1]
    assert [in_kernel(file) for file in files] == before
    assert on_host("restore", environment=environment).stdout == "nothing was left to put back\n"


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "journal.jsonl").write_text('{"setting": "/proc/sys/vm/swappiness", "val')
    assert journal.entries() == []
    assert journal.undo() == []


def test_the_chosen_word_is_found_in_a_list() -> None:
    assert selected(read_text(HUGE_PAGES_FILE) if HUGE_PAGES_FILE.exists() else "a [b] c") in {
        "always",
        "madvise",
        "never",
        "b",
    }
