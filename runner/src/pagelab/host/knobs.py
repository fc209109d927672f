"""Kernel settings that are factors of an experiment: set for a trial, put back after it, journalled before."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.cgroup import Group
from pagelab.host.journal import Journal, selected
from pagelab.host.procfs import read_text
from pagelab.host.storage import Disk
from pagelab.store.record import Factors

HUGE_PAGES_FILE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SWAPPINESS_FILE = Path("/proc/sys/vm/swappiness")


@dataclass(frozen=True)
class Setting:
    """One kernel file and the value that a trial wants in it."""

    file: Path
    value: str

    def current(self) -> str | None:
        """The value now; of a list of choices, the chosen one."""
        return selected(read_text(self.file))

    def apply(self, journal: Journal) -> None:
        """Write the value, journalled, and read it back.

        Raises:
            HostError: the kernel has no such setting, refused the value, or holds another one afterwards.
        """
        before = self.current()
        if before is None:
            raise HostError(f"{self.file} does not exist on this kernel; leave this factor at 'default'")
        if before == self.value:
            return
        journal.note_setting(self.file, before)
        try:
            self.file.write_text(self.value)
        except OSError as error:
            raise HostError(f"cannot write {self.value} to {self.file} ({error.strerror})") from error
        if self.current() != self.value:
            raise HostError(
                f"{self.file} holds {self.current()} after {self.value} was written; choose a value it takes"
            )


def settings_for(factors: Factors, disk: Disk, group: Group) -> list[Setting]:
    """The settings that a trial's factors ask for; a factor at `default` asks for none.

    Swappiness is the group's own where the kernel has it (cgroup v1), else the host's: vm.swappiness does not
    reach into v1 groups, which copy it when they are made.
    """
    settings = []
    if factors.readahead_kib != "default":
        settings.append(Setting(disk.readahead_file, str(factors.readahead_kib)))
    if factors.swappiness != "default":
        settings.append(Setting(group.swappiness_file or SWAPPINESS_FILE, str(factors.swappiness)))
    if factors.huge_pages != "default":
        settings.append(Setting(HUGE_PAGES_FILE, factors.huge_pages))
    return settings
