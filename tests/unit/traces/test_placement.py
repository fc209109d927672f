"""Bytes among tensors and experts, and requests among the pieces of files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagelab.store.trace_record import TracedExtent, TracedFile, TracedTensor
from pagelab.traces.events import MODEL, SWAP
from pagelab.traces.placement import DiskMap, Placement
from pagelab.units import SECTOR_BYTES
from raw_traces import record_of

GIB, KIB = 1 << 30, 1 << 10


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def names(placement: Placement, slices: NDArray[np.int64]) -> list[tuple[str, int | None] | None]:
    return [
        None if one < 0 else (placement.slices[one].tensor, placement.slices[one].expert) for one in slices.tolist()
    ]


EXPERTS = "blk.0.ffn_up_exps.weight"


def test_each_byte_belongs_to_its_tensor_and_expert_and_those_between_to_none() -> None:
    placement = Placement.of(record_of([]))
    offsets = ints(0, 4095, 4096, 204_095, 204_096, 204_800, 307_199, 409_599, 409_600, 716_799, 716_800, 1_047_800)
    found = names(placement, placement.slice_at(np.zeros(len(offsets), np.int64), offsets))
    assert found == [
        *(None, None, ("token_embd.weight", None), ("token_embd.weight", None), None),
        *(("blk.0.attn_q.weight", None), None, (EXPERTS, 0), (EXPERTS, 1), (EXPERTS, 3), ("output.weight", None), None),
    ]
    assert placement.slice_at(ints(-1, 1), ints(4096, 4096)).tolist() == [-1, -1]
    assert [one.offset for one in placement.slices] == sorted(one.offset for one in placement.slices)
    assert {one.layer for one in placement.slices if one.tensor == EXPERTS} == {0}


def test_parts_of_a_split_model_and_experts_that_are_tensors_of_their_own() -> None:
    tensors = [
        TracedTensor(name="b", tensor_class="other", part=1, offset=0, bytes=100),
        TracedTensor(
            name="blk.0.ffn_up.3.weight", tensor_class="experts", layer=0, offset=0, bytes=50, experts=1, first_expert=3
        ),
    ]
    placement = Placement.of(record_of([], tensors=tensors))
    assert names(placement, placement.slice_at(ints(0, 1, 0, 1), ints(49, 49, 50, 99))) == [
        ("blk.0.ffn_up.3.weight", 3),
        ("b", None),
        None,
        ("b", None),
    ]
    assert [one.tensor_index for one in placement.slices] == [1, 0]


def test_a_range_is_split_exactly() -> None:
    placement = Placement.of(record_of([]))
    row, index, shared = placement.split(ints(0, 0, 0, -1), ints(300_000, 0, 4096, 4096), ints(210_000, 4096, 0, 10))
    assert row.tolist() == [0, 0, 0]
    assert names(placement, index) == [("blk.0.attn_q.weight", None), (EXPERTS, 0), (EXPERTS, 1)]
    assert shared.tolist() == [4_800, 102_400, 100_400]


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20)), max_size=8))
def test_the_pieces_of_a_range_are_those_that_every_byte_belongs_to(ranges: list[tuple[int, int]]) -> None:
    placement = Placement.of(record_of([]))
    begins, sizes = ints(*(begin for begin, _ in ranges)), ints(*(size for _, size in ranges))
    row, index, shared = placement.split(np.zeros(len(ranges), np.int64), begins, sizes)
    for number, (begin, size) in enumerate(ranges):
        found = dict(zip(index[row == number].tolist(), shared[row == number].tolist(), strict=True))
        by_hand = {
            one: min(begin + size, slice_.offset + slice_.bytes) - max(begin, slice_.offset)
            for one, slice_ in enumerate(placement.slices)
        }
        assert found == {one: count for one, count in by_hand.items() if count > 0}


def test_a_model_without_tensors() -> None:
    placement = Placement.of(record_of([], tensors=[]))
    assert placement.slice_at(ints(0), ints(5)).tolist() == [-1]
    assert [len(part) for part in placement.split(ints(0), ints(5), ints(5))] == [0, 0, 0]


def test_a_request_falls_into_the_pieces_of_files() -> None:
    disk = DiskMap(record_of([]).files)
    first, second, swap = (1 * GIB, 3 * GIB, 8 * GIB)
    sectors = ints(first, first + 510 * KIB, second, swap, swap - 4096, 0, second + 511 * KIB) // SECTOR_BYTES
    sizes = ints(4096, 8192, 4096, 4096, 8192, 4096, 4096)
    row, kind, part, offset, shared = disk.pieces(np.full(len(sectors), disk.index_of("vda")), sectors, sizes)
    assert row.tolist() == [0, 1, 2, 3, 4, 6]
    assert kind.tolist() == [MODEL, MODEL, MODEL, SWAP, SWAP, MODEL]
    assert offset.tolist() == [0, 510 * KIB, 512 * KIB, 0, 0, 1023 * KIB]
    assert shared.tolist() == [4096, 2048, 4096, 4096, 4096, 1024]
    assert part.tolist() == [0] * 6
    assert (disk.has_files, disk.knows_model, disk.unknown) == (True, True, ())


def test_extents_that_lie_next_to_each_other_give_a_piece_each() -> None:
    extents = [
        TracedExtent(file_offset=8192, disk_offset=0, bytes=4096),
        TracedExtent(file_offset=0, disk_offset=4096, bytes=8192),
    ]
    file = TracedFile(kind="model", path="/m", bytes=12_288, device="sda", extents=extents)
    row, _, _, offset, shared = DiskMap([file]).pieces(ints(0), ints(0), ints(12_288))
    assert (row.tolist(), offset.tolist(), shared.tolist()) == ([0, 0], [8192, 0], [4096, 8192])


def test_each_device_has_its_own_places_and_others_have_none() -> None:
    files = [
        TracedFile(kind="model", part=part, path=f"/m{part}", bytes=4096, device=device, extents=[extent])
        for part, (device, extent) in enumerate(
            [
                ("sdb", TracedExtent(file_offset=0, disk_offset=0, bytes=4096)),
                ("loop0", TracedExtent(file_offset=0, disk_offset=0, bytes=4096)),
            ]
        )
    ]
    disks = DiskMap(files)
    device = ints(*map(disks.index_of, ("loop0", "sda", "sdb")))
    row, _, part, _, _ = disks.pieces(device, ints(0, 0, 0), ints(512, 512, 512))
    assert (row.tolist(), part.tolist()) == ([0, 2], [1, 0])


def test_a_block_that_two_files_share_belongs_to_one_and_what_is_behind_the_end_to_none() -> None:
    shared = [TracedExtent(file_offset=0, disk_offset=0, bytes=8192)]
    model = TracedFile(kind="model", path="/m", bytes=6000, device="sda", extents=shared)
    copy = TracedFile(kind="model", part=1, path="/n", bytes=8192, device="sda", extents=shared)
    row, _, part, offset, count = DiskMap([model]).pieces(ints(0), ints(8), ints(4096))
    assert (row.tolist(), offset.tolist(), count.tolist()) == ([0], [4096], [6000 - 4096])
    row, _, part, offset, count = DiskMap([model, copy]).pieces(ints(0), ints(0), ints(8192))
    assert (part.tolist(), offset.tolist(), count.tolist()) == ([0, 1], [0, 6000], [6000, 2192])


def test_a_swap_area_is_as_large_as_its_extents() -> None:
    extent = TracedExtent(file_offset=0, disk_offset=0, bytes=8192)
    swap = TracedFile(kind="swap", path="/dev/sda2", bytes=4096, device="sda", extents=[extent])
    _, kind, _, _, count = DiskMap([swap]).pieces(ints(0), ints(8), ints(4096))
    assert (kind.tolist(), count.tolist()) == ([SWAP], [4096])


@pytest.mark.parametrize("kind", ["model", "swap"])
def test_a_file_whose_place_is_not_known_is_named(kind: str) -> None:
    known = record_of([]).files[kind == "model"]
    lost = TracedFile.model_validate({"kind": kind, "path": "/x", "bytes": 5, "without_extents": "it is on btrfs"})
    disk = DiskMap([known, lost])
    assert disk.unknown == ("requests are not attributed to /x: it is on btrfs",)
    assert disk.knows_model == (kind == "swap")
    assert not DiskMap([]).has_files
