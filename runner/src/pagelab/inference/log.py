"""What llama.cpp writes to its log: that it is ready, its own timings, and weights that it copied."""

import re

from pagelab.store.record import EngineTimings
from pagelab.units import MIB

# Lines are ended by the line feed alone, and told by how they begin: the log repeats texts of the model.
_BEGIN = r"^(?:[\d.]+ [A-Z] )?"  # newer builds put the time and a letter in front
# Printed when the model is ready and generation begins; the same words in all builds.
READY_LINE = re.compile(rf"{_BEGIN}generate: n_ctx = ")
_NUMBER = r"\d{1,15}(?:[.,]\d{1,9})?"
# A line of its timings: which one, milliseconds, and of some what was counted in that time.
_TIMING = re.compile(
    rf"{_BEGIN}(?:common_perf_print|llama_perf_context_print|llama_print_timings):[ \t]+([a-z ]+) time ="
    rf"[ \t]*({_NUMBER}) ms"
    r"(?: /[ \t]*(\d{1,15}) (?:tokens|runs))?",
    re.MULTILINE,
)
# The size of one buffer of weights, by its type.
_BUFFER = re.compile(rf"{_BEGIN}(?:\w+:)?[ \t]*(\S+) model buffer size =[ \t]*({_NUMBER}) MiB", re.MULTILINE)
# Types of the CPU's backend that weights are copied into, in another order (ggml-cpu.cpp, extra buffer types): AMX,
# CPU_REPACK, CPU_AARCH64, CPU_KLEIDIAI, and what will be called so. CPU and CPU_Mapped hold them as the file does.
_EXTRA_TYPE = re.compile(r"AMX|CPU_[A-Z0-9_]+")


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
        repacked_bytes=_repacked_bytes(log),
    )


def _repacked_bytes(log: str) -> int | None:
    """The bytes of all buffers of an extra type; None where the log tells of no buffer at all."""
    buffers = _BUFFER.findall(log)
    extra = [_number(size) for name, size in buffers if _EXTRA_TYPE.fullmatch(name)]
    return round(sum(extra) * MIB) if buffers else None


def _number(text: str) -> float:
    """A number of the log, which has a decimal comma in some locales."""
    return float(text.replace(",", "."))
