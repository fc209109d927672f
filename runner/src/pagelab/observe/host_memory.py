"""The host's memory and swap at one moment, before and after a trial."""

from datetime import UTC, datetime

from pagelab.errors import printable
from pagelab.host.procfs import meminfo_bytes, swap_areas
from pagelab.host.storage import Disk
from pagelab.host.swap import swap_places
from pagelab.store.observation import ObservedHost, ObservedSwap
from pagelab.store.record import HostMemory


def observed_host() -> ObservedHost:
    """Read the host's memory and swap in use."""
    found = meminfo_bytes()
    memory = HostMemory(
        total_bytes=found.get("MemTotal"),
        free_bytes=found.get("MemFree"),
        available_bytes=found.get("MemAvailable"),
        cached_bytes=found.get("Cached"),
        locked_bytes=found.get("Mlocked"),
    )
    used = sum(area.used_bytes for area in swap_areas())
    return ObservedHost(time=datetime.now(UTC).isoformat(), memory=memory, swap_used_bytes=used)


def observed_swap(model_disk: Disk) -> list[ObservedSwap]:
    """The active swap areas, and whether they are on the model's disk."""
    return [
        ObservedSwap(
            path=printable(place.area.path),
            compressed_memory=place.is_compressed_memory,
            on_model_disk=place.is_on(model_disk),
        )
        for place in swap_places()
    ]
