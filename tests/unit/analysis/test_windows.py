"""What lies between two readings of the counters, and how a watched inference is cut into windows."""

from dataclasses import replace

import pytest
from example_counters import FIRST, GROUP, LAST

from pagelab.analysis.windows import decode_of, prompt_of, reads_of, resident_bytes_of
from pagelab.observe.counters import faults_between, reads_between, refaults_between, swap_between
from pagelab.observe.inference import Watched
from pagelab.observe.sampler import Sampler
from pagelab.store.record import Reads


def test_reads_are_told_apart_by_source():
    assert reads_between(FIRST, LAST, swap_on_model_disk=True) == Reads(
        model_bytes=500, swap_bytes=200, other_bytes=200, process_bytes=700, device_bytes=900
    )


def test_swap_on_another_disk_is_no_part_of_what_the_models_disk_delivered():
    found = reads_between(FIRST, LAST, swap_on_model_disk=False)
    assert (found.model_bytes, found.swap_bytes, found.other_bytes) == (500, 200, 400)


def test_a_counter_that_could_not_be_read_leaves_its_values_absent():
    blind = replace(LAST, process_read_bytes=None)
    assert reads_between(FIRST, blind, swap_on_model_disk=True) == Reads(swap_bytes=200, device_bytes=900)
    assert reads_between(None, LAST, swap_on_model_disk=True) == Reads()


def test_faults_refaults_and_swapping_are_differences():
    faults, refaults = faults_between(FIRST, LAST), refaults_between(FIRST, LAST)
    assert (faults.major, faults.minor) == (4, 16)
    assert (refaults.file_pages, refaults.anon_pages) == (20, 3)
    swap = swap_between(FIRST, LAST)
    assert (swap.in_bytes, swap.out_bytes) == (200, 40)


def test_memory_that_is_no_page_cache():
    assert GROUP.not_file_bytes == 40
    assert replace(GROUP, file_bytes=None).not_file_bytes is None


def test_decode_runs_from_the_first_token_to_the_last_and_the_prompt_before_it():
    watched = Watched(at_start=FIRST, ready_seconds=2.0, token_seconds=[3.0, 4.0, 5.0, 7.0])
    decode, prompt = decode_of(watched), prompt_of(watched, 5)
    assert (decode.tokens, decode.seconds, decode.tokens_per_second) == (3, 4.0, 0.75)
    assert (prompt.tokens, prompt.seconds, prompt.tokens_per_second) == (5, 1.0, 5.0)


def test_an_inference_that_never_got_there_has_no_such_window():
    watched = Watched(at_start=FIRST, ready_seconds=2.0, token_seconds=[3.0])
    assert decode_of(watched).seconds is None
    assert prompt_of(Watched(at_start=FIRST), 5).seconds is None
    assert reads_of(watched, swap_on_model_disk=True).decode == Reads()


def test_the_load_window_begins_before_the_process_has_read_anything():
    watched = Watched(at_start=replace(FIRST, process_read_bytes=None), at_ready=LAST)
    assert reads_of(watched, swap_on_model_disk=True).load.process_bytes == 1700


def test_the_sampler_reads_until_it_is_stopped_and_windows_its_samples():
    readings = iter(range(1_000_000))
    with Sampler(
        lambda: {"model_resident_bytes": next(readings), "unread": None}, 0.0, interval_seconds=0.0
    ) as sampler:
        while sampler.highest("model_resident_bytes") in (None, 0):
            pass
    table = sampler.table()
    assert table["model_resident_bytes"].to_pylist() == list(range(table.num_rows))
    assert table["unread"].null_count == table.num_rows
    assert sampler.between(float("-inf"), table["seconds"][0].as_py(), "model_resident_bytes") == [0]
    assert sampler.highest("unread") is None


def test_residency_is_the_median_of_the_samples_taken_while_decoding():
    class Seen:
        def between(self, first, last, name):
            assert (first, last, name) == (1.0, 3.0, "model_resident_bytes")
            return [10, 30, 20]

    watched = Watched(at_start=FIRST, token_seconds=[1.0, 2.0, 3.0], sampler=Seen())
    assert resident_bytes_of(watched) == pytest.approx(20)
