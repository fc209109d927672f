"""Where the bytes of a window came from, by counters that know nothing of each other, and how far they are apart."""

from pagelab.analysis.counters import gained, less, reads_between, refaults_between
from pagelab.store.observation import Snapshot
from pagelab.store.record import ModelSources, OtherSources, Sources, SwapSources


def sources_between(
    before: Snapshot,
    after: Snapshot,
    swap_on_model_disk: bool,
    whole_model_was_read: bool,
    page_bytes: int,
    page_added_bytes: int | None = None,
) -> Sources:
    """Reconcile the counters of a window. What could not be read is absent and no part of a disagreement.

    Args:
        before: all counters at the beginning of the window.
        after: the same at its end.
        swap_on_model_disk: whether the model's disk also delivers what is swapped in.
        whole_model_was_read: whether every page of the model had been in the page cache before the window. A page that
            comes for the first time is no refault, and then refaults say nothing against the other counters.
        page_bytes: the size of a page on the host that measured.
        page_added_bytes: pages of the model that entered the page cache in the window, where they were traced.
    """
    reads, refaults = reads_between(before, after, swap_on_model_disk), refaults_between(before, after)

    def bytes_of(pages: int | None) -> int | None:
        return None if pages is None else pages * page_bytes

    host = gained(before.host_read_bytes, after.host_read_bytes)
    group = gained(before.group_read_bytes, after.group_read_bytes)
    model = ModelSources(
        process_bytes=reads.model_bytes,
        refault_bytes=bytes_of(refaults.file_pages),
        device_bytes=less(reads.device_bytes, reads.swap_bytes if swap_on_model_disk else 0),
        page_cache_bytes=page_added_bytes,
    )
    swapped = SwapSources(
        host_bytes=reads.swap_bytes,
        refault_bytes=bytes_of(refaults.anon_pages),
        group_bytes=bytes_of(gained(before.group.swapped_in_pages, after.group.swapped_in_pages)),
    )
    other = OtherSources(
        device_bytes=reads.other_bytes,
        host_bytes=less(host, reads.process_bytes),
        group_bytes=less(reads.device_bytes, group),
    )
    unfit = () if whole_model_was_read else ("refault_bytes",)
    model.disagreement_fraction = _disagreement(model, host, without=unfit)
    swapped.disagreement_fraction = _disagreement(swapped, host)
    other.disagreement_fraction = _disagreement(other, host)
    return Sources(model=model, swap=swapped, other=other)


def _disagreement(
    found: ModelSources | SwapSources | OtherSources, all_bytes: int | None, without: tuple[str, ...] = ()
) -> float | None:
    names = [name for name in type(found).model_fields if name.endswith("_bytes") and name not in without]
    values = [value for name in names if (value := getattr(found, name)) is not None]
    if len(values) < 2:
        return None
    scale = max(*values, all_bytes or 0)
    return (max(values) - min(values)) / scale if scale else 0.0
