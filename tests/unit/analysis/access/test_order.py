"""Each rule for "sequential" on patterns whose answer is known, and the vectorised runs against plain Python."""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from example_trace import stream_of
from hypothesis import given
from hypothesis import strategies as st

from pagelab.analysis.access.order import (
    STREAMS,
    Bin,
    find_gaps,
    find_runs,
    histogram,
    next_fraction,
    notes_fraction,
)
from pagelab.units import GIB, KIB, MIB

Read = tuple[int, int, int]

READ = 128 * KIB
READAHEAD = 8 * MIB
FILE = GIB


def sequential(reads: list[Read], readahead_bytes: int = READAHEAD, by_completion: bool = False) -> float | None:
    return find_runs(stream_of(reads), by_completion).sequential_fraction(readahead_bytes)


def notes(reads: list[Read]) -> float | None:
    stream = stream_of(reads)
    return notes_fraction(stream.space, stream.start // 512)


def in_order(start: int = 0, size: int = FILE, read: int = READ, space: int = 0) -> list[Read]:
    return [(space, offset, read) for offset in range(start, start + size, read)]


def taking_turns(streams: list[list[Read]]) -> list[Read]:
    return [read for turn in zip(*streams, strict=True) for read in turn]


def four_streams() -> list[Read]:
    return taking_turns([in_order(number * FILE, FILE) for number in range(4)])


def random_touches(touches: int = 300, file: int = 64 * GIB) -> list[Read]:
    """Touches at random places of a mapped file: 8 MiB are read around each, in requests of up to 3 MiB."""
    dice = random.Random(1)  # noqa: S311 - repeatable
    reads = []
    for _ in range(touches):
        start = dice.randrange(0, file // 4096) * 4096
        reads += [(0, start, 3 * MIB), (0, start + 3 * MIB, 3 * MIB), (0, start + 6 * MIB, 2 * MIB)]
    return reads


def advised_random(touches: int = 2000) -> list[Read]:
    """The same under MADV_RANDOM: the page that was touched and nothing else."""
    dice = random.Random(2)  # noqa: S311 - repeatable
    return [(0, dice.randrange(0, GIB // 4096) * 4096, 4096) for _ in range(touches)]


def out_of_order(reads: list[Read], depth: int) -> list[Read]:
    """In the order in which a disk completes them that has `depth` under way and ends a random one of them next."""
    dice = random.Random(3)  # noqa: S311 - repeatable
    under_way, done = reads[:depth], []
    for read in reads[depth:]:
        done.append(under_way.pop(dice.randrange(len(under_way))))
        under_way.append(read)
    return done + under_way


class TestKnownPatterns:
    """The table of patterns by the naive rules and the sound one."""

    def test_one_stream(self) -> None:
        reads = in_order()
        assert sequential(reads) == 1 - READAHEAD / FILE  # 99.2 %: all but the first window
        assert next_fraction(stream_of(reads)) == 1.0
        assert notes(reads) == 0.0, "starts lie 256 sectors apart, and the rule wants fewer"
        assert notes(in_order(read=READ - 4096, size=READ * 100)) == 1.0

    @pytest.mark.parametrize("depth", [1, 4])
    def test_four_streams_that_take_turns(self, depth: int) -> None:
        reads = four_streams()
        by_turns = [read for first in range(0, len(reads), 4 * depth) for read in by_depth(reads, first, depth)]
        assert sequential(by_turns) == 1 - READAHEAD / FILE
        naive = next_fraction(stream_of(by_turns))
        assert naive == pytest.approx((depth - 1) / depth, abs=1e-3)

    def test_random_touches_of_whole_readahead_windows(self) -> None:
        reads = random_touches()
        assert sequential(reads) == pytest.approx(0.0, abs=0.02)
        assert next_fraction(stream_of(reads)) == pytest.approx(2 / 3, abs=0.01)

    def test_random_touches_without_readahead(self) -> None:
        assert sequential(advised_random()) == 0.0
        assert next_fraction(stream_of(advised_random())) == 0.0
        assert find_runs(stream_of(advised_random())).count >= 1998, "one page in 262,144 follows by chance"

    def test_every_second_read_left_out(self) -> None:
        assert sequential(in_order()[::2]) == 0.0
        assert next_fraction(stream_of(in_order()[::2])) == 0.0

    def test_two_passes(self) -> None:
        runs = find_runs(stream_of(in_order() + in_order()))
        assert runs.lengths.tolist() == [FILE, FILE]
        assert runs.sequential_fraction(READAHEAD) == 1 - READAHEAD / FILE

    def test_backwards(self) -> None:
        backwards = in_order()[::-1]
        for by_completion in (False, True):
            assert sequential(backwards, by_completion=by_completion) == 0.0
        assert sequential(out_of_order(backwards, 4), by_completion=True) == 0.0

    def test_two_files_are_two_streams(self) -> None:
        reads = in_order(0, READAHEAD * 2) + in_order(READAHEAD * 2, READAHEAD * 2, space=1)
        assert sequential(reads) == 0.5, "the second file does not go on where the first one ended"
        assert next_fraction(stream_of(reads)) == 1.0, "each file for itself"

    def test_more_streams_than_are_followed(self) -> None:
        streams = [in_order(number * FILE, READAHEAD * 2) for number in range(STREAMS + 1)]
        assert sequential(taking_turns(streams)) == 0.0
        assert sequential(taking_turns(streams[1:])) == 0.5

    def test_the_readahead_decides_what_order_is(self) -> None:
        assert sequential(in_order(size=READAHEAD), READAHEAD) == 0.0
        assert sequential(in_order(size=READAHEAD), READ) == 1 - READ / READAHEAD
        assert sequential(in_order(size=READAHEAD), 0) == 1 - READ / READAHEAD, "the first read is never in order"

    def test_bytes_weigh(self) -> None:
        long, short = in_order(0, 100 * MIB), [(0, FILE + number * MIB, 4096) for number in range(1000)]
        share = sequential(long + short, READ)
        assert share == pytest.approx((100 * MIB - READ) / (100 * MIB + 1000 * 4096))
        assert next_fraction(stream_of(long + short)) == pytest.approx(799 / 1799)

    @pytest.mark.parametrize("depth", [2, 4, 8])
    @pytest.mark.parametrize("reads", [in_order(), four_streams()], ids=["one stream", "four"])
    def test_completions_in_another_order(self, reads: list[Read], depth: int) -> None:
        done = out_of_order(reads, depth)
        assert next_fraction(stream_of(done)) < 0.6
        by_completion, as_issued = sequential(done, by_completion=True), sequential(done)
        assert by_completion is not None
        assert as_issued is not None
        assert by_completion > 0.97
        assert as_issued < by_completion

    def test_completions_of_random_windows_stay_random(self) -> None:
        assert sequential(out_of_order(random_touches(), 4), by_completion=True) == pytest.approx(0.0, abs=0.02)

    def test_nothing_and_one_read(self) -> None:
        nothing = find_runs(stream_of([]))
        assert (nothing.count, nothing.mean_bytes, nothing.median_bytes, nothing.n50_bytes) == (0, None, None, None)
        assert nothing.sequential_fraction(READAHEAD) is None
        assert next_fraction(stream_of([])) is None
        assert notes([(0, 0, 4096)]) is None
        assert sequential([(0, 0, 4096)]) == 0.0


def by_depth(reads: list[Read], first: int, depth: int) -> Iterator[Read]:
    """Some turns of four streams, with `depth` reads of each stream together."""
    for stream in range(4):
        yield from reads[first + stream : first + 4 * depth : 4]


class TestNotesRule:
    def test_gaps_below_256_sectors_either_way(self) -> None:
        device = np.zeros(5, dtype=np.int64)
        assert notes_fraction(device, np.array([0, 255, 0, 256, 0])) == 0.5

    def test_each_disk_for_itself(self) -> None:
        device, sector = np.array([0, 1, 0, 1]), np.array([0, 10**6, 8, 10**6 + 8])
        assert notes_fraction(device, sector) == 1.0


class TestRunLengths:
    def test_lengths(self) -> None:
        reads = [*in_order(0, 4 * READ), *in_order(FILE, READ), *in_order(2 * FILE, READ)]
        runs = find_runs(stream_of(reads))
        assert sorted(runs.lengths.tolist()) == [READ, READ, 4 * READ]
        assert (runs.count, runs.mean_bytes, runs.median_bytes, runs.n50_bytes) == (3, 2 * READ, READ, 4 * READ)


class TestGaps:
    def test_directions_and_sizes(self) -> None:
        gaps = find_gaps(stream_of([(0, 0, 10), (0, 10, 10), (0, 25, 10), (0, 20, 10), (0, 31, 5), (1, 0, 5)]))
        assert gaps.adjacent == 1
        assert gaps.forward == [Bin(1, 2, 1, 1), Bin(4, 8, 1, 5)]
        assert gaps.backward == [Bin(8, 16, 1, 15)]
        assert (gaps.count, gaps.forward_fraction, gaps.backward_fraction) == (4, 0.5, 0.25)

    def test_streams_that_take_turns_leap_forwards_and_back(self) -> None:
        gaps = find_gaps(stream_of(four_streams()))
        assert gaps.forward_fraction == pytest.approx(0.75, abs=1e-3)
        assert gaps.backward_fraction == pytest.approx(0.25, abs=1e-3)

    def test_none(self) -> None:
        gaps = find_gaps(stream_of([(0, 0, 10)]))
        assert (gaps.count, gaps.forward_fraction, gaps.backward_fraction) == (0, None, None)

    def test_bins_at_powers_of_two(self) -> None:
        values = np.array([1, 2, 3, 4, 2**40 - 1, 2**40])
        assert [(one.low, one.high, one.count) for one in histogram(values)] == [
            (1, 2, 1),
            (2, 4, 2),
            (4, 8, 1),
            (2**39, 2**40, 1),
            (2**40, 2**41, 1),
        ]


# --- against plain Python ---------------------------------------------------------------------------------------------


def plain_runs(reads: list[Read]) -> list[list[Read]]:
    """Runs as the description of the module says, one burst after the other."""
    bursts: list[list[Read]] = []
    for read in reads:
        if bursts and bursts[-1][-1][0] == read[0] and bursts[-1][-1][1] + bursts[-1][-1][2] == read[1]:
            bursts[-1].append(read)
        else:
            bursts.append([read])
    runs: list[list[Read]] = []
    goes_on_to: dict[int, int] = {}
    run_of: dict[int, list[Read]] = {}
    for number, burst in enumerate(bursts):
        for back in range(number - 1, max(number - STREAMS, 0) - 1, -1):
            space, start, size = bursts[back][-1]
            if (space, start + size) == burst[0][:2] and back not in goes_on_to:
                goes_on_to[back] = number
                run_of[number] = run_of[back]
                break
        else:
            run_of[number] = []
            runs.append(run_of[number])
        run_of[number] += burst
    return runs


def plain_fraction(reads: list[Read], readahead_bytes: int) -> float | None:
    first = 0
    for run in plain_runs(reads):
        window = 0
        for number, (_, _, size) in enumerate(run):
            if number and window + size > readahead_bytes:
                break
            window += size
        first += window
    total = sum(size for *_, size in reads)
    return (total - first) / total if total else None


crowded = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(1, 3)), max_size=40)


class TestAgainstPlainPython:
    @given(crowded, st.integers(0, 10))
    def test_crowded_reads(self, reads: list[Read], readahead_bytes: int) -> None:
        runs = find_runs(stream_of(reads))
        lengths = [sum(size for *_, size in run) for run in plain_runs(reads)]
        assert sorted(runs.lengths.tolist()) == sorted(lengths)
        assert runs.sequential_fraction(readahead_bytes) == plain_fraction(reads, readahead_bytes)

    @given(st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 4))
    def test_many_streams_over_the_borders_of_what_is_compared_at_once(
        self, seed: int, streams: int, longest: int
    ) -> None:
        dice = random.Random(seed)  # noqa: S311 - repeatable
        at = [number * 1000 for number in range(streams)]
        reads = []
        for _ in range(400):
            stream = dice.randrange(streams)
            size = dice.randint(1, longest)
            reads.append((0, at[stream], size))
            at[stream] += size if dice.random() < 0.9 else 0
        assert sequential(reads, 20) == plain_fraction(reads, 20)

    def test_over_many_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = four_streams()[:3000] + in_order(size=50 * READ) + four_streams()[:3000]
        expected = find_runs(stream_of(reads)).lengths.tolist()
        assert sorted(expected) == sorted(sum(size for *_, size in run) for run in plain_runs(reads))
        monkeypatch.setattr("pagelab.analysis.access.order._AT_ONCE", 7)
        assert find_runs(stream_of(reads)).lengths.tolist() == expected

    @given(crowded, st.booleans())
    def test_runs_hold_every_byte_once(self, reads: list[Read], by_completion: bool) -> None:
        runs = find_runs(stream_of(reads), by_completion)
        assert runs.lengths.sum() == sum(size for *_, size in reads)
        assert np.all(runs.run_start <= runs.stream.start)
        assert runs.count <= find_runs(stream_of(reads)).count


def test_only_readahead_makes_a_first_window() -> None:
    """Four reads in order: by readahead they may be one window, of a program that asked for each they are an order."""
    reads = stream_of([(0, number * 100, 100) for number in range(4)])
    ahead = replace(reads, ahead=np.ones(4, dtype=np.bool_))
    asked = replace(reads, ahead=np.zeros(4, dtype=np.bool_))
    assert [find_runs(one).sequential_fraction(400) for one in (reads, ahead, asked)] == [0.0, 0.0, 0.75]
