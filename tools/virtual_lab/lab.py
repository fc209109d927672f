"""All machines together: what `up`, `down` and `status` do."""

import fcntl
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import yaml

from virtual_lab.accelerator import choose_accelerator
from virtual_lab.images import BARE, DOCKER, UBUNTU, Kind, image_of, make_images, remove_outdated
from virtual_lab.machine import KEY, KNOWN_HOSTS, SSH_CONFIG, Machine, free_port, make_key
from virtual_lab.packages import install_packages, remove_packages
from virtual_lab.paths import CACHE, INVENTORY, MACHINES, PROJECT, hand_over, write

IN_TURN = (BARE, DOCKER, UBUNTU)


def up(count: int, *, memory_mib: int, disk_gib: int, cpus: int | None = None) -> None:
    """Start machines lab1 to labN; those that are there already stay as they are."""
    started = time.monotonic()
    with _locked():
        install_packages()
        machines = _make_machines(count, memory_mib=memory_mib, cpus=cpus or _fair_share(count), disk_gib=disk_gib)
        _write_ssh_files()
        for machine in machines:
            machine.start()
        hand_over()
        for machine in machines:
            machine.wait_for_ssh()
            typer.echo(f"{machine.name} answers ({machine.kind}, {time.monotonic() - started:.0f} s)")
        _write_inventory()
        hand_over()
    typer.echo(f"\nLog in:   ssh -F {SSH_CONFIG.relative_to(PROJECT)} {machines[0].name}")
    typer.echo(f"Ansible:  ansible -i {INVENTORY.relative_to(PROJECT).parent} lab -m ansible.builtin.ping")


def down(*, packages: bool) -> None:
    """Remove every machine and what leads to it; images stay, unless nothing would be made from them any more."""
    with _locked():
        INVENTORY.unlink(missing_ok=True)
        for machine in Machine.all():
            machine.remove()
            typer.echo(f"{machine.name} is gone")
        shutil.rmtree(MACHINES, ignore_errors=True)  # what is left there was never a whole machine
        _write_ssh_files()
        remove_outdated()
        if packages:
            remove_packages()


def status() -> None:
    """Say what is there."""
    machines = Machine.all()
    for machine in machines:
        pid = machine.pid()
        running = f"running, pid {pid}" if pid else "off"
        typer.echo(f"{machine.name}  {running}  127.0.0.1:{machine.port}  {machine.kind}  {machine.accelerator}")
    if not machines:
        typer.echo("There are no machines")


def _make_machines(count: int, *, memory_mib: int, cpus: int, disk_gib: int) -> list[Machine]:
    """Machines lab1 to labN; the ones that are missing are made."""
    kinds = {f"lab{number + 1}": IN_TURN[number % len(IN_TURN)] for number in range(count)}
    present = {machine.name: machine for machine in Machine.all()}
    missing = {name: kind for name, kind in kinds.items() if name not in present}
    make_images(_distinct(missing.values()), disk_gib)
    make_key(KEY, "virtual-lab")
    for name, kind in missing.items():
        image = image_of(kind, disk_gib)
        port = free_port({machine.port for machine in present.values()})
        machine = Machine(name, kind.name, image.directory.name, port, cpus, memory_mib, choose_accelerator(image))
        machine.make()
        present[name] = machine
    return [present[name] for name in kinds]


def _fair_share(count: int) -> int:
    """Processors for each machine, all together no more than there are, and no more than two.

    A processor that is emulated waits in vain for a lock while the one that holds it does not get its turn: on a host
    of two processors, two machines of one each did 1.7 times the work of two machines of two.
    """
    return max(1, min(2, len(os.sched_getaffinity(0)) // count))


def _distinct(kinds: Any) -> list[Kind]:
    return list(dict.fromkeys(kinds))


def _write_ssh_files() -> None:
    """The keys that machines have to prove themselves with, and a configuration for people to log in with."""
    known, hosts = [], []
    for machine in Machine.all():
        known.append(f"{machine.name} {machine.host_key.with_suffix('.pub').read_text()}")
        options = {
            "HostName": "127.0.0.1",
            "Port": str(machine.port),
            "User": "lab",
            "IdentityFile": f'"{KEY}"',
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            # A minute: longer than a machine under memory pressure is silent.
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            **machine.ssh_options(),
        }
        lines = [f"    {name} {value}\n" for name, value in options.items()]
        hosts.append("".join([f"Host {machine.name}\n", *lines]))
    write(KNOWN_HOSTS, "".join(known), 0o600)
    write(SSH_CONFIG, "\n".join(hosts), 0o600)


def _write_inventory() -> None:
    hosts = {machine.name: _host_variables(machine) for machine in Machine.all()}
    document = {"all": {"children": {"lab": {"hosts": hosts}}}}
    text = "# Written for the virtual lab that is running; gone when that goes down.\n"
    write(INVENTORY, text + yaml.safe_dump(document, sort_keys=False, width=1000))


def _host_variables(machine: Machine) -> dict[str, object]:
    options = [f"-o {shlex.quote(f'{name}={value}')}" for name, value in machine.ssh_options().items()]
    variables: dict[str, object] = {
        "ansible_host": "127.0.0.1",
        "ansible_port": machine.port,
        "ansible_user": "lab",
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": " ".join(options),
        "ansible_python_interpreter": "/usr/bin/python3",
        "pagelab_dir": machine.lab_directory,
    }
    if machine.sudo_password:
        password = str(machine.sudo_password).replace("'", "''")
        variables["ansible_become_password"] = f"{{{{ lookup('ansible.builtin.file', '{password}') }}}}"
    return variables


@contextmanager
def _locked() -> Iterator[None]:
    """One `up` or `down` at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            typer.echo("Waiting for another call that is making or removing machines")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
