"""Run shipped configurations in full on this machine, and print what each found, as docs/results.md has it.

    [RESULTS=DIR] benchmarks/shipped_configs.py [NAME…]

Without names the quick ones are run, which takes about a quarter of an hour, and without RESULTS nothing else is kept.
A measurement counts only on a quiet machine.
"""

import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pagelab.host.cpu import cpu_facts, physical_cores
from pagelab.host.procfs import total_memory_bytes
from pagelab.units import format_bytes

CHECKOUT = Path(__file__).parents[1]
CONFIGS = CHECKOUT / "runner" / "configs"
QUICK = ("quickstart", "phases", "cliff", "readahead-amplification")


def main() -> None:
    """Run each, and print a section of Markdown as soon as it has ended."""
    print(f"{machine()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}\n")  # noqa: T201
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pagelab-bench-") as temporary:
        results = os.environ.get("RESULTS") or temporary
        for name in sys.argv[1:] or QUICK:
            print(f"## {name}\n\n```text\n{found(name, results)}\n```\n", flush=True)  # noqa: T201


def machine() -> str:
    """The hardware and the kernel, in one line."""
    cores = f"{physical_cores()} cores"
    return f"{cpu_facts()['model']}, {cores}, {format_bytes(total_memory_bytes())}, Linux {platform.release()}"


def found(name: str, results: str) -> str:
    """The table, the findings, the verdicts and the warnings of one run."""
    command = ["make", "experiment", f"CONFIG={CONFIGS / name}.yml", f"RESULTS={results}"]
    answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    printed = re.search(rf"^{name} on .*?(?=^Page: )", answer.stdout, re.MULTILINE | re.DOTALL)
    if printed is None:
        sys.exit(f"{name}: exit {answer.returncode}\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}")
    return printed[0].rstrip()


if __name__ == "__main__":
    main()
