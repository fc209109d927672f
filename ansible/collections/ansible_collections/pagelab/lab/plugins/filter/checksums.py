"""checksum_table and differing: what all hosts run, from the checksums of each by subject.

{{ {'lab1': {'image': '77aa…'}, 'lab2': {'image': '77aa…'}} | pagelab.lab.checksum_table }}
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Checksums = Mapping[str, Mapping[str, str]]  # by host, by subject

SHOWN_DIGITS = 12


def subjects_of(checksums: Checksums) -> list[str]:
    """All subjects, in the order in which the hosts name them."""
    return list(dict.fromkeys(subject for own in checksums.values() for subject in own))


def checksum_table(checksums: Checksums) -> list[str]:
    """A row a host, with the first digits of every checksum."""
    subjects = subjects_of(checksums)
    rows = [["host", *subjects]]
    for host, own in checksums.items():
        rows.append([host, *(own.get(subject, "missing")[:SHOWN_DIGITS] for subject in subjects)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def differing(checksums: Checksums, besides: Iterable[str] = ()) -> list[str]:
    """The subjects that are not the same on all hosts, `besides` those that need not be."""
    compared = [subject for subject in subjects_of(checksums) if subject not in set(besides)]
    return [subject for subject in compared if len({own.get(subject) for own in checksums.values()}) > 1]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Both filters."""
        return {"checksum_table": checksum_table, "differing": differing}
