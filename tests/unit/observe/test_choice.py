"""Which recorders are chosen for models that are on no disk."""

from pathlib import Path

import pytest

from pagelab.config.schema import TraceSettings
from pagelab.errors import HostError
from pagelab.observe.tracer import choose

ON_NO_DISK = "is on no disk of this host"


def test_without_a_disk_no_blocks_are_recorded_and_the_choice_says_why() -> None:
    choice = choose(TraceSettings(block="auto"), Path("/proc/self/status"))
    assert choice.block is None
    assert any(ON_NO_DISK in note for note in choice.notes)


@pytest.mark.parametrize("block", ["tracefs", "blktrace"])
def test_a_recorder_that_was_asked_for_by_name_is_refused(block: str) -> None:
    with pytest.raises(HostError, match=ON_NO_DISK):
        choose(TraceSettings.model_validate({"block": block}), Path("/proc/self/status"))
