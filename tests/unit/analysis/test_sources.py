"""Where bytes came from, by independent counters, and how far these are apart."""

import pytest
from example_counters import FIRST, GROUP, changed

from pagelab.analysis.sources import sources_between
from pagelab.host.procfs import PAGE_BYTES
from pagelab.store.record import Sources

MODEL, SWAPPED, OTHERS = 1000 * PAGE_BYTES, 100 * PAGE_BYTES, 50 * PAGE_BYTES

BEGAN = changed(
    FIRST,
    swapped_in_pages=0,
    process_read_bytes=0,
    device_read_bytes=0,
    swapped_in_bytes=0,
    host_read_bytes=0,
    group_read_bytes=0,
)
ENDED = changed(
    BEGAN,
    refault_file_pages=(GROUP.refault_file_pages or 0) + 1000,
    refault_anon_pages=(GROUP.refault_anon_pages or 0) + 100,
    swapped_in_pages=100,
    process_read_bytes=MODEL + SWAPPED,
    device_read_bytes=MODEL + SWAPPED + OTHERS,
    swapped_in_bytes=SWAPPED,
    host_read_bytes=MODEL + SWAPPED + OTHERS,
    group_read_bytes=MODEL + SWAPPED,
)


def found(ended=ENDED, on_model_disk=True, whole=True, page_added_bytes=None) -> Sources:
    return sources_between(BEGAN, ended, on_model_disk, whole, PAGE_BYTES, page_added_bytes)


def test_counters_that_agree_are_all_there_and_not_apart():
    sources = found()
    model, swap, other = sources.model, sources.swap, sources.other
    assert (model.process_bytes, model.refault_bytes, model.device_bytes) == (MODEL, MODEL, MODEL + OTHERS)
    assert (swap.host_bytes, swap.refault_bytes, swap.group_bytes) == (SWAPPED, SWAPPED, SWAPPED)
    assert (other.device_bytes, other.host_bytes, other.group_bytes) == (OTHERS, OTHERS, OTHERS)
    assert model.disagreement_fraction == pytest.approx(OTHERS / (MODEL + SWAPPED + OTHERS))
    assert swap.disagreement_fraction == other.disagreement_fraction == 0


def test_a_counter_that_strays_is_a_number():
    strayed = changed(ENDED, refault_file_pages=(GROUP.refault_file_pages or 0) + 500)
    assert found(strayed).model.disagreement_fraction == pytest.approx(
        (MODEL + OTHERS - MODEL / 2) / (MODEL + SWAPPED + OTHERS)
    )


def test_pages_that_come_for_the_first_time_are_no_refaults_and_do_not_disagree():
    first_time = changed(ENDED, refault_file_pages=GROUP.refault_file_pages)
    sources = found(first_time, whole=False)
    assert sources.model.refault_bytes == 0
    assert sources.model.disagreement_fraction == pytest.approx(OTHERS / (MODEL + SWAPPED + OTHERS))


def test_swap_on_another_disk_is_not_taken_from_the_models_disk():
    elsewhere = changed(ENDED, device_read_bytes=MODEL + OTHERS)
    sources = found(elsewhere, on_model_disk=False)
    assert sources.model.device_bytes == MODEL + OTHERS
    assert sources.other.device_bytes == OTHERS


def test_a_counter_that_the_kernel_lacks_is_absent_and_alone_nothing_disagrees():
    poor = changed(ENDED, group_read_bytes=None, host_read_bytes=None, device_read_bytes=None)
    sources = found(poor)
    assert sources.other.document() == {}
    assert sources.model.document().keys() == {"process_bytes", "refault_bytes", "disagreement_fraction"}
    assert sources.model.disagreement_fraction == 0


def test_traced_pages_are_one_more_source_of_the_models_bytes():
    near, far = found(page_added_bytes=MODEL + OTHERS).model, found(page_added_bytes=MODEL // 2).model
    assert near.page_cache_bytes == MODEL + OTHERS
    assert near.disagreement_fraction == pytest.approx(OTHERS / (MODEL + SWAPPED + OTHERS))
    assert far.disagreement_fraction == pytest.approx((MODEL / 2 + OTHERS) / (MODEL + SWAPPED + OTHERS))
