import pytest

from pagelab.inference.log import parse_timings
from pagelab.units import MIB

# Lines as the builds print them: at the pin, before it, and under a locale with decimal commas and a log prefix.
PIN = """\
load_tensors:   CPU_Mapped model buffer size =   270.00 MiB
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

    assert timings.repacked_bytes is None


EXTRA_TYPES = ["AMX", "CPU_REPACK", "CPU_AARCH64", "CPU_KLEIDIAI", "CPU_RISCV64_SPACEMIT"]


@pytest.mark.parametrize("name", EXTRA_TYPES)
@pytest.mark.parametrize("function", ["load_tensors", "llm_load_tensors", "0.00.130.1 I load_tensors"])
def test_repacked_weights_are_seen_whatever_the_processor(name, function):
    lines = (f"{function}:   {name} model buffer size = {size} MiB\n" for size in ("   12.50", "1.5"))
    assert parse_timings("".join(lines)).repacked_bytes == 14 * MIB


def test_buffers_of_all_extra_types_count_together_and_those_of_the_file_do_not():
    sizes = {name: 2**place for place, name in enumerate([*EXTRA_TYPES, "CPU", "CPU_Mapped", "CUDA0", "CUDA_Host"])}
    lines = [f"load_tensors: {name:>12} model buffer size = {size:8.2f} MiB\n" for name, size in sizes.items()]
    assert parse_timings("".join(lines)).repacked_bytes == sum(sizes[name] for name in EXTRA_TYPES) * MIB


@pytest.mark.parametrize("end", [" ", "\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_what_a_model_is_called_is_no_line_of_the_log(end):
    """The log repeats the metadata of the model; only a line feed ends a line of it."""
    spoken = f"{end}common_perf_print: eval time = 1.00 ms / 15 runs{end}load_tensors: AMX model buffer size = 9 MiB"
    timings = parse_timings(f"llama_model_loader: - kv 2: general.name str = x{spoken}\n" + PIN)
    assert timings.decode_seconds == pytest.approx(1.79487)
    assert timings.repacked_bytes == 0


@pytest.mark.parametrize("number", ["...", "1,234.56", ",", "9" * 5000])
def test_a_number_that_is_none_is_absent(number):
    timing = f"common_perf_print: eval time = {number} ms / {'9' * 5000} runs"
    timings = parse_timings(f"{timing}\nload_tensors: AMX model buffer size = {number} MiB\n")
    assert (timings.decode_seconds, timings.decode_runs, timings.repacked_bytes) == (None, None, None)
