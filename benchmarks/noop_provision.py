"""How long `make provision` takes when there is nothing to do, on 1, 2 and 10 hosts; what of it is Ansible's start.

The hosts are real ssh connections to this machine, each with a lab directory of its own, so that the figure is that of
the controller and of the modules that it runs, not of a slow network. Measured where there is root, an sshd and a
provisioned host. Run by `make bench`; prints one table, medians of REPETITIONS interleaved runs.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[1]
PLAYBOOK = CHECKOUT / ".venv" / "bin" / "ansible-playbook"
COUNTS = (1, 2, 10)
REPETITIONS = 3
PORT = 2299
SSHD = Path("/usr/sbin/sshd")

MODEL = {"architecture": "llama", "layers": 2, "width": 128, "feed_forward": 256, "type": "Q4_0", "vocabulary": 512}


def main() -> None:
    """Set ten hosts up, then time runs that change nothing."""
    if os.geteuid() != 0 or not SSHD.exists():
        why = "only root may start an ssh server" if SSHD.exists() else "it needs sshd (apt-get install openssh-server)"
        print(f"provisioning with nothing to do: not measured, {why}")  # noqa: T201
        return
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pagelab-bench-")))
        stack.callback(forget_facts)
        inventory = write_inventory(directory)
        config = write_config(directory)
        stack.enter_context(ssh_server(directory))
        stack.enter_context(connections(directory))
        provision(inventory, config, max(COUNTS))
        report(measure(inventory, config, directory))


def measure(inventory: Path, config: Path, directory: Path) -> dict[str, list[float]]:
    """Seconds of every run, by what was run; interleaved."""
    empty = directory / "empty.yml"
    empty.write_text("- hosts: all\n  gather_facts: false\n")
    seconds: dict[str, list[float]] = {}
    for _ in range(REPETITIONS):
        seconds.setdefault("Ansible's start (an empty play)", []).append(timed(PLAYBOOK, "-i", inventory, empty))
        for count in COUNTS:
            began = time.monotonic()
            provision(inventory, config, count, must_be_done=True)
            seconds.setdefault(f"nothing to do on {count} hosts", []).append(time.monotonic() - began)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """One line each, with the ratio to one host."""
    one = statistics.median(seconds["nothing to do on 1 hosts"])
    for what, values in seconds.items():
        middle = statistics.median(values)
        print(f"{what:34} {middle:6.1f} s  ({min(values):.1f}-{max(values):.1f})  {middle / one:.2f} x one host")  # noqa: T201


def provision(inventory: Path, config: Path, count: int, *, must_be_done: bool = False) -> None:
    """Run the playbook for the first `count` hosts."""
    hosts = ",".join(f"bench{number}" for number in range(1, count + 1))
    command = [PLAYBOOK, "-i", CHECKOUT / "inventories" / "localhost", "-i", inventory, "ansible/provision.yml"]
    command += ["-e", f"pagelab_hosts={hosts}", "-e", f"experiment_config={config}"]
    answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        sys.exit(answer.stdout[-4000:] + answer.stderr)
    if must_be_done and any("changed=0 " not in line for line in answer.stdout.splitlines() if " : ok=" in line):
        sys.exit("bench: a run that should have had nothing to do changed something\n" + answer.stdout[-2000:])


def timed(*command: str | Path) -> float:
    """Seconds that a command takes."""
    began = time.monotonic()
    subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def write_config(directory: Path) -> Path:
    """A configuration whose model is made in no time."""
    path = directory / "bench.yml"
    model = {"name": "tiny", "source": {"synthetic": MODEL}}
    path.write_text(yaml.safe_dump({"experiment": "bench", "models": [model]}))
    return path


def write_inventory(directory: Path) -> Path:
    """Ten names for one ssh server; each host has its own directory, and none has swap of its own."""
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shared = {
        "ansible_host": "127.0.0.1",
        "ansible_port": PORT,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={directory}/known_hosts -o IdentitiesOnly=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
        "swapfile_size_mib": 0,
        # The host's own is not to be touched.
        "memlock_limits_file": f"{directory}/limits.conf",
    }
    hosts = {f"bench{n}": {"pagelab_dir": f"{directory}/bench{n}"} for n in range(1, max(COUNTS) + 1)}
    inventory = directory / "inventory"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"bench": {"vars": shared, "hosts": hosts}}))
    (inventory / "group_vars").mkdir()
    (inventory / "group_vars" / "all.yml").write_text("llama_cpp_build: controller\n")
    return inventory


@contextmanager
def ssh_server(directory: Path) -> Iterator[None]:
    """An ssh server of our own on the loopback interface."""
    host_key = directory / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True)
    public = host_key.with_suffix(".pub").read_text()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{PORT} {public}")
    shutil.copy(directory / "key.pub", directory / "authorized_keys")
    privileges = Path("/run/sshd")
    was_there = privileges.exists()
    privileges.mkdir(exist_ok=True)
    options = {
        "ListenAddress": f"127.0.0.1:{PORT}",
        "HostKey": host_key,
        "AuthorizedKeysFile": directory / "authorized_keys",
        "PidFile": directory / "sshd.pid",
        "PermitRootLogin": "prohibit-password",
        "UsePAM": "no",
        "StrictModes": "no",
        "MaxStartups": "100",
        "Subsystem": "sftp internal-sftp",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *words], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait()
        if not was_there:
            privileges.rmdir()


@contextmanager
def connections(directory: Path) -> Iterator[None]:
    """The connections that Ansible keeps open for later, closed at the end."""
    sockets = directory / "connections"
    sockets.mkdir(mode=0o700)
    os.environ["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(sockets)
    try:
        yield
    finally:
        for socket in sockets.iterdir():
            command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "127.0.0.1"]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)


def forget_facts() -> None:
    """Remove what Ansible remembers of hosts that are gone."""
    for cached in (CHECKOUT / ".cache" / "facts").glob("bench*"):
        cached.unlink()


if __name__ == "__main__":
    main()
