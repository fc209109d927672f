"""The keys that a distribution's packages are signed with: Debian's come with a package here, Ubuntu's are fetched."""

import hashlib
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from virtual_lab.errors import VirtualLabError
from virtual_lab.paths import CACHE

DEBIAN = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU = CACHE / "ubuntu-archive-keyring.gpg"

UBUNTU_MIRROR = "http://archive.ubuntu.com/ubuntu"
PACKAGE = f"{UBUNTU_MIRROR}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
PACKAGE_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
IN_PACKAGE = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
LIMIT_SECONDS = 30


def keyring_of(distribution: str) -> Path:
    """The file that mmdebstrap checks a distribution with, fetched if need be."""
    if distribution == "Debian":
        return DEBIAN
    if not UBUNTU.exists():
        _fetch_ubuntu()
    return UBUNTU


def _fetch_ubuntu() -> None:
    try:
        with urllib.request.urlopen(PACKAGE, timeout=LIMIT_SECONDS) as answer:  # noqa: S310 - a constant
            package = answer.read()
    except OSError as error:
        raise VirtualLabError(f"Ubuntu's mirror cannot be reached ({PACKAGE}: {error})") from error
    if (found := hashlib.sha256(package).hexdigest()) != PACKAGE_SHA256:
        raise VirtualLabError(f"{PACKAGE} has sha256 {found}, not {PACKAGE_SHA256}; something between changed it")
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        directory = Path(name)
        (directory / "keyring.deb").write_bytes(package)
        subprocess.run(["dpkg-deb", "--extract", directory / "keyring.deb", directory / "root"], check=True)
        shutil.move(directory / "root" / IN_PACKAGE, UBUNTU)
