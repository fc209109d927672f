"""The programs of this machine that the virtual lab needs: installs what is missing, and can take it away again."""

import os
import re
import shutil
import subprocess

import typer

from virtual_lab import keyrings
from virtual_lab.errors import VirtualLabError
from virtual_lab.paths import CACHE, write

RECORD = CACHE / "installed-packages"
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def program(name: str) -> str | None:
    """Where a program is; a user's PATH seldom names root's directories, though some of what is there serves all."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def missing_packages() -> list[str]:
    """The Debian packages of the programs that are not here, however those that are came here."""
    wanted = {package for name, package in PROGRAMS.items() if program(name) is None}
    if not keyrings.DEBIAN.exists():
        wanted.add("debian-archive-keyring")
    return sorted(wanted)


def install_packages() -> None:
    """Install what is missing; it is recorded before that, so that an interrupted call can be undone too."""
    missing = missing_packages()
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise VirtualLabError(f"programs are missing; install them: apt-get install {' '.join(missing)}")
    _apt("update", "--quiet=2")
    install = ["install", "--no-install-recommends", *missing]
    new = re.findall(r"^Inst (\S+) (?!\[)", _apt(*install, "--simulate"), re.MULTILINE)
    typer.echo(f"Installing {', '.join(new)}; `down --packages` takes them away again")
    write(RECORD, "".join(f"{name}\n" for name in sorted({*recorded(), *new})))
    _apt(*install, "--yes", "--quiet=2")


def remove_packages() -> None:
    """Take away what `install_packages` put here, unless something else has come to need it."""
    here = [name for name in recorded() if _is_installed(name)]
    if here:
        purged = re.findall(r"^(?:Purg|Remv) (\S+)", _apt("purge", "--simulate", *here), re.MULTILINE)
        if others := sorted(set(purged) - set(here)):
            raise VirtualLabError(f"packages stay, because others need them now: {', '.join(others)}")
        typer.echo(f"Removing {', '.join(here)}")
        _apt("purge", "--yes", "--quiet=2", *here)
    RECORD.unlink(missing_ok=True)


def recorded() -> list[str]:
    """The packages that were not here before."""
    return RECORD.read_text().split() if RECORD.exists() else []


def _is_installed(name: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout not in ("", "not-installed")


def _apt(*arguments: str) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, check=False, env=environment)
    if call.returncode != 0:
        last = (call.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise VirtualLabError(f"apt-get {arguments[0]} failed: {last}")
    return call.stdout
