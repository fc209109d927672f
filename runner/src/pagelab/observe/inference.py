"""One watched inference: the process inside its group, a stamp on every token, counters at every boundary."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa

from pagelab.host.child import enter
from pagelab.host.cpu_interference import cpu_interference
from pagelab.host.other_processes import Process, cpu_time_of_others, processes
from pagelab.inference.process import LlamaCli, Printed, Ready
from pagelab.observe.counters import Counters
from pagelab.observe.sampler import Sampler
from pagelab.store.observation import ObservedInference, ObservedOthers

IDLE_SECONDS = 0.5
OTHERS_NAMED = 8

Notify = Callable[[str, int], None]
"""Told of the window or phase that has begun, and of the tokens generated so far."""


@dataclass
class Watched:
    """One inference: what was seen of it, and what it printed. Times are seconds since the start of the process."""

    seen: ObservedInference
    token_seconds: list[float] = field(default_factory=list)
    printed_bytes: list[int] = field(default_factory=list)
    text: bytes = b""
    log: str = ""
    sampler: Sampler | None = None
    processes_at_ready: dict[int, Process] = field(default_factory=dict)

    def tokens_table(self) -> pa.Table:
        """One row a generated token: index, arrival, latency since the token before (null for the first), bytes."""
        arrivals = self.token_seconds
        latencies = [None, *(after - before for before, after in pairwise(arrivals))]
        return pa.table(
            {
                "token_index": pa.array(range(len(arrivals)), pa.int32()),
                "arrival_seconds": pa.array(arrivals, pa.float64()),
                "latency_seconds": pa.array(latencies[: len(arrivals)], pa.float64()),
                "printed_bytes": pa.array(self.printed_bytes, pa.int32()),
            }
        )


def watch(
    command: list[str],
    counters: Counters,
    tokens: int,
    timeout_seconds: float,
    notify: Notify | None = None,
    sampled: bool = True,
) -> Watched:
    """Run llama-cli inside the group of `counters` and watch it until it ends, which the timeout makes sure of.

    Without `sampled` the counters are read at the boundaries only, which is for finding out what sampling costs.

    Raises:
        InferenceError: the program cannot be started.
    """
    tell = notify or (lambda _window, _tokens: None)
    seen = ObservedInference(at_start=counters.snapshot(None))
    watched = Watched(seen)
    deadline = time.monotonic() + timeout_seconds
    cli = LlamaCli(command, enter(counters.group))
    seen.started_monotonic_seconds = cli.started_monotonic
    try:
        if sampled:
            watched.sampler = Sampler(lambda: counters.sample(cli.pid), cli.started_monotonic)
        with watched.sampler or nullcontext():
            tell("load", 0)
            for event in cli.events(IDLE_SECONDS):
                if isinstance(event, Ready):
                    seen.at_ready, seen.ready_seconds = counters.snapshot(cli.pid), event.seconds
                    # Not at the first token: the second is close behind it.
                    seen.interference_at_ready, watched.processes_at_ready = cpu_interference(cli.pid), processes()
                    tell("prompt", 0)
                elif isinstance(event, Printed):
                    _take_token(watched, event, counters, cli.pid, tokens)
                    tell("decode", len(watched.token_seconds))
                elif time.monotonic() > deadline:
                    seen.timed_out = True
                    cli.kill()
    finally:
        cli.kill()
        seen.exit_status = cli.finish()
        watched.log = cli.log.decode(errors="replace")
    return watched


def _take_token(watched: Watched, event: Printed, counters: Counters, pid: int, tokens: int) -> None:
    """Stamp a token; read the counters at the first and at the last. What follows the last is a closing newline."""
    if len(watched.token_seconds) >= tokens:
        return
    watched.token_seconds.append(event.seconds)
    watched.printed_bytes.append(len(event.text))
    watched.text += event.text
    if len(watched.token_seconds) == 1:
        watched.seen.at_first_token = counters.snapshot(pid)
        counters.tensors.begin_decoding()
    elif len(watched.token_seconds) == tokens:
        watched.seen.at_last_token = counters.snapshot(pid)
        watched.seen.resident_at_last_bytes = counters.tensors.end_decoding()
        watched.seen.interference_at_last_token = cpu_interference(pid)
        taken, busiest = cpu_time_of_others(watched.processes_at_ready, processes(), [os.getpid(), pid])
        watched.seen.others = ObservedOthers(cpu_seconds=taken, busiest=busiest[:OTHERS_NAMED])
