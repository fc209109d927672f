"""The look at a host before and after the lab, which must not fail because something ends meanwhile."""

import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from vanishing import vanishing

SCRIPT = Path(__file__).parents[2] / "ansible" / "roles" / "lab_directory" / "files" / "host-state"


@pytest.fixture(scope="module")
def host_state() -> ModuleType:
    spec = spec_from_loader("host_state", SourceFileLoader("host_state", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def test_a_control_group_that_vanishes_is_passed_over(tmp_path: Path, host_state: ModuleType) -> None:
    for name in ("docker/abc", "pagelab/trial-001"):
        (tmp_path / name).mkdir(parents=True)
    with vanishing(tmp_path / "docker" / "abc"):
        found = host_state.below(tmp_path)
    assert not (tmp_path / "docker" / "abc").exists()
    assert tmp_path / "pagelab" / "trial-001" in found
    with vanishing(tmp_path / "pagelab" / "trial-001"):
        assert host_state.listed(tmp_path / "pagelab" / "trial-001") == []


def test_what_is_not_there_has_nothing_in_it(tmp_path: Path, host_state: ModuleType) -> None:
    assert host_state.below(tmp_path / "missing") == host_state.listed(tmp_path / "missing") == []
    assert host_state.text(tmp_path / "missing") == ""
    assert host_state.entries("/etc/missing") == host_state.entries(str(tmp_path / "missing")) == []


def test_words_of_proc_end_at_spaces_and_tabs_alone(tmp_path: Path, host_state: ModuleType) -> None:
    (tmp_path / "swaps").write_bytes("Filename\tType\n/no\u00a0break\u2028\r  file\t\t1\t0\t-2\n".encode())
    assert [words[0] for words in host_state.table(str(tmp_path / "swaps"))[1:]] == ["/no\u00a0break\u2028\r"]


def test_it_is_run_as_provisioning_runs_it(tmp_path: Path) -> None:
    with SCRIPT.open() as script:
        answer = subprocess.run([sys.executable, "-I", "-", tmp_path], stdin=script, capture_output=True, check=True)
    found = json.loads(answer.stdout)
    assert {str(tmp_path), "/"} <= set(found["files"])
    assert all(lines == sorted(set(lines)) for lines in found.values())
