"""Pressure by a control group: the memory limit that leaves a share of the weights in RAM."""

from pagelab.host.procfs import PAGE_BYTES


def share_bytes(weights_bytes: int, resident: float, floor_bytes: int) -> int:
    """The page cache that is left to the weights: max(resident * weights, floor).

    The floor keeps enough of it for the kernel to make progress.
    """
    return max(round(resident * weights_bytes), floor_bytes)


def group_limit_bytes(non_file_bytes: int, share: int) -> int:
    """The group's limit: non_file_bytes + share, in whole pages.

    `non_file_bytes` is what the calibration measured for this model and these settings: all that the group is charged
    for while decoding and that is no page cache.
    """
    return (non_file_bytes + share) // PAGE_BYTES * PAGE_BYTES
