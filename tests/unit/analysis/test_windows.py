"""What lies between two readings of the counters, and how a watched inference is cut into windows."""

from dataclasses import replace

import pytest
from example_counters import FIRST, GROUP, LAST, changed
from example_raw import inference, raw_inference

from pagelab.analysis.counters import faults_between, reads_between, refaults_between, swap_between
from pagelab.analysis.raw_trial import RawInference, Samples
from pagelab.analysis.windows import decode_of, disturbance_of, prompt_of, reads_of, resident_bytes_of
from pagelab.host.cpu_interference import CpuInterference
from pagelab.host.other_processes import OtherProcess
from pagelab.store.observation import ObservedOthers
from pagelab.store.record import Reads


def test_reads_are_told_apart_by_source():
    assert reads_between(FIRST, LAST, swap_on_model_disk=True) == Reads(
        model_bytes=500, swap_bytes=200, other_bytes=200, process_bytes=700, device_bytes=900
    )


def test_swap_on_another_disk_is_no_part_of_what_the_models_disk_delivered():
    found = reads_between(FIRST, LAST, swap_on_model_disk=False)
    assert (found.model_bytes, found.swap_bytes, found.other_bytes) == (500, 200, 400)


def test_a_counter_that_could_not_be_read_leaves_its_values_absent():
    blind = changed(LAST, process_read_bytes=None)
    assert reads_between(FIRST, blind, swap_on_model_disk=True) == Reads(swap_bytes=200, device_bytes=900)
    assert reads_between(None, LAST, swap_on_model_disk=True) == Reads()


def test_faults_refaults_and_swapping_are_differences():
    faults, refaults = faults_between(FIRST, LAST), refaults_between(FIRST, LAST)
    assert (faults.major, faults.minor) == (4, 16)
    assert (refaults.file_pages, refaults.anon_pages) == (20, 3)
    swap = swap_between(FIRST, LAST)
    assert (swap.in_bytes, swap.out_bytes) == (200, 40)


def test_memory_that_is_no_page_cache():
    assert GROUP.non_file_bytes == 40
    assert replace(GROUP, file_bytes=None).non_file_bytes is None


def raw(token_seconds: list[float], samples: Samples | None = None, **seen: object) -> RawInference:
    boundaries: dict[str, object] = {"at_ready": None, "at_first_token": None, "at_last_token": None}
    return raw_inference(inference(**(boundaries | {"ready_seconds": None} | seen)), token_seconds, samples)


def test_decode_runs_from_the_first_token_to_the_last_and_the_prompt_before_it():
    seen = raw([3.0, 4.0, 5.0, 7.0], ready_seconds=2.0)
    decode, prompt = decode_of(seen), prompt_of(seen, 5)
    assert (decode.tokens, decode.seconds, decode.tokens_per_second) == (3, 4.0, 0.75)
    assert (prompt.tokens, prompt.seconds, prompt.tokens_per_second) == (5, 1.0, 5.0)


def test_an_inference_that_never_got_there_has_no_such_window():
    seen = raw([3.0], ready_seconds=2.0)
    assert decode_of(seen).seconds is None
    assert prompt_of(raw([]), 5).seconds is None
    assert reads_of(seen, swap_on_model_disk=True).decode == Reads()


def test_the_load_window_begins_before_the_process_has_read_anything():
    seen = raw([], at_start=changed(FIRST, process_read_bytes=None), at_ready=LAST)
    assert reads_of(seen, swap_on_model_disk=True).load.process_bytes == 1700


def test_residency_is_the_median_of_the_samples_taken_while_decoding():
    samples = Samples([0.5, 1.0, 2.0, 3.0, 3.5], {"model_resident_bytes": [1, 10, 30, 20, 1]})
    seen = raw([1.0, 2.0, 3.0], samples, resident_at_last_bytes=None)
    assert resident_bytes_of(seen) == pytest.approx(20)


def test_samples_leave_out_what_was_not_read():
    samples = Samples([1.0, 2.0, 3.0], {"a": [5, None, 7]})
    assert samples.between(0.0, 9.0, "a") == [5, 7]
    assert samples.between(0.0, 9.0, "b") == []


def test_competition_is_a_share_of_all_processors_and_of_the_time_that_threads_could_run():
    began = CpuInterference(monotonic_seconds=5.0, run_seconds=1.0, run_delay_seconds=0.5, memory_stall_seconds=2.0)
    ended = replace(
        began, monotonic_seconds=15.0, processors=2, run_seconds=10.0, run_delay_seconds=1.5, memory_stall_seconds=3.0
    )
    others = ObservedOthers(
        cpu_seconds=5.0,
        busiest=[OtherProcess(7, "cc1", 4.5), OtherProcess(9, "dockerd", 0.4), OtherProcess(1, "init", 0.01)],
    )
    seen = disturbance_of(
        raw_inference(inference(interference_at_ready=began, interference_at_last_token=ended, others=others))
    )
    assert (seen.other_cpu_fraction, seen.run_delay_fraction) == (0.25, 0.1)
    assert seen.other_processes == "cc1 (45%), dockerd (4%)"
    assert (seen.memory_stall_fraction, seen.cpu_stall_fraction) == (0.1, None)


def test_what_no_counter_says_of_competition_is_absent():
    seen = disturbance_of(raw_inference(inference()))
    assert (seen.other_cpu_fraction, seen.other_processes, seen.run_delay_fraction) == (None, None, None)
