import json
import subprocess
import sys

import pytest

from pagelab.errors import HostError
from pagelab.host.journal import Journal, selected


def test_settings_go_back_newest_first_to_what_was_there_first(tmp_path):
    knob = tmp_path / "knob"
    knob.write_text("1")
    journal = Journal(tmp_path)
    for value in ("2", "3"):
        journal.note_setting(knob, knob.read_text())
        knob.write_text(value)
    undone = journal.undo()
    assert knob.read_text() == "1"
    assert len(undone) == 2
    assert journal.entries() == []
    assert journal.undo() == []


def test_a_setting_that_is_as_it_was_needs_no_word(tmp_path):
    knob = tmp_path / "knob"
    knob.write_text("always [madvise] never")
    journal = Journal(tmp_path)
    journal.note_setting(knob, "madvise")
    assert journal.undo() == []


def test_a_line_cut_short_by_a_crash_does_not_hide_the_ones_before(tmp_path):
    knob = tmp_path / "knob"
    knob.write_text("new")
    Journal(tmp_path).note_setting(knob, "old")
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"setting": str(knob), "value": "x"})[:12])
    Journal(tmp_path).undo()
    assert knob.read_text() == "old"


def test_what_cannot_be_put_back_stays_in_the_journal(tmp_path):
    directory = tmp_path / "directory"
    directory.mkdir()
    journal = Journal(tmp_path)
    knob = tmp_path / "knob"
    knob.write_text("new")
    journal.note_setting(knob, "old")
    entry = {"setting": "/proc/self/status", "value": "never writable"}
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.raises(HostError, match="cannot put /proc/self/status back"):
        journal.undo()
    assert entry in journal.entries()


def test_the_journal_is_on_disk_before_the_setting_is_touched(tmp_path):
    """A process that notes a change and is killed at once leaves a journal that another process can undo."""
    knob = tmp_path / "knob"
    knob.write_text("old")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom pagelab.host.journal import Journal\n"
        "knob = Path(sys.argv[2])\nJournal(Path(sys.argv[1])).note_setting(knob, 'old')\n"
        "knob.write_text('new')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(knob)], check=False)
    assert ended.returncode == -9
    assert knob.read_text() == "new"
    assert Journal(tmp_path).undo() == [f"set {knob} back from new to old"]
    assert knob.read_text() == "old"


@pytest.mark.parametrize(("text", "word"), [("always [madvise] never", "madvise"), ("60", "60"), (None, None)])
def test_the_chosen_word_of_a_setting(text, word):
    assert selected(text) == word
