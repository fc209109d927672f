"""Where the bytes of a window came from, by counters that know nothing of each other, and how far they are apart."""

from pagelab.host.procfs import PAGE_BYTES
from pagelab.observe.counters import Snapshot, gained
from pagelab.record import ModelSources, OtherSources, Sources, SwapSources


def sources_between(before: Snapshot, after: Snapshot, swap_on_model_disk: bool, whole_model_was_read: bool) -> Sources:
    """Reconcile the counters of a window. What could not be read is absent and no part of a disagreement.

    Args:
        before: all counters at the beginning of the window.
        after: the same at its end.
        swap_on_model_disk: whether the model's disk also delivers what is swapped in.
        whole_model_was_read: whether every page of the model had been in the page cache before the window. A page that
            comes for the first time is no refault, and then refaults say nothing against the other counters.
    """
    process = gained(before.process_read_bytes, after.process_read_bytes)
    device = gained(before.device_read_bytes, after.device_read_bytes)
    host = gained(before.host_read_bytes, after.host_read_bytes)
    group = gained(before.group_read_bytes, after.group_read_bytes)
    swap = gained(before.swapped_in_bytes, after.swapped_in_bytes)
    swap_of_device = swap if swap_on_model_disk else 0
    model = ModelSources(
        process_bytes=_less(process, swap),
        refault_bytes=_pages(before.group.refault_file_pages, after.group.refault_file_pages),
        device_bytes=_less(device, swap_of_device),
    )
    swapped = SwapSources(
        host_bytes=swap,
        refault_bytes=_pages(before.group.refault_anon_pages, after.group.refault_anon_pages),
        group_bytes=_pages(before.group.swapped_in_pages, after.group.swapped_in_pages),
    )
    of_process = process if swap_on_model_disk else _less(process, swap)
    other = OtherSources(
        device_bytes=_less(device, of_process), host_bytes=_less(host, process), group_bytes=_less(device, group)
    )
    refaults = () if whole_model_was_read else ("refault_bytes",)
    model.disagreement_fraction = _disagreement(model, host, without=refaults)
    swapped.disagreement_fraction = _disagreement(swapped, host)
    other.disagreement_fraction = _disagreement(other, host)
    return Sources(model=model, swap=swapped, other=other)


def _pages(before: int | None, after: int | None) -> int | None:
    count = gained(before, after)
    return None if count is None else count * PAGE_BYTES


def _less(whole: int | None, part: int | None) -> int | None:
    """What is left of a count without a part of it; reads in flight at a boundary may make the part the larger."""
    return None if whole is None or part is None else max(0, whole - part)


def _disagreement(
    found: ModelSources | SwapSources | OtherSources, all_bytes: int | None, without: tuple[str, ...] = ()
) -> float | None:
    names = [name for name in type(found).model_fields if name.endswith("_bytes") and name not in without]
    values = [value for name in names if (value := getattr(found, name)) is not None]
    if len(values) < 2:
        return None
    scale = max(*values, all_bytes or 0)
    return (max(values) - min(values)) / scale if scale else 0.0
