"""The rates of a disk, as they are measured before trials."""

from pagelab.host.disk_rates import DiskRates, RandomRate
from pagelab.units import KIB, MIB

RATES = DiskRates(
    measured_at="2026-11-29T12:00:00+00:00",
    fio_version="fio-3.33",
    file_bytes=1 << 30,
    direct_bytes_per_second=1.3e9,
    first_second_bytes_per_second=1.4e9,
    last_second_bytes_per_second=1.3e9,
    page_cache_bytes_per_second=2.6e9,
    random=tuple(
        RandomRate(size, depth, size * depth * 1e3) for size in (4 * KIB, 64 * KIB, MIB) for depth in (1, 4, 32)
    ),
)
