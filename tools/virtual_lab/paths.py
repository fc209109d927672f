"""Where the virtual lab keeps what it makes."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache" / "vm"
IMAGES = CACHE / "images"
MACHINES = CACHE / "machines"
SSH = CACHE / "ssh"
INVENTORY = PROJECT / "inventories" / "vm" / "hosts.yml"


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, never readable by more than `mode` allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    unfinished.rename(path)


def hand_over() -> None:
    """Under sudo, give what was made to the user who typed it, who could not read the keys otherwise."""
    owner = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or not (owner[0] and owner[1]):
        return
    user, group = int(owner[0]), int(owner[1])
    for path in [CACHE.parent, CACHE, *CACHE.rglob("*"), INVENTORY.parent, INVENTORY]:
        if path.exists():
            os.chown(path, user, group, follow_symlinks=False)
