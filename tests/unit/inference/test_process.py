"""Reading what the program prints, however late: each write is a token of its own."""

import os
import sys
from pathlib import Path

import pytest

from pagelab.errors import InferenceError
from pagelab.inference.process import LlamaCli, Printed, Ready

TOKENS = 40
WRITER = f"import os\nfor index in range({TOKENS}): os.write(1, b' token%d' % index)"


def test_writes_that_waited_for_the_reader_are_still_told_apart() -> None:
    cli = LlamaCli([sys.executable, "-c", WRITER], before_exec=lambda: None)
    os.waitid(os.P_PID, cli.pid, os.WEXITED | os.WNOWAIT)  # all is written, and nothing read
    texts = [event.text for event in cli.events(idle_seconds=0.1) if isinstance(event, Printed)]
    assert cli.finish() == 0
    assert texts == [b" token%d" % index for index in range(TOKENS)]


def test_a_program_that_cannot_start_leaves_nothing_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(InferenceError, match="cannot be started"):
        LlamaCli(["/nonexistent"], before_exec=lambda: None)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("prompt", "said"), [("a\0b", "holds a NUL"), ("x" * 2**18, "shorten it to less than 128 KiB")]
)
def test_a_prompt_that_no_program_can_be_given_is_named(prompt: str, said: str) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(InferenceError, match=said) as caught:
        LlamaCli([sys.executable, "-c", prompt], before_exec=lambda: None)
    assert len(str(caught.value)) < 400
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_model_that_only_sounds_ready_never_is() -> None:
    writer = "import os; os.write(2, 'name = x\\u2028generate: n_ctx = 1\\n'.encode())"
    cli = LlamaCli([sys.executable, "-c", writer], before_exec=lambda: None)
    assert not [event for event in cli.events(idle_seconds=0.1) if isinstance(event, Ready)]
    assert cli.finish() == 0
