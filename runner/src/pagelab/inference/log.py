"""What llama.cpp writes to its log: that it is ready, its own timings, and weights that it copied."""

import re

from pagelab.store.record import EngineTimings
from pagelab.units import MIB

# Printed when the model is ready and generation begins; the same words in all builds that have llama-cli.
READY_LINE = re.compile(r"^generate: n_ctx = ")
# A line of its timings: which one, milliseconds, and of some what was counted in that time.
_TIMING = re.compile(
    r"(?:common_perf_print|llama_perf_context_print|llama_print_timings):\s+([a-z ]+) time =\s*([\d.,]+) ms"
    r"(?: /\s*(\d+) (?:tokens|runs))?"
)
_REPACK = re.compile(r"CPU_REPACK model buffer size =\s*([\d.,]+) MiB")


def parse_timings(log: str) -> EngineTimings:
    """llama.cpp's own timings, from its log; what is not in the log is absent."""
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    for what, milliseconds, counted in _TIMING.findall(log):
        seconds.setdefault(what, _number(milliseconds) / 1000)
        if counted:
            counts.setdefault(what, int(counted))
    return EngineTimings(
        load_seconds=seconds.get("load"),
        prompt_seconds=seconds.get("prompt eval"),
        prompt_tokens=counts.get("prompt eval"),
        decode_seconds=seconds.get("eval"),
        decode_runs=counts.get("eval"),
        sampling_seconds=seconds.get("sampling"),
        unaccounted_seconds=seconds.get("unaccounted"),
        repacked_bytes=round(sum(map(_number, _REPACK.findall(log))) * MIB),
    )


def _number(text: str) -> float:
    """A number of the log, which has a decimal comma in some locales."""
    return float(text.replace(",", "."))
