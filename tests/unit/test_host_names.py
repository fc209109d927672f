"""A host that an experiment can run on can be collected, or is refused before anything is done there."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail

from collection import collecting, experiment_runs, names

CHECKOUT = Path(__file__).parents[2]
GOOD = ["lab1", "büro-pc", "lab (rack 2)", "10.0.0.1", "fe80::1", "a--b", "a,b", "模型", "it's", "$HOME", "[x]"]
BAD = ["", ".", "..", ".hidden", "-x", "a/b", "/", " a", "a ", "a\nb", "a\0b", "a\u202eb", "x" * 256, "ü" * 128]


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_run_can_be_collected(tmp_path: Path, name: str) -> None:
    """Packed on the host, put in place here, and removed there."""
    names.check_host_name(name, [*GOOD, name])
    run = names.check_run_name(f"an experiment/{name}/2026-11-29T10-00-00")
    there, here, outgoing = (tmp_path / place for place in ("there", "here", "outgoing"))
    (there / run).mkdir(parents=True)
    (there / run / "run.json").write_text('{"status": "complete"}')
    (found,) = experiment_runs.listed(there)
    assert found["run"] == run
    packed = experiment_runs.packed(there, outgoing, run)
    manifest = collecting.read_manifest(packed["manifest"])
    collecting.put_in_place(Path(packed["archive"]), manifest, here, run)
    assert collecting.compare(here / run, manifest, complete_there=True) == "same"
    assert experiment_runs.released(there, outgoing, run, packed["manifest_sha256"])["removed"]
    assert not list(outgoing.iterdir())
    assert [path.name for path in here.iterdir()] == ["an experiment"]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_collected_is_refused_before(name: str) -> None:
    with pytest.raises(AnsibleActionFail, match="in the inventory") as caught:
        names.check_host_name(name, [name])
    assert len(str(caught.value)) < 400
    with pytest.raises(AnsibleActionFail):
        names.check_run_name(f"experiment/{name}/run")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lab1", "Lab1"),
        ("büro", unicodedata.normalize("NFD", "büro")),
        ("straße", "STRASSE"),
        ("büro", unicodedata.normalize("NFD", "BÜRO")),
    ],
)
def test_two_hosts_that_are_one_directory_on_some_disks_are_refused(one: str, other: str) -> None:
    for name in (one, other):
        with pytest.raises(AnsibleActionFail, match="one directory"):
            names.check_host_name(name, [one, "lab2", other])
    names.check_host_name("lab2", [one, "lab2", other])


def test_two_runs_on_their_way_never_share_a_place(tmp_path: Path) -> None:
    runs = ["a--b/c/d", "a/b--c/d", "a/b/c--d", "a--b/c--d/d"]
    assert len({experiment_runs.archive_of(tmp_path, run) for run in runs}) == len(runs)


def test_ansible_refuses_the_host_at_the_first_look(tmp_path: Path) -> None:
    config, playbook = tmp_path / "c.yml", tmp_path / "look.yml"
    config.write_text("experiment: x\n")
    playbook.write_text(
        json.dumps(
            [
                {
                    "hosts": "all",
                    "connection": "local",
                    "gather_facts": False,
                    "tasks": [{"ansible.builtin.include_role": {"name": "experiment", "tasks_from": "look"}}],
                }
            ]
        )
    )
    hosts = ["büro-pc", "lab (rack 2)", "Lab1", "lab1", ".hidden"]
    (tmp_path / "hosts.yml").write_text(json.dumps({"lab": {"hosts": dict.fromkeys(hosts)}}, ensure_ascii=False))
    given = {
        "pagelab_dir": str(tmp_path / "lab"),
        "pagelab_results": str(tmp_path / "results"),
        "experiment_config": str(config),
        "ansible_python_interpreter": sys.executable,
    }
    answer = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(tmp_path / "hosts.yml"), "-e", json.dumps(given), str(playbook)),
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(CHECKOUT / "ansible" / "roles"),
            "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_NOCOLOR": "1",
        },
    )
    recap = answer.stdout.rpartition("PLAY RECAP")[2]
    failed = {name: int(count) for name, count in re.findall(r"^(\S.*?)\s+: ok=.* failed=(\d)", recap, re.MULTILINE)}
    assert failed == {"büro-pc": 0, "lab (rack 2)": 0, "Lab1": 1, "lab1": 1, ".hidden": 1}, answer.stdout
    assert not (tmp_path / "lab").exists()
