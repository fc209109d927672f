"""Whether guests run on KVM here: having the device does not mean that a guest gets anywhere in it."""

import json
import os
import select
import subprocess
import time
from pathlib import Path

import typer

from virtual_lab.images import Image
from virtual_lab.machine import accelerator_options
from virtual_lab.paths import CACHE, write

DEVICE = Path("/dev/kvm")
VERDICT = CACHE / "accelerator.json"
LIMIT_SECONDS = 10.0
USERLAND = b"Run /init as init process"


def choose_accelerator(image: Image) -> str:
    """`kvm` where a guest's kernel reaches its userland in it, else `tcg`, which is emulation by software.

    The verdict holds until the host boots again.
    """
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = json.loads(VERDICT.read_text()) if VERDICT.exists() else {}
    if known.get("boot_id") != boot:
        typer.echo(f"Trying whether a guest boots with KVM (up to {LIMIT_SECONDS:g} s)")
        known = {"boot_id": boot, "accelerator": "kvm" if _boots_with_kvm(image) else "tcg"}
        write(VERDICT, json.dumps(known) + "\n")
    return str(known["accelerator"])


def _boots_with_kvm(image: Image) -> bool:
    """Start a kernel without a disk and watch its console."""
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    kernel = ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", "console=ttyS0 panic=-1"]
    with subprocess.Popen(
        [*command, *accelerator_options("kvm"), "-m", "512", "-serial", "stdio", *kernel],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            return _says(process, USERLAND, time.monotonic() + LIMIT_SECONDS)
        finally:
            process.kill()


def _says(process: subprocess.Popen[bytes], words: bytes, deadline: float) -> bool:
    assert process.stdout is not None
    said = b""
    while words not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not chunk:  # out of time, or QEMU has ended
            return False
        said += chunk
    return True
