"""What this host's disk delivers, measured once with a model's file, before any trial, and kept in the state."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pagelab.documents import DocumentError, load_json, read_file
from pagelab.errors import ConfigError, shown
from pagelab.host.disk_rates import DiskRates, measure_disk_rates
from pagelab.host.storage import Disk, mount_of
from pagelab.store.files import make_directory, write_json
from pagelab.units import KIB

LARGER_BY = 4  # a file so many times as large as the one that was measured says more, so it is measured again
_RATES = TypeAdapter(DiskRates)
_MOST_BYTES = 64 * KIB


def disk_rates_of(path: Path, disk: Disk, state_directory: Path) -> DiskRates:
    """The rates of the disk of a file: those that are kept for this disk, kernel and settings, or measured now.

    Raises:
        HostError: the disk cannot be measured.
        StoreError: the state cannot be written.
    """
    kept_in = state_directory / "disk-rates" / f"{_key(path, disk)}.json"
    kept = None
    with suppress(ConfigError):  # nothing there, or damaged: then it is measured again
        kept = read_disk_rates(kept_in)
    if kept is not None and path.stat().st_size <= LARGER_BY * kept.file_bytes:
        return kept
    measured = measure_disk_rates(path)
    make_directory(kept_in.parent)
    write_json(kept_in, asdict(measured))
    return measured


def _key(path: Path, disk: Disk) -> str:
    """What the rates hold for: the disk with the settings of its queue, the file system, and the kernel."""
    mount = mount_of(path)
    facts = [disk.describe(), mount.file_system if mount else None, os.uname().release]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_disk_rates(file: Path) -> DiskRates:
    """Rates that were written to a file.

    Raises:
        ConfigError: it cannot be read, or does not hold rates.
    """
    try:
        return _RATES.validate_python(load_json(read_file(file, _MOST_BYTES)))
    except (OSError, DocumentError, ValidationError) as error:
        raise ConfigError(f"{file} does not hold the rates of a disk ({shown(str(error), 120)})") from error
