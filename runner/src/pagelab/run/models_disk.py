"""Whether the disk that the models are on can be measured: what serves their reads, counts them and sets their size."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pagelab.config.schema import Config
from pagelab.errors import HostError
from pagelab.host.block_devices import is_counted, is_memory
from pagelab.host.procfs import read_int
from pagelab.host.storage import Disk, disk_of
from pagelab.models.catalog import file_specs, model_path
from pagelab.store.record import CheckRecord, CheckVerdict


class _Problem(NamedTuple):
    verdict: CheckVerdict
    found: str
    fix: str


def disks_of_models(config: Config, models_directory: Path) -> list[Disk]:
    """The disks of the models' files, each once; of files that are not there yet, that of the models' directory.

    Raises:
        HostError: one is on no disk of this host, or the directory is not there.
    """
    if not models_directory.is_dir():
        raise HostError(f"the models' directory {models_directory} is not there; run `make provision`")
    files = [model_path(one, models_directory) for spec in config.models for one in file_specs(spec)]
    places = [file if file.exists() else models_directory for file in files]
    return list(dict.fromkeys(map(disk_of, places)))


def models_disk_check(disk: Disk, readahead_is_set: bool) -> CheckRecord:
    """Whether what serves the models' reads can be seen and counted; `readahead_is_set` where it is a factor."""
    problems = [*_serving_problems(disk), *_readahead_problems(disk, readahead_is_set)]
    verdicts = {problem.verdict for problem in problems}
    return CheckRecord(
        name="models disk",
        verdict="fail" if "fail" in verdicts else "warn" if verdicts else "pass",
        found="; ".join([_place(disk), *(problem.found for problem in problems)]),
        why="counters, traces and settings have to be those of what serves the reads",
        fix="; ".join(problem.fix for problem in problems) or None,
    )


def _place(disk: Disk) -> str:
    """The device of the file system, and the disks whose counters are read for it."""
    serving = ", ".join(one.name for one in disk.serving)
    return disk.name if serving == disk.name else f"{disk.name}, served and counted by {serving}"


def _serving_problems(disk: Disk) -> Iterator[_Problem]:
    for one in disk.serving:
        if is_memory(one.sys_path):
            yield _Problem("fail", f"{one.name} is RAM and no disk", "put the models on a disk")
        elif not is_counted(one.sys_path):
            iostats = one.sys_path / "queue" / "iostats"
            yield _Problem("fail", f"{one.name} does not count what is read", f"echo 1 > {iostats}")
        elif (one.sys_path / "loop" / "backing_file").exists():
            yield _loop_problem(one)


def _loop_problem(loop: Disk) -> _Problem:
    """A loop device is a head of a file, which the kernel keeps in the page cache unless it is told not to."""
    if read_int(loop.sys_path / "loop" / "dio") == 1:
        return _Problem("warn", f"{loop.name} is a file on another disk", "put the models on that disk itself")
    return _Problem(
        "fail",
        f"{loop.name} is a file that the page cache keeps too, outside of every limit",
        f"losetup --direct-io=on /dev/{loop.name}",
    )


def _readahead_problems(disk: Disk, is_set: bool) -> Iterator[_Problem]:
    if disk.own_readahead is not None and disk.readahead_kib() is None:
        yield _Problem(
            "fail" if is_set else "warn",
            "the file system has a readahead of its own, and this kernel does not tell which it is",
            "leave readahead_kib at default, unmount other file systems of its kind, or use Linux 5.10 or newer",
        )
