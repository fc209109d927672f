"""Block devices for tests, as the kernel lays them out in /sys."""

from pathlib import Path


def device(root: Path, name: str, on: tuple[str, ...] = (), **files: str) -> Path:
    """A device below /sys/block, its files with `__` for a slash, on others that are there already."""
    found = root / name
    (found / "slaves").mkdir(parents=True)
    for file, text in files.items():
        path = found / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    for below in on:
        (found / "slaves" / Path(below).name).symlink_to(root / below)
    return found


def multipath(root: Path, controllers: int, *, linked: bool = False) -> Path:
    """The head of an NVMe drive that several controllers lead to; `linked` as since Linux 6.15."""
    head = device(root, "nvme2n1", dev="259:4", stat="0 0 0 0 0 0 0 0 0 0 0")
    subsystem = root / "nvme-subsys2"
    (head / "multipath").mkdir()
    for number in range(controllers):
        path = device(subsystem / f"nvme{number}", f"nvme2c{number}n1", hidden="1")
        device(subsystem / f"nvme{number}", f"nvme2c{number}n11", hidden="1")  # of another namespace
        if linked:
            (head / "multipath" / path.name).symlink_to(path)
    (head / "device").symlink_to(subsystem)
    return head
