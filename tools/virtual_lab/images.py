"""The disk images that machines start from: made once, named by what they are made of."""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import typer

from virtual_lab.errors import VirtualLabError
from virtual_lab.keyrings import UBUNTU_MIRROR, keyring_of
from virtual_lab.packages import program
from virtual_lab.paths import IMAGES

GUEST_FILES = Path(__file__).parent / "guest"
UNFINISHED = ".unfinished-"

BASE_PACKAGES = (
    "apt",
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libgomp1",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd-sysv",
    "udev",
    "util-linux",
)

# Upkeep that a machine of a few hours does without, and logins that nobody makes. At boot each costs seconds under
# emulation; later they would disturb measurements.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "sshd-keygen.service",
    "systemd-pstore.service",
)

# The modules that the initial RAM disk needs here; all that it may need elsewhere is ten times as much to unpack.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c")


@dataclass(frozen=True)
class Kind:
    """A kind of machine."""

    name: str
    suite: str
    distribution: str = "Debian"
    sources: tuple[str, ...] = ()  # of apt; none: the suite of Debian's mirror
    kernel: tuple[str, ...] = ("linux-image-cloud-amd64",)
    packages: tuple[str, ...] = ()
    downloaded: tuple[str, ...] = ()  # packages that lie in apt's cache, not installed: the guests' network is slow
    masked: tuple[str, ...] = ()
    sshd: str = ""  # settings that only this Debian's server knows
    sudo_asks: bool = False
    encrypted_data: bool = False  # a third disk, mounted at /data, with a file system in LVM in LUKS


BARE = Kind("bare", "bookworm", downloaded=("docker.io", "pigz", "iptables", "apparmor"))
DOCKER = Kind(
    "docker",
    "trixie",
    packages=(
        *("docker.io", "docker-cli", "pigz", "iptables", "apparmor"),
        *("cryptsetup-bin", "systemd-cryptsetup", "lvm2"),
    ),
    # The first compiles the profiles of a hundred programs that are not there (15 s); Docker loads its own by itself.
    masked=("apparmor.service", "lvm2-monitor.service", "blk-availability.service"),
    # Asking whether it is there yet, over and over, would lock the asker out for a while.
    sshd="PerSourcePenalties no",
    sudo_asks=True,
    encrypted_data=True,
)
UBUNTU = Kind(
    "ubuntu",
    "noble",
    distribution="Ubuntu",
    sources=tuple(f"deb {UBUNTU_MIRROR} noble{pocket} main universe" for pocket in ("", "-updates", "-security")),
    kernel=("linux-image-virtual", "initramfs-tools"),
    downloaded=("docker.io", "pigz", "iptables", "apparmor"),
)
KINDS = {kind.name: kind for kind in (BARE, DOCKER, UBUNTU)}


@dataclass(frozen=True)
class Image:
    """A directory that is there only when everything in it is whole."""

    directory: Path

    @property
    def disk(self) -> Path:
        """An ext4 file system, sparse, without a partition table."""
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        """What QEMU starts; the guest needs no boot loader."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk that goes with the kernel."""
        return self.directory / "initrd.img"


def image_of(kind: Kind, disk_gib: int) -> Image:
    """The image of a kind of machine, made or not: its name changes with every file that decides what is in it."""
    return Image(IMAGES / f"{kind.name}-{disk_gib}g-{_digest(kind)}")


def _digest(kind: Kind) -> str:
    digest = hashlib.sha256(str(kind).encode())
    for path in [Path(__file__), *sorted(path for path in GUEST_FILES.rglob("*") if path.is_file())]:
        digest.update(f"\0{path.relative_to(Path(__file__).parent)} {os.access(path, os.X_OK)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def make_images(kinds: Iterable[Kind], disk_gib: int) -> None:
    """Make the images that are missing, side by side."""
    missing = [kind for kind in kinds if not image_of(kind, disk_gib).directory.exists()]
    if not missing:
        return
    if os.geteuid() != 0:
        raise VirtualLabError("only root can make the disk images: call this with sudo, once")
    _remove_unfinished()
    for kind in missing:
        typer.echo(f"Making the disk image of kind {kind.name} ({kind.distribution} {kind.suite}, about a minute)")
    with ThreadPoolExecutor(len(missing)) as pool:
        list(pool.map(lambda kind: _make_image(kind, disk_gib), missing))


def _remove_unfinished() -> None:
    """Remove what an interrupted build left; nothing is mounted there, the build had a mount namespace of its own."""
    for directory in IMAGES.glob(f"{UNFINISHED}*"):
        shutil.rmtree(directory)


def remove_outdated() -> None:
    """Remove the images that no machine would be made from any more, and what interrupted builds left."""
    _remove_unfinished()
    current = tuple(_digest(kind) for kind in KINDS.values())
    for directory in IMAGES.glob("*"):
        if not directory.name.endswith(current):
            shutil.rmtree(directory)


def _make_image(kind: Kind, disk_gib: int) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=IMAGES) as directory:
        work = Path(directory)
        work.chmod(0o755)  # apt's own user has to reach what is in it
        root, made = work / "root", Image(work / "image")
        made.directory.mkdir()
        _run(_bootstrap(kind, root), work / "log", TMPDIR=directory)
        for name, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
            (source,) = (root / "boot").glob(f"{name}-*")
            shutil.copy(source, target)
        _run([program("mkfs.ext4") or "", "-q", "-d", str(root), str(made.disk), f"{disk_gib}G"], work / "log")
        made.directory.rename(image_of(kind, disk_gib).directory)


def _bootstrap(kind: Kind, root: Path) -> list[str]:
    """The command that makes the root directory of a machine.

    In namespaces of its own: whatever kills it, its mounts and its processes end with it.
    """
    return [
        *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--mode=root", "--variant=minbase"),
        *(f"--keyring={keyring_of(kind.distribution)}", f"--include={_packages(kind)}"),
        # Lists and downloaded packages stay, so that the guest can install from them.
        "--skip=cleanup/apt",
        "--aptopt=Acquire::Languages none",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")),
        "--dpkgopt=force-unsafe-io",
        f"--essential-hook={_boot_modules()}",
        *(f"--customize-hook={command}" for command in _customization(kind)),
        kind.suite,
        str(root),
        *kind.sources,
    ]


def _packages(kind: Kind) -> str:
    return ",".join((*BASE_PACKAGES, *kind.kernel, *kind.packages))


def _boot_modules() -> str:
    """Before the kernel is installed, which makes the initial RAM disk."""
    settings = '"$1"/etc/initramfs-tools'
    modules = r"\n".join(BOOT_MODULES)
    return (
        f"mkdir -p {settings}/conf.d && printf '{modules}\\n' >{settings}/modules"
        f" && printf 'MODULES=list\\nFSTYPE=ext4\\n' >{settings}/conf.d/virtual-lab"
    )


def _customization(kind: Kind) -> list[str]:
    """Shell commands that turn a Debian system in "$1" into a machine of the lab."""
    download = f"apt-get install --yes --download-only --no-install-recommends {' '.join(kind.downloaded)}"
    files = shlex.quote(str(GUEST_FILES))
    sudo = "true" if kind.sudo_asks else "echo 'lab ALL=(ALL:ALL) NOPASSWD: ALL' >\"$1\"/etc/sudoers.d/lab"
    return [
        # The same again would be in the way of what is downloaded next, and of the disk's size.
        'chroot "$1" apt-get clean',
        *([f'chroot "$1" {download}'] if kind.downloaded else []),
        # The guest is to survive a power cut, as dpkg does by itself.
        'sed -i /force-unsafe-io/d "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
        'chroot "$1" useradd --create-home --shell /bin/bash --groups sudo lab',
        sudo,
        'rm "$1"/etc/ssh/ssh_host_*',
        f'tar --create --owner=0 --group=0 --directory={files} . | tar --extract --directory="$1"',
        f'echo {shlex.quote(kind.sshd)} >"$1"/etc/ssh/sshd_config.d/{kind.name}.conf',
        *(_encrypted_data() if kind.encrypted_data else []),
        f'chroot "$1" systemctl mask --quiet {" ".join((*MASKED_UNITS, *kind.masked))}',
        'chroot "$1" systemctl enable --quiet systemd-networkd virtual-lab-identity virtual-lab-scheduler',
        ': >"$1"/etc/machine-id',  # every machine gets its own when it starts for the first time
    ]


def _encrypted_data() -> list[str]:
    """See guest/usr/local/sbin/virtual-lab-data."""
    return [
        "echo 'data /dev/vdc /etc/virtual-lab-data-key luks' >\"$1\"/etc/crypttab",
        "echo '/dev/data/lab /data ext4 defaults 0 2' >>\"$1\"/etc/fstab",
        'mkdir "$1"/data',
        'chroot "$1" systemctl enable --quiet virtual-lab-data',
    ]


def _run(command: list[str], log: Path, **environment: str) -> None:
    with log.open("a") as output:
        call = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            env={**os.environ, **environment},
        )
    if call.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise VirtualLabError(f"making a disk image failed ({command[0]}: exit {call.returncode}):\n{end}")
