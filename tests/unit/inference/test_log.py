import pytest

from pagelab.inference.log import parse_timings
from pagelab.units import MIB

# Lines as the builds print them: at the pin, before it, and under a locale with decimal commas and a log prefix.
PIN = """\
common_perf_print:        load time =     350.81 ms
common_perf_print: prompt eval time =     350.31 ms /     5 tokens (   70.06 ms per token,    14.27 tokens per second)
common_perf_print:        eval time =    1794.87 ms /    15 runs   (  119.66 ms per token,     8.36 tokens per second)
common_perf_print:       total time =    2165.20 ms /    20 tokens
common_perf_print: unaccounted time =      12.81 ms /   0.6 %      (total - sampling - prompt eval - eval) / (total)
"""
OLDER = PIN.replace("common_perf_print", "llama_perf_context_print")
PREFIXED = "".join(f"0.02.165.200 I {line}\n" for line in PIN.splitlines()).replace("350.81", "350,81")


@pytest.mark.parametrize("log", [PIN, OLDER, PREFIXED], ids=["pin", "older", "prefixed"])
def test_the_engines_own_clock_is_read(log):
    timings = parse_timings(log)
    assert timings.load_seconds == pytest.approx(0.35081)
    assert timings.prompt_seconds == pytest.approx(0.35031)
    assert timings.prompt_tokens == 5
    assert timings.decode_seconds == pytest.approx(1.79487)
    assert timings.decode_runs == 15
    assert timings.unaccounted_seconds == pytest.approx(0.01281)
    assert timings.repacked_bytes == 0


def test_what_the_log_does_not_say_is_absent():
    timings = parse_timings("main: error: unable to load model\n")
    assert timings.decode_seconds is None
    assert timings.unaccounted_seconds is None
    assert timings.decode_runs is None
    assert timings.prompt_tokens is None


def test_repacked_weights_are_seen():
    lines = (f"load_tensors:   CPU_REPACK model buffer size = {size} MiB\n" for size in ("   12.50", "1.5"))
    assert parse_timings("".join(lines)).repacked_bytes == 14 * MIB
