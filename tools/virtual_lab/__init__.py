"""Virtual machines lab1, lab2, … that stand in for servers: systemd, control groups, ssh on a port of 127.0.0.1.

lab1 is bare: Debian 12 without a container engine, whose packages lie in apt's cache; user lab's sudo asks for nothing.
lab2 is as an administrator would have set it up: Debian 13 with a running Docker; sudo asks for a password. lab3 is
bare again, with Ubuntu 24.04. Further machines are of these kinds in turn.

Everything is kept in .cache/vm, except the inventory, which is inventories/vm/hosts.yml:

    images/     disk image, kernel and initial RAM disk of each kind, named by what they are made of
    machines/   for each its own disk over the image, host key, password, console log, and QEMU's pid and monitor socket
    ssh/        the key that logs in, the machines' host keys, and a configuration for `ssh -F`
"""

from virtual_lab.errors import VirtualLabError
from virtual_lab.machine import Machine

__all__ = ["Machine", "VirtualLabError"]
