"""What holds for all roles: each keeps what is its own to itself. And what the launcher says as the runner does."""

import re
from pathlib import Path

import pytest

from pagelab.errors import PagelabError

CHECKOUT = Path(__file__).parents[2]
ANSIBLE = CHECKOUT / "ansible"
ROLES = [path for path in sorted((ANSIBLE / "roles").iterdir()) if path.is_dir()]
PLAYBOOKS = [*ANSIBLE.glob("*.yml"), *(ANSIBLE / "vars").glob("*.yml"), *CHECKOUT.glob("tests/**/playbooks/*.yml")]
INTERNAL = re.compile(r"\b__[a-z]\w*")


def internal_names(path: Path) -> set[str]:
    return set(INTERNAL.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_role_uses_no_variable_of_another_ones_own(role: Path) -> None:
    texts = [path for kind in ("*.yml", "*.j2") for path in role.rglob(kind)]
    foreign = {name for path in texts for name in internal_names(path) if not name.startswith(f"__{role.name}_")}
    assert foreign == set()


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.name)
def test_a_playbook_uses_no_variable_of_a_roles_own(playbook: Path) -> None:
    assert internal_names(playbook) == set()


def test_the_launcher_ends_with_the_runners_exit_code() -> None:
    script = (ANSIBLE / "roles" / "launcher" / "files" / "pagelab").read_text(encoding="utf-8")
    assert re.findall(r"^exit_bad_input=(\d+)", script, re.MULTILINE) == [str(PagelabError.exit_code)]
    assert re.findall(r"\bexit (\S+)", script) == ['"$exit_bad_input"']
