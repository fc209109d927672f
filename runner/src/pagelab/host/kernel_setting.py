"""A kernel setting that a trial changes: journalled before, read back after, put back by the journal."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.errors import HostError
from pagelab.host.journal import Journal, selected
from pagelab.host.procfs import read_text


@dataclass(frozen=True)
class KernelSetting:
    """One kernel file and the value that a trial wants in it."""

    file: Path
    value: str

    def current(self) -> str | None:
        """The value now; of a list of choices, the chosen one."""
        return selected(read_text(self.file))

    def apply(self, journal: Journal) -> str:
        """Write the value, journalled, read it back, and return what it was before.

        Raises:
            HostError: the kernel has no such setting, refused the value, or holds another one afterwards.
        """
        before = self.current()
        if before is None:
            raise HostError(f"{self.file} does not exist on this kernel; leave this factor at 'default'")
        if before == self.value:
            return before
        journal.note_setting(self.file, before)
        try:
            self.file.write_text(self.value)
        except OSError as error:
            raise HostError(f"cannot write {self.value} to {self.file} ({error.strerror})") from error
        if self.current() != self.value:
            raise HostError(
                f"{self.file} holds {self.current()} after {self.value} was written; choose a value it takes"
            )
        return before
