"""The keeper, on real files and processes: what it holds, what it lets go of, and what is left when it is killed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import DENSE, calling, eventually, fetched_models, needs_lab, needs_root, on_host, parent_of, run, write_config
from pagelab.host.cgroup import Group, new_group
from pagelab.host.child import enter
from pagelab.host.page_cache import resident_bytes
from pagelab.host.procfs import read_text
from pagelab.keeper.chunks import CHUNK_BYTES, Chunks
from pagelab.keeper.holding import Holding
from pagelab.keeper.layout import chunks_of_every_token
from pagelab.keeper.memory import FileWindow
from pagelab.keeper.process import KeeperProcess
from pagelab.keeper.request import KeeperRequest
from pagelab.keeper.target import find_target
from pagelab.models.gguf_map import GgufMap, read_gguf_map
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore
from pagelab.units import MIB

pytestmark = needs_root

COUNT = 24
FEW_BYTES = CHUNK_BYTES // 10
"""Pages that are on no list yet, because the kernel puts them there by batches, are not dropped."""

# Touches the chunks that standard input names, one a line, and says so; maps them all as llama.cpp does.
READS_CHUNKS = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
mapped.madvise(mmap.MADV_RANDOM)
print("mapped", flush=True)
for line in sys.stdin:
    first = int(line) << 21
    sum(mapped[first : first + (1 << 21) : 4096])
    print("read", flush=True)
"""


# Step by step, as programs do; it has all of it while it waits.
TAKES_30_MIB = """
import os, time
taken = []
for _ in range(30):
    taken.append(os.urandom(1 << 20))
    time.sleep(0.02)
time.sleep(0.2)
"""


class Reader:
    """A process that has a file mapped and touches chunks of it when it is told to."""

    def __init__(self, path: Path, group: Group | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READS_CHUNKS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=enter(group),
        )
        self._answer("mapped")

    def read(self, chunk: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{chunk}\n")
        self.process.stdin.flush()
        self._answer("read")

    def _answer(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def file(disk_path: Path) -> Path:
    """A file of whole chunks but for its end, none of it in RAM."""
    path = disk_path / "weights"
    path.write_bytes(os.urandom(COUNT * CHUNK_BYTES - 5000))
    evict_file(path)
    return path


@pytest.fixture
def reader(file: Path) -> Iterator[Reader]:
    one = Reader(file)
    yield one
    one.end()


def evict_file(path: Path) -> None:
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert resident_bytes(path, 0) == 0


def resident(path: Path, chunk: int) -> int:
    """Bytes of a chunk that are in RAM."""
    return resident_bytes(path, chunk * CHUNK_BYTES, CHUNK_BYTES)


def locked_bytes(pid: int | str) -> int:
    """What a process has locked, as the kernel says."""
    found = re.search(r"^VmLck:\s+(\d+) kB", read_text(f"/proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def request(file: Path, **values: Any) -> KeeperRequest:
    used = list(range(COUNT))
    return replace(KeeperRequest([str(file)], used, used, most_bytes=0, first_bytes=0, headroom_bytes=0), **values)


# --- its parts --------------------------------------------------------------------------------------------------------


def test_what_is_held_is_locked_and_what_is_too_much_is_let_go(file: Path) -> None:
    chunks, windows = Chunks([file.stat().st_size]), [FileWindow(str(file))]
    holding, before = Holding(chunks, windows, [3, 1, 2, COUNT - 1]), locked_bytes("self")
    holding.want(4 * CHUNK_BYTES)
    holding.take_all()
    assert holding.refused is None
    assert locked_bytes("self") - before == pytest.approx(4 * CHUNK_BYTES, abs=8192)  # the last one is shorter
    assert resident(file, 3) == resident(file, 1) == CHUNK_BYTES
    holding.want(1 * CHUNK_BYTES)
    assert locked_bytes("self") - before == CHUNK_BYTES
    assert 3 in holding
    assert [chunk for chunk in range(COUNT) if chunk in holding] == [3]
    holding.want(0)
    assert locked_bytes("self") == before


def test_what_a_process_touched_is_seen_and_let_go(file: Path, reader: Reader) -> None:
    chunks = Chunks([file.stat().st_size])
    target = find_target([os.getpid(), reader.process.pid], [str(file)], chunks)
    assert target is not None
    with target:
        assert target.pid == reader.process.pid
        assert not target.has_touched(5)
        reader.read(5)
        assert target.has_touched(5)
        assert resident(file, 5) == CHUNK_BYTES
        assert target.let_go(5) is None
        assert not target.has_touched(5)
        assert resident(file, 5) < FEW_BYTES
        reader.end()
        assert target.has_ended()
        assert target.has_touched(5) is None


def test_a_process_that_has_another_file_of_that_name_is_no_target(file: Path, disk_path: Path) -> None:
    (disk_path / "other").mkdir()
    other = disk_path / "other" / file.name
    other.write_bytes(bytes(2 * CHUNK_BYTES))
    reading = Reader(other)
    assert find_target([reading.process.pid], [str(file)], Chunks([file.stat().st_size])) is None
    reading.end()


# --- the process ------------------------------------------------------------------------------------------------------


def test_chunks_are_let_go_after_their_use_and_read_before_the_next(file: Path) -> None:
    order = list(range(0, COUNT, 2))  # what is held lies between
    wanted = request(file, order=order, most_bytes=12 * CHUNK_BYTES, first_bytes=12 * CHUNK_BYTES, lag=2, ahead=3)
    with KeeperProcess(wanted) as keeper:
        assert keeper.hold() == 12 * CHUNK_BYTES
        assert all(resident(file, chunk) == CHUNK_BYTES for chunk in order)
        reading = Reader(file)
        try:
            for chunk in (1, 3, 5, 7):
                reading.read(chunk)
            eventually(lambda: resident(file, 1) < FEW_BYTES, "what was used is let go", 20)
            eventually(
                lambda: all(resident(file, chunk) > FEW_BYTES for chunk in (9, 11, 13)), "what comes next is read", 20
            )
            assert resident(file, 5), "two chunks behind, nothing is let go yet"
            assert all(resident(file, chunk) == CHUNK_BYTES for chunk in order)
        finally:
            reading.end()
        report = keeper.finish()
    assert report is not None
    assert report.refused is None
    assert report.chunks_let_go == 2
    assert report.chunks_read_ahead >= 3
    assert report.held_bytes == report.most_held_bytes == 12 * CHUNK_BYTES


def test_an_order_that_is_not_the_files_is_learned(file: Path, reader: Reader) -> None:
    round_trip = [4, 20, 9, 15, 1]
    with KeeperProcess(request(file, lag=1, ahead=1)) as keeper:
        keeper.hold()
        for before, chunk in pairwise([*round_trip, *round_trip]):
            reader.read(before)
            reader.read(chunk)
        eventually(lambda: resident(file, 20) < FEW_BYTES, "it was used and let go", 20)
        reader.read(4)
        eventually(lambda: resident(file, 20) > FEW_BYTES, "what came after 4 before", 20)
        report = keeper.finish()
    assert report is not None
    assert report.chunks_let_go >= 5


def test_less_is_held_once_something_else_needs_the_memory(file: Path) -> None:
    """Before the kernel kills anything: a process in the group takes 30 MiB, which the keeper gives."""
    group = new_group("keeper-test")
    group.create()
    everything = COUNT * CHUNK_BYTES
    wanted = request(
        file,
        most_bytes=everything,
        first_bytes=everything,
        headroom_bytes=24 * MIB,
        groups=[str(group.path)],
        target_group=str(group.path),
    )
    try:
        with KeeperProcess(wanted, group) as keeper:
            group.set_limit((group.counters().non_file_bytes or 0) + everything + 40 * MIB)
            keeper.hold()
            before = locked_bytes(keeper.pid)
            assert before >= everything - CHUNK_BYTES
            taker = subprocess.run([sys.executable, "-c", TAKES_30_MIB], preexec_fn=enter(group), check=False)
            assert taker.returncode == 0
            report = keeper.finish()
        assert report is not None
        assert report.held_bytes <= before - 6 * MIB
        assert group.oom_kills() == 0
    finally:
        group.remove()


# --- pagelab hold -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("model")
    with fetched_models(write_config(directory / "c.yml")) as (path,):
        yield path


def test_hold_runs_a_command_beside_held_weights(model: Path) -> None:
    answer = on_host("hold", model, "--budget", "16MiB", "--", "sh", "-c", "echo it ran; exit 7")
    assert (answer.returncode, answer.stdout) == (7, "it ran\n"), answer.stderr
    assert "16.8 MB of " in answer.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--budget", "much", "--", "true"), "--budget much: "),
        (("--", "no-such-command"), "no-such-command cannot be started"),
    ],
)
def test_hold_says_what_is_wrong(model: Path, words: tuple[str, ...], sentence: str) -> None:
    answer = on_host("hold", model, *words)
    assert answer.returncode not in (0, 1)
    assert sentence in answer.stderr


def test_a_command_goes_on_when_its_keeper_is_killed(model: Path) -> None:
    waits = "import sys; print('here', flush=True); sys.exit(int(sys.stdin.readline()))"
    process = subprocess.Popen(
        [sys.executable, "-m", "pagelab", "hold", str(model), "--budget", "16MiB", "--", sys.executable, "-c", waits],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    keepers = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and "pagelab.keeper.keep" in (read_text(entry / "cmdline") or "")
        and parent_of(int(entry.name)) == process.pid
    ]
    assert len(keepers) == 1
    assert locked_bytes(keepers[0]) == 8 * CHUNK_BYTES
    os.kill(keepers[0], signal.SIGKILL)
    _, errors = process.communicate("5\n", timeout=30)
    assert process.returncode == 5
    assert "the keeper was killed; the command went on without it" in errors


# --- trials -----------------------------------------------------------------------------------------------------------

KERNEL, KEEPER = BOTH = ("kernel", "hold+behind+stream")


class Trials(NamedTuple):
    """The trial of each strategy, their run, and the model."""

    of: dict[str, TrialRecord]
    store: RunStore
    model: GgufMap


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """The same model and limit, with the kernel alone and with a keeper."""
    directory = tmp_path_factory.mktemp("strategies")
    config = write_config(
        directory / "strategies.yml",
        synthetic=DENSE | {"layers": 20},
        factors={"resident": [0.7], "strategy": list(BOTH)},
        trace={"block": "auto", "page_cache": "off"},
        memory={"swap_minimum": "256MiB", "floor": "4MiB"},
        inference={"tokens": 16, "prompt": "The sea"},
    )
    with fetched_models(config) as (path,):
        call = run(config, directory / "results")
        # What others read meanwhile makes a trial invalid, what the keeper does is no other for it.
        assert call.code in (0, 1), call.show()
        yield Trials({one: call.trial(strategy=one) for one in BOTH}, call.store, read_gguf_map(path))


@needs_lab
def test_a_keeper_changes_no_word(trials: Trials) -> None:
    texts = {trials.store.read_trial_text(one.trial, "output.txt") for one in trials.of.values()}
    assert len(texts) == 1
    assert texts != {""}


@needs_lab
def test_a_keeper_holds_what_there_is_room_for(trials: Trials) -> None:
    trial = trials.of[KEEPER]
    share = trial.limit.share_bytes
    assert share is not None
    assert trial.keeper.held_bytes is not None
    assert share - 64 * MIB <= trial.keeper.held_bytes <= share
    assert not [reason for reason in trial.validity.reasons if "keeper" in reason]
    assert trials.of[KERNEL].keeper.held_bytes is None


@needs_lab
def test_what_is_not_held_is_read_once_for_each_token(trials: Trials) -> None:
    """Predicted from what is held alone: within a tenth, and less than the kernel reads."""
    trial = trials.of[KEEPER]
    missing = len(chunks_of_every_token(trials.model)) * CHUNK_BYTES - (trial.keeper.held_bytes or 0)
    read = (trial.reads.decode.device_bytes or 0) / trial.decode.tokens
    assert read == pytest.approx(missing, rel=0.1)
    by_kernel = trials.of[KERNEL]
    assert read < (by_kernel.reads.decode.device_bytes or 0) / by_kernel.decode.tokens


@needs_lab
def test_tune_tries_and_says_what_to_type(tmp_path: Path, model: Path) -> None:
    words = ("--ram", "120MiB", "--tokens", "6", "--repetitions", "3", "--json")
    with calling("tune", model, *words, results=tmp_path / "results") as call:
        call.finish()
    assert call.code == 0, call.show()
    found = json.loads(call.stdout)
    stock = next(one for one in found["tried"] if one["candidate"] == {"strategy": KERNEL, "readahead_kib": None})
    assert len(stock["speeds"]) == 3
    assert found["ratio"] >= 1
