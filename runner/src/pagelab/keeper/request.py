"""What a keeper is asked to do, as its parent writes it and the keeper reads it: one line of JSON each way."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self


@dataclass(frozen=True)
class KeeperRequest:
    """The work of a keeper.

    `files` are those of the model. `used` has the chunks that every token touches, in order of the file; `order` the
    same in the order in which they are held. `most_bytes` are held at most, of which `first_bytes` before the target
    starts; `headroom_bytes` of page cache are left to what is not held. Chunks that are not held are let go `lag`
    chunks after they were touched, and read `ahead` chunks before, 0 for never. `groups` are the control groups whose
    limits count. The target is looked for in `target_group` or, without one, among the descendants of the keeper's
    parent.
    """

    files: list[str]
    used: list[int]
    order: list[int]
    most_bytes: int
    first_bytes: int
    headroom_bytes: int
    lag: int = 0
    ahead: int = 0
    groups: list[str] = field(default_factory=list)
    target_group: str | None = None

    def line(self) -> str:
        """The request as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """The request of a line that `line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class KeeperReport:
    """What a keeper did: bytes held now and at most, chunks that it saw touched, let go and read ahead.

    `refused` is what the kernel first said where it would not do something.
    """

    held_bytes: int
    most_held_bytes: int
    chunks_touched: int
    chunks_let_go: int
    chunks_read_ahead: int
    cpu_seconds: float
    refused: str | None = None
