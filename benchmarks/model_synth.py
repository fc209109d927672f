"""How fast synthetic models are written, beside `dd` on the same disk, and how much memory that takes.

Each model has SIZE and another type of weights. `dd` writes as many zeros and syncs at the end: that is what the disk
gives. Prints one table, medians of REPETITIONS interleaved runs.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pagelab.units import format_bytes

SIZE = "1GB"
REPETITIONS = 3
TYPES = ("Q4_0", "Q4_K", "Q8_0", "MXFP4", "IQ2_XXS", "TQ2_0", "BF16", "F16", "F32")
WRITE = """
import resource, sys, time
from pathlib import Path
from pagelab.config.model_specs import SyntheticSource
from pagelab.models.synthetic import write_synthetic
shape = {"architecture": "llama", "size": sys.argv[1], "type": sys.argv[2]}
spec = SyntheticSource.model_validate({"synthetic": shape}).synthetic
began = time.perf_counter()
write_synthetic(spec, Path(sys.argv[3]))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main() -> None:
    """Write a model of each type, and dd in between."""
    rates: dict[str, list[float]] = {name: [] for name in ("dd", *TYPES)}
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pagelab-bench-") as name:
        path = Path(name) / "m.gguf"
        for _ in range(REPETITIONS):
            for kind in TYPES:
                command = [sys.executable, "-c", WRITE, SIZE, kind, str(path)]
                seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                rates[kind].append(path.stat().st_size / float(seconds))
                peaks[kind] = int(peak)
                path.unlink()
            rates["dd"].append(plain_rate(path))
            path.unlink()
    disk = statistics.median(rates["dd"])
    for kind, values in rates.items():
        middle = statistics.median(values)
        memory = f"  at most {format_bytes(peaks[kind])} of RAM" if kind in peaks else ""
        print(f"{kind:8} {format_bytes(middle):>8}/s  {middle / disk:.2f} x dd{memory}")  # noqa: T201


def plain_rate(path: Path) -> float:
    """Bytes per second of one large file of zeros."""
    began = time.perf_counter()
    command = ["dd", "if=/dev/zero", f"of={path}", "bs=4M", "count=256", "conv=fsync", "status=none"]
    subprocess.run(command, check=True)
    return path.stat().st_size / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
