"""One virtual machine: its directory, its QEMU, its ssh."""

import json
import os
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtual_lab.errors import VirtualLabError
from virtual_lab.images import KINDS, Image
from virtual_lab.paths import IMAGES, MACHINES, SSH, write

FIRST_PORT = 2231
POLL_SECONDS = 0.2
BOOT_SECONDS = 480.0
DATA_BYTES = 4 << 30  # sparse
# Flushes reach the host's page cache only: that outlives a power cut here, and is much faster.
DISK = "if=virtio,cache=unsafe,discard=unmap"
KEY = SSH / "id_ed25519"
KNOWN_HOSTS = SSH / "known_hosts"
SSH_CONFIG = SSH / "config"

# Against attacks that nobody makes here (the zeros in all memory that the kernel takes are also that). Without them and
# the fifth level of page tables, which only machines with terabytes need (`EMULATED_CPU`), an emulated processor starts
# a program in about a fifth less time.
KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off init_on_alloc=0"

# An emulated processor does the string instructions a byte or a word at a time, with a look at the page table for each:
# without them the guest copies three to five times as fast. The time stamps of all its processors come from the host's
# one counter; Linux does not know that and takes the HPET, where each look leaves the emulated code.
EMULATED_CPU = "max,la57=off,erms=off,fsrm=off"
EMULATED_KERNEL = "clearcpuid=rep_good tsc=reliable"


@dataclass(frozen=True)
class Machine:
    """A machine that has been made, running or not. What is here is all that it takes to start it."""

    name: str
    kind: str
    image: str
    port: int
    cpus: int
    memory_mib: int
    accelerator: str

    # --- where its files are ------------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Everything that is this machine's alone."""
        return MACHINES / self.name

    @property
    def host_key(self) -> Path:
        """The private key that it proves to be itself with; the public one lies beside it."""
        return self.directory / "ssh_host_ed25519_key"

    @property
    def sudo_password(self) -> Path | None:
        """The file with the password that its sudo asks for, if it asks."""
        return self.directory / "sudo-password" if KINDS[self.kind].sudo_asks else None

    @property
    def identity(self) -> Path:
        """The disk from which it takes its name and keys."""
        return self.directory / "identity.tar"

    @property
    def data(self) -> Path | None:
        """The third disk, for what its root disk does not hold."""
        return self.directory / "data.raw" if KINDS[self.kind].encrypted_data else None

    @property
    def lab_directory(self) -> str:
        """Where in it the lab goes: the inventory's pagelab_dir."""
        return "/data/pagelab" if self.data else "/var/lib/pagelab"

    @property
    def pid_file(self) -> Path:
        """Written by its QEMU, and left behind by one that was killed."""
        return self.directory / "qemu.pid"

    def console(self) -> Path:
        """The log of its serial console, over all its starts."""
        return self.directory / "console.log"

    # --- making and finding -------------------------------------------------------------------------------------------

    @classmethod
    def all(cls) -> list["Machine"]:
        """Every machine there is."""
        found = [cls.load(path.parent.name) for path in MACHINES.glob("*/machine.json")]
        return sorted(found, key=lambda machine: (len(machine.name), machine.name))

    @classmethod
    def load(cls, name: str) -> "Machine":
        """The machine of that name."""
        try:
            return cls(**json.loads((MACHINES / name / "machine.json").read_text()))
        except FileNotFoundError:
            raise VirtualLabError(f"there is no machine {name}") from None

    def make(self) -> None:
        """Make its disk, its host key and its password; machine.json comes last, so half a machine is none."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True)
        image = Image(IMAGES / self.image)
        overlay = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            os.path.relpath(image.disk, self.directory),
        ]
        subprocess.run([*overlay, str(self.directory / "disk.qcow2")], check=True)
        if self.data:
            write(self.data, "")
            os.truncate(self.data, DATA_BYTES)
        make_key(self.host_key, self.name)
        if self.sudo_password:
            write(self.sudo_password, secrets.token_urlsafe(12), 0o600)
        self._write_identity()
        write(self.directory / "machine.json", json.dumps(asdict(self), indent=2) + "\n")

    def remove(self) -> None:
        """Cut its power and remove everything that is this machine's alone."""
        self.power_cut()
        shutil.rmtree(self.directory)

    # --- power --------------------------------------------------------------------------------------------------------

    def pid(self) -> int | None:
        """The process id of its QEMU, if that is running."""
        with self._process() as found:
            return found[0] if found else None

    def start(self) -> None:
        """Switch it on; returns while it boots."""
        if self.pid() is not None:
            return
        # Relative to this directory: the name of a socket may not be long.
        call = subprocess.run(self._qemu(), capture_output=True, text=True, check=False, cwd=self.directory)
        if call.returncode != 0:
            raise VirtualLabError(f"{self.name} does not start: {call.stderr.strip()}")

    def power_cut(self) -> None:
        """Kill its QEMU. What the guest has not yet written to its disk is lost; what it has flushed is not."""
        with self._process() as found:
            if found:
                signal.pidfd_send_signal(found[1], signal.SIGKILL)
                select.select([found[1]], [], [])  # readable once the process has ended

    def wait_for_ssh(self, seconds: float = BOOT_SECONDS, other_boot_than: str | None = None) -> None:
        """Wait until somebody can log in; after a reboot, `other_boot_than` is what `boot_id` said before it."""
        deadline = time.monotonic() + seconds
        while not (self._ssh_answers() and self.boot_id() not in (None, other_boot_than)):
            if self.pid() is None:
                raise VirtualLabError(f"{self.name} has stopped while it was booting; see {self.console()}")
            if time.monotonic() > deadline:
                raise VirtualLabError(f"{self.name} does not answer ssh within {seconds:g} s; see {self.console()}")
            time.sleep(POLL_SECONDS)

    def reboot(self) -> None:
        """Reboot it as an administrator does, and wait until it is back."""
        before = self.boot_id()
        if before is None:
            raise VirtualLabError(f"{self.name} cannot be rebooted: it does not answer ssh")
        self.sudo("systemctl", "reboot")
        self.wait_for_ssh(other_boot_than=before)

    # --- ssh ----------------------------------------------------------------------------------------------------------

    def ssh(
        self, *argv: str, stdin: str = "", timeout: float | None = 120.0, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as user lab; the arguments arrive there as they are. Exit 255 is ssh's own."""
        command = ["ssh", "-F", str(SSH_CONFIG), self.name, shlex.join(argv)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=check)

    def sudo(self, *argv: str, timeout: float | None = 120.0, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root."""
        password = self.sudo_password.read_text() if self.sudo_password else ""
        return self.ssh("sudo", "-S", "-p", "", "--", *argv, stdin=f"{password}\n", timeout=timeout, check=check)

    def boot_id(self) -> str | None:
        """What is different after every boot, if it can be asked."""
        answer = self.ssh("cat", "/proc/sys/kernel/random/boot_id")
        return answer.stdout.strip() if answer.returncode == 0 else None

    def ssh_options(self) -> dict[str, str]:
        """What ssh has to know to reach exactly this machine."""
        return {
            "HostKeyAlias": self.name,  # every machine is 127.0.0.1, so its key goes by its name
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f'"{KNOWN_HOSTS}"',
            # An emulated processor encrypts four times as fast with it as with OpenSSH's first choice.
            "Ciphers": "aes128-gcm@openssh.com",
        }

    def _ssh_answers(self) -> bool:
        """Whether a server greets at the port: cheaper to ask than ssh, which would also wait for long."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    # --- network ------------------------------------------------------------------------------------------------------

    def cut_network(self) -> None:
        """Pull its cable.

        QEMU goes on accepting connections to the ssh port, and established ones stay open: no end hears anything of
        the other, as when a real cable is pulled. A client notices by its own time limits (ConnectTimeout,
        ServerAliveInterval), and what it was running goes on.
        """
        self.monitor("set_link", name="net0", up=False)

    def restore_network(self) -> None:
        """Put its cable back; connections that nobody has given up meanwhile go on."""
        self.monitor("set_link", name="net0", up=True)

    def monitor(self, command: str, **arguments: object) -> Any:
        """Give QEMU a command of its machine protocol and return the answer."""
        directory = os.open(self.directory, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(f"/proc/self/fd/{directory}/monitor")  # the whole path may be too long for a socket
                stream = connection.makefile("rw")
                stream.readline()  # the greeting
                _execute(stream, "qmp_capabilities", {})
                return _execute(stream, command, arguments)
        except OSError as error:
            raise VirtualLabError(f"{self.name} cannot be asked for {command}, is it running? {error}") from error
        finally:
            os.close(directory)

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _process(self) -> Iterator[tuple[int, int] | None]:
        """Its QEMU's process id with a handle on the process; the id alone may by now be someone else's."""
        handle = None
        try:
            pid = int(self.pid_file.read_text())
            handle = os.pidfd_open(pid)
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except (OSError, ValueError):
            command = []
        try:
            yield (pid, handle) if handle is not None and str(self.pid_file) in command else None
        finally:
            if handle is not None:
                os.close(handle)

    def _qemu(self) -> list[str]:
        image = Image(IMAGES / self.image)
        return [
            *(
                "qemu-system-x86_64",
                "-name",
                self.name,
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-daemonize",
            ),
            *("-pidfile", str(self.pid_file), *accelerator_options(self.accelerator)),
            *("-smp", str(self.cpus), "-m", str(self.memory_mib)),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", f"{KERNEL} {EMULATED_KERNEL}" if self.accelerator == "tcg" else KERNEL),
            *("-drive", f"file=disk.qcow2,format=qcow2,{DISK}"),
            *("-drive", f"file={self.identity.name},format=raw,if=virtio,readonly=on"),
            *(("-drive", f"file={self.data.name},format=raw,{DISK}") if self.data else ()),
            *("-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-pci,netdev=net0,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
            *("-qmp", "unix:monitor,server=on,wait=off"),
        ]

    def _write_identity(self) -> None:
        """What the guest takes over when it boots: see guest/usr/local/sbin/virtual-lab-identity."""
        files = {"host_key": self.host_key, "authorized_key": KEY.with_suffix(".pub")}
        if self.sudo_password:
            files["password"] = self.sudo_password
        name = self.directory / "hostname"
        write(name, f"{self.name}\n")
        write(self.identity, "", 0o600)
        with tarfile.open(self.identity, "w") as archive:
            for member, path in (files | {"hostname": name}).items():
                archive.add(path, member)


def accelerator_options(accelerator: str) -> list[str]:
    """QEMU's options for one way to run a guest's instructions."""
    if accelerator == "tcg":
        return ["-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU]
    return ["-accel", accelerator, "-cpu", "max"]


def make_key(path: Path, comment: str) -> None:
    """Make a key pair, if it is not there yet."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)


def free_port(taken: set[int]) -> int:
    """The first port from FIRST_PORT on that no machine has and nobody listens at."""
    for port in range(FIRST_PORT, 65536):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not matter
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise VirtualLabError("no port is free for ssh")


def _execute(stream: Any, command: str, arguments: dict[str, object]) -> Any:
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        if "error" in answer:
            raise VirtualLabError(f"QEMU refuses {command}: {answer['error']['desc']}")
        if "return" in answer:  # anything else is an event
            return answer["return"]
    raise VirtualLabError(f"QEMU ended before it answered {command}")
