#!/usr/bin/python
"""swapfile: have a swap file of a given size and priority; the standard library is enough for it.

First everything is looked at (`look`), then it is decided what is wrong (`refusal`) and what is to be done (`decide`),
and only then something is done (`Steps`). The kernel's list and the disk decide, not what an earlier run reported. So a
run that was interrupted between two steps is taken up where it ended.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: swapfile
short_description: Have a swap file of a given size and priority, or none
description:
  - Makes a swap file on ext4, xfs or btrfs, switches it on, and enters it in fstab where that is in use.
  - A changed size, priority or path takes effect. The file at a former path is removed.
  - Never touches a file that the lab did not make, nor other swap of the host.
options:
  path: {type: path, required: true, description: Where the file is.}
  size_mib: {type: int, required: true, description: Its size in MiB. 0 removes the one that was made before.}
  priority: {type: int, default: -1, description: "From 0 to 32767, or -1 for the kernel's choice."}
  reserve_mib: {type: int, default: 0, description: How many MiB of the disk must stay free.}
  fstab: {type: path, default: /etc/fstab, description: The table of what is switched on at boot.}
  lab: {type: path, required: true, description: The lab's directory. What is below it counts as the lab's own.}
author: pagelab
"""

RETURN = r"""
path: {type: str, returned: always, description: "Where the file really is, links followed."}
fstab_changed: {type: bool, returned: always, description: Whether the table of file systems has changed.}
"""

FILE_SYSTEMS = ("btrfs", "ext4", "xfs")
MIB = 2**20
KERNELS_CHOICE = -1
HIGHEST_PRIORITY = 32767
FIRST_PAGE_KIB = 4


class Wanted(NamedTuple):
    """What is asked for; `path` is where it really is."""

    path: str
    size_mib: int
    priority: int
    reserve_mib: int
    lab: str

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.size_mib * MIB


class Area(NamedTuple):
    """A swap file that the kernel uses."""

    kib: int
    used_kib: int
    priority: int


class File(NamedTuple):
    """What is at a path. A file with holes has less reserved than its size: an interrupted run may leave one."""

    is_regular: bool
    size_bytes: int
    reserved_bytes: int


class Seen(NamedTuple):
    """What the host is like."""

    areas: dict[str, Area]
    files: dict[str, File]
    recorded: str  # the path in the lab's record, empty if there is none
    table: str | None  # fstab, None if there is none
    uses_table: bool
    directory_is_there: bool
    file_system: str
    free_bytes: int
    one_disk: bool  # whether the former file is on the disk that the new one goes to
    copies_on_write: bool  # whether btrfs would, which a swap file does not bear


class Plan(NamedTuple):
    """What is to be done, in this order."""

    removes_former: bool
    records: bool
    switches_off: bool
    makes: bool
    formats: bool
    switches_on: bool
    table: str | None

    @property
    def table_changes(self) -> bool:
        """Whether fstab is to be written."""
        return self.table is not None


# --- deciding ---------------------------------------------------------------------------------------------------------


def misdescribed(path: str, size_mib: int, priority: int) -> str | None:
    """Why what is asked for cannot be."""
    if not re.fullmatch(r"(/[^/\s]+)+", path) or "/.." in path:
        return f"swapfile_path must be an absolute path without white space; it is {path!r}."
    if size_mib < 0:
        return f"swapfile_size_mib must be 0 or more; it is {size_mib}."
    if not KERNELS_CHOICE <= priority <= HIGHEST_PRIORITY:
        return (
            f"swapfile_priority must be from 0 to {HIGHEST_PRIORITY}, or {KERNELS_CHOICE} for the kernel's choice; "
            f"it is {priority}."
        )
    return None


def former_path(wanted: Wanted, seen: Seen) -> str:
    """Where the lab's swap file was. A host that was set up before there was a record has it at the default of then."""
    return seen.recorded or f"{wanted.lab}/swapfile"


def is_ours(wanted: Wanted, seen: Seen) -> bool:
    """Whether what is at the path is the lab's. What anybody else made is never switched off or overwritten."""
    return wanted.path == former_path(wanted, seen) or wanted.path.startswith(f"{wanted.lab}/")


def has_priority(wanted: Wanted, seen: Seen) -> bool:
    """Whether it is on, with this priority."""
    area = seen.areas.get(wanted.path)
    if area is None:
        return False
    return area.priority == wanted.priority or (wanted.priority < 0 and area.priority < 0)


def is_complete(wanted: Wanted, seen: Seen) -> bool:
    """Whether the file can stay as it is.

    What is on has passed the kernel's own check. The kernel's size is no measure: on a file system with blocks of 1 KiB
    it leaves out those that do not make up a page.
    """
    file = seen.files.get(wanted.path)
    if file is None or not file.is_regular or file.size_bytes != wanted.size_bytes:
        return False
    return wanted.path in seen.areas or (file.reserved_bytes >= wanted.size_bytes and not seen.copies_on_write)


def free_mib(wanted: Wanted, seen: Seen) -> int:
    """What the disk has free, with what a replaced file gives back."""
    free = seen.free_bytes
    former = former_path(wanted, seen)
    if wanted.path in seen.files:
        free += seen.files[wanted.path].reserved_bytes
    if former != wanted.path and former in seen.files and seen.one_disk:
        free += seen.files[former].reserved_bytes
    return free // MIB


def refusal(wanted: Wanted, seen: Seen, *, check: bool) -> str | None:
    """Why nothing is done; in check mode the lab's own directory may be one that is yet to be made."""
    found, in_lab = seen.files.get(wanted.path), wanted.path.startswith(f"{wanted.lab}/")
    if found and not (found.is_regular and is_ours(wanted, seen)):
        return foreign(wanted, found, is_on=wanted.path in seen.areas)
    # No directory is made: where the disk of one is not mounted, the file would fill the system's.
    if not seen.directory_is_there and not (check and in_lab):
        return (
            f"There is no directory {Path(wanted.path).parent} for the swap file. Mount the disk that it is on or make "
            "it, or set swapfile_path to another path in the inventory."
        )
    if seen.file_system not in FILE_SYSTEMS:
        return (
            f"There can be no swap file at {wanted.path}: the file system there is {seen.file_system}, and it takes "
            "ext4, xfs or btrfs. Set swapfile_path to a path on one of these in the inventory, or swapfile_size_mib: 0 "
            "to go without."
        )
    free = free_mib(wanted, seen)
    if not is_complete(wanted, seen) and free - wanted.size_mib < wanted.reserve_mib:
        return no_room(wanted, free)
    return None


def foreign(wanted: Wanted, found: File, *, is_on: bool) -> str:
    """That somebody else's file is in the way."""
    kind = "file" if found.is_regular else "directory or device"
    return (
        f"There is a {kind} at {wanted.path} that the lab did not make{', in use as swap' if is_on else ''}; it was "
        "left as it is. Set swapfile_path to another path in the inventory, set swapfile_size_mib: 0 to go without a "
        "swap file of the lab's, or remove it."
    )


def no_room(wanted: Wanted, free: int) -> str:
    """That too little of the disk would stay free."""
    return (
        f"There is no room for a swap file of {wanted.size_mib} MiB: the disk of {Path(wanted.path).parent} has {free} "
        f"MiB free, with what a former swap file gives back, and {wanted.reserve_mib} of them must stay free "
        "(swapfile_reserve_mib). Free some, or set a smaller swapfile_size_mib, or a swapfile_path on a larger disk, "
        "in the inventory."
    )


def decide(wanted: Wanted, seen: Seen) -> Plan:
    """What there is to do for the file to be as it is wanted."""
    former = former_path(wanted, seen)
    complete, is_on = is_complete(wanted, seen), wanted.path in seen.areas
    settled = complete and has_priority(wanted, seen)
    removes_former = former != wanted.path and is_there(former, seen)
    table = without(seen.table, former) if removes_former else seen.table
    if seen.uses_table:
        table = with_line(table, wanted.path, table_line(wanted.path, wanted.priority))
    return Plan(
        removes_former=removes_former,
        records=seen.recorded != wanted.path,
        switches_off=is_on and not settled,
        makes=not complete,
        formats=not (complete and is_on),  # one that was on has its signature
        switches_on=not settled,
        table=table if table != seen.table else None,
    )


def is_there(path: str, seen: Seen) -> bool:
    """Whether there is a file, an active area or an entry to take away."""
    file = seen.files.get(path)
    return (file is not None and file.is_regular) or path in seen.areas or bool(lines_of(seen.table, path))


def unwanted(wanted: Wanted, seen: Seen) -> list[str]:
    """What goes where no swap file is wanted."""
    former = former_path(wanted, seen)
    return [former, wanted.path] if is_ours(wanted, seen) and wanted.path != former else [former]


# --- the table of file systems ----------------------------------------------------------------------------------------


def table_line(path: str, priority: int) -> str:
    """How a swap file is entered."""
    return f"{path} none swap sw{f',pri={priority}' if priority >= 0 else ''} 0 0"


def words_of(line: str) -> list[str]:
    """What is between the spaces and tabs of a line; other white space is part of a name, here and in /proc/swaps."""
    return [word for word in re.split("[ \t]+", line) if word]


def lines_of(table: str | None, path: str) -> list[str]:
    """The entries of a path."""
    return [line for line in (table or "").split("\n") if words_of(line)[:1] == [path]]


def without(table: str | None, path: str) -> str | None:
    """The table without the entries of a path."""
    if not lines_of(table, path):
        return table
    return "\n".join(line for line in (table or "").split("\n") if words_of(line)[:1] != [path])


def with_line(table: str | None, path: str, line: str) -> str:
    """The table with this entry as the only one of its path, at the place of a former one."""
    if lines_of(table, path) == [line]:
        return table or ""
    lines = (table or "").rstrip("\n").split("\n") if table else []
    place = next((number for number, other in enumerate(lines) if words_of(other)[:1] == [path]), len(lines))
    rest = [other for other in lines[place:] if words_of(other)[:1] != [path]]
    return "".join(f"{each}\n" for each in [*lines[:place], line, *rest])


def has_entries(table: str | None) -> bool:
    """Whether anything is in it. Where there is no systemd, which reads any, one without entries is used by nobody."""
    return any(line.strip() and not line.strip().startswith("#") for line in (table or "").splitlines())


# --- looking ----------------------------------------------------------------------------------------------------------


def areas_of(swaps: str) -> dict[str, Area]:
    """The swap files in the text of /proc/swaps, by path."""
    rows = [words_of(line) for line in swaps.split("\n")]
    files = [row for row in rows if len(row) == 5 and row[1] == "file"]
    return {path: Area(int(kib), int(used), int(priority)) for path, _, kib, used, priority in files}


def file_at(path: str) -> File | None:
    """What is at a path."""
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return File(stat.S_ISREG(found.st_mode), found.st_size, found.st_blocks * 512)


def text_of(path: str) -> str | None:
    """What is in a file, if it is there."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def recorded_path(record: str) -> str:
    """The path of the swap file that the lab made, by its record."""
    text = text_of(record)
    try:
        return str(json.loads(text)["path"]) if text else ""
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{record} is damaged ({error}): remove it and run again") from error


def nearest(directory: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    return next(path for path in (directory, *directory.parents) if path.is_dir())


def disk_of(module: AnsibleModule, path: str) -> tuple[str, str]:
    """The device, and the kind of file system, that a path is on."""
    _, output, _ = module.run_command(["df", "--output=source,fstype", path], check_rc=True)
    source, _, file_system = output.split("\n")[1].rpartition(" ")
    return source.rstrip(" "), file_system


def copies_on_write(module: AnsibleModule, path: str) -> bool:
    """Whether btrfs copies the blocks of a file when they are written."""
    code, output, _ = module.run_command(["lsattr", "-d", path])
    return code != 0 or "C" not in output.split(None, 1)[0]


def look(module: AnsibleModule, wanted: Wanted, record: str, fstab: str) -> Seen:
    """Look at all that what is to be done depends on."""
    recorded, table = recorded_path(record), text_of(fstab)
    former = recorded or f"{wanted.lab}/swapfile"
    files = {path: found for path in (wanted.path, former) if (found := file_at(path))}
    directory = Path(wanted.path).parent
    there = nearest(directory)
    source, file_system = disk_of(module, str(there))
    space = os.statvfs(there)
    return Seen(
        areas=areas_of(text_of("/proc/swaps") or ""),
        files=files,
        recorded=recorded,
        table=table,
        uses_table=Path("/run/systemd/system").is_dir() or has_entries(table),
        directory_is_there=there == directory,
        file_system=file_system,
        free_bytes=space.f_bavail * space.f_frsize,
        one_disk=former in files and disk_of(module, former)[0] == source,
        copies_on_write=file_system == "btrfs" and wanted.path in files and copies_on_write(module, wanted.path),
    )


# --- doing ------------------------------------------------------------------------------------------------------------


class Steps:
    """Changes the host, a step at a time."""

    def __init__(self, module: AnsibleModule, seen: Seen, fstab: str, record: str) -> None:
        self.changed = False
        self._module = module
        self._seen = seen
        self._fstab = fstab
        self._record = record

    def carry_out(self, plan: Plan, wanted: Wanted) -> None:
        """Do what is planned. The record comes before what it records, so that an interrupted run is undone as well."""
        if plan.removes_former:
            self.remove(former_path(wanted, self._seen))
        if plan.records:
            self.write(self._record, json.dumps({"path": wanted.path}, indent=4) + "\n")
        if plan.switches_off:
            self.switch_off(wanted.path)
        if plan.makes:
            self.make(wanted)
        if plan.formats:
            self.format(wanted.path)
        if plan.switches_on:
            self.switch_on(wanted)
        if plan.table is not None:
            self.write(self._fstab, plan.table)

    def remove(self, path: str) -> None:
        """Switch a swap file off and remove it, and its entry before it."""
        if path in self._seen.areas:
            self.switch_off(path)
        table = text_of(self._fstab)
        if lines_of(table, path):
            self.write(self._fstab, without(table, path) or "")
        file = self._seen.files.get(path)
        if file and file.is_regular:
            self.unlink(path)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()
        self.changed = True

    def write(self, path: str, text: str) -> None:
        """Give a file this text; it is replaced whole or not at all, and keeps its owner and mode."""
        target = Path(path).resolve()
        is_new = not target.exists()
        handle, temporary = tempfile.mkstemp(dir=self._module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
        self._module.atomic_move(temporary, str(target))
        if is_new:
            target.chmod(0o644)
        self.changed = True

    def switch_off(self, path: str) -> None:
        """Switch a swap file off, which takes what is in it back into memory."""
        code, _, error = self._module.run_command(["swapoff", path])
        if code == 0:
            self.changed = True
            return
        advice = "Restart the host, or end"
        if "Cannot allocate memory" in error:
            used_mib = self._seen.areas[path].used_kib // 1024
            advice = f"The {used_mib} MiB in it do not fit into the memory that is free: end"
        self.fail(
            f"{path} could not be switched off ({error.strip()}); it is in use as before. {advice} the experiment, or "
            "whatever else takes the memory there, and run this again."
        )

    def make(self, wanted: Wanted) -> None:
        """Make the file anew: mending one of another size or with holes takes no less time.

        Its blocks are reserved, not written: 50 GB at once instead of in a minute, and without wearing the disk. The
        kernel asks the file system where they are and then reads and writes past it, so reserved ones do: on ext4, on
        btrfs from 5.0 and on xfs from 4.18 on. A file with holes, as truncate or cp make it, would not do.
        """
        path = wanted.path
        if path in self._seen.files:
            self.unlink(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.chown(path, 0, 0)
        self.changed = True
        if self._seen.file_system == "btrfs":
            # Only an empty file takes it. It rules out compression and checksums as well.
            self._module.run_command(["chattr", "+C", path], check_rc=True)
        code, _, error = self._module.run_command(["fallocate", "--length", str(wanted.size_bytes), path])
        if code != 0:
            self.unlink(path)
            self.fail(
                f"{wanted.size_mib} MiB could not be reserved for {path}: {error.strip()}. Free space or lift the "
                "quota there, or set another swapfile_path or swapfile_size_mib in the inventory."
            )

    def format(self, path: str) -> None:
        """Write the signature."""
        self._module.run_command(["mkswap", path], check_rc=True)
        self.changed = True

    def switch_on(self, wanted: Wanted) -> None:
        """Switch it on; one that the kernel refuses goes."""
        priority = ["--priority", str(wanted.priority)] if wanted.priority >= 0 else []
        code, _, error = self._module.run_command(["swapon", *priority, wanted.path])
        if code == 0:
            self.changed = True
            return
        self.unlink(wanted.path)
        self.fail(
            f"The kernel does not take {wanted.path} as swap: {error.strip()}. Its log (dmesg) has the reason; on "
            'btrfs it must be on one disk with the data profile "single". Set swapfile_path to a path on another file '
            "system in the inventory, or swapfile_size_mib: 0 to go without."
        )

    def fail(self, sentence: str) -> None:
        """End here."""
        self._module.fail_json(msg=sentence, changed=self.changed)


# --- saying -----------------------------------------------------------------------------------------------------------


def differences(plan: Plan, wanted: Wanted, seen: Seen, fstab: str) -> list[dict[str, str]]:
    """What changes, as Ansible shows it."""
    found = []
    if plan.removes_former or plan.makes or plan.switches_on:
        former = former_path(wanted, seen)
        before = next((path for path in (wanted.path, former) if path in seen.files), "")
        left_mib = seen.free_bytes // MIB if is_complete(wanted, seen) else free_mib(wanted, seen) - wanted.size_mib
        priority = str(wanted.priority) if wanted.priority >= 0 else "the kernel's choice"
        after = described(wanted.path, wanted.size_mib, priority, f"{left_mib} MiB, {seen.file_system}")
        found.append(difference("swap file", state_of(before, seen), after))
    if plan.table is not None:
        found.append(difference(fstab, seen.table or "", plan.table))
    return found


def state_of(path: str, seen: Seen) -> str:
    """How the swap file at a path is now; nothing if there is none."""
    if path not in seen.files:
        return ""
    area = seen.areas.get(path)
    priority = "not in use" if area is None else str(area.priority) if area.priority >= 0 else "the kernel's choice"
    return described(path, seen.files[path].size_bytes // MIB, priority, f"{seen.free_bytes // MIB} MiB")


def described(path: str, size_mib: int, priority: str, free: str) -> str:
    """A swap file in lines."""
    return f"path: {path}\nsize: {size_mib} MiB\npriority: {priority}\nfree on its disk: {free}\n"


def difference(header: str, before: str, after: str) -> dict[str, str]:
    """One part of what Ansible shows."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}


# --- the module -------------------------------------------------------------------------------------------------------


def have(module: AnsibleModule, wanted: Wanted, seen: Seen, fstab: str, record: str) -> None:
    """Have the swap file as it is wanted."""
    problem = refusal(wanted, seen, check=module.check_mode)
    if problem:
        module.fail_json(msg=problem, changed=False)
    plan, steps = decide(wanted, seen), Steps(module, seen, fstab, record)
    answer = {"path": wanted.path, "fstab_changed": plan.table_changes, "diff": differences(plan, wanted, seen, fstab)}
    if module.check_mode:
        module.exit_json(changed=any(plan[:-1]) or plan.table_changes, **answer)
    steps.carry_out(plan, wanted)
    module.exit_json(changed=steps.changed, **answer)


def have_none(module: AnsibleModule, wanted: Wanted, seen: Seen, fstab: str, record: str) -> None:
    """Remove what the lab made."""
    paths = unwanted(wanted, seen)
    table = seen.table
    for path in paths:
        table = without(table, path)
    there = [path for path in paths if path in seen.areas or (path in seen.files and seen.files[path].is_regular)]
    shown = [difference("swap file", state_of(path, seen), "") for path in there]
    if table != seen.table:
        shown.append(difference(fstab, seen.table or "", table or ""))
    answer = {"path": wanted.path, "fstab_changed": table != seen.table, "diff": shown}
    if module.check_mode:
        module.exit_json(changed=bool(shown or seen.recorded), **answer)
    steps = Steps(module, seen, fstab, record)
    for path in paths:
        steps.remove(path)
    if seen.recorded:
        steps.unlink(record)
    module.exit_json(changed=steps.changed, **answer)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_mib": {"type": "int", "required": True},
            "priority": {"type": "int", "default": KERNELS_CHOICE},
            "reserve_mib": {"type": "int", "default": 0},
            "fstab": {"type": "path", "default": "/etc/fstab"},
            "lab": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    given = module.params
    problem = misdescribed(given["path"], given["size_mib"], given["priority"])
    if problem:
        module.fail_json(msg=problem, changed=False)
    # The kernel lists a swap file under the path where it really is.
    path, lab = os.path.realpath(given["path"]), given["lab"].rstrip("/")
    wanted = Wanted(path, given["size_mib"], given["priority"], given["reserve_mib"], lab)
    record = f"{lab}/installed/swapfile.fact"
    try:
        seen = look(module, wanted, record, given["fstab"])
    except ValueError as error:
        module.fail_json(msg=str(error), changed=False)
    act = have if wanted.size_mib > 0 else have_none
    act(module, wanted, seen, given["fstab"], record)


if __name__ == "__main__":
    main()
