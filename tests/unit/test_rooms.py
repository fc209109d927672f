"""The house: what lies where, and that a name means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "runner" / "src" / "pagelab"


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert found
    return found


def public_types(module: Path) -> set[str]:
    """Classes and aliases of types; constants are written in capitals."""
    names = set()
    for node in ast.parse(module.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
    return {name for name in names if name[0].isupper() and not name.isupper() and "_" not in name}


def test_no_two_public_types_have_one_name() -> None:
    places = defaultdict(list)
    for module in modules():
        for name in public_types(module):
            places[name].append(str(module.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_only_what_every_room_needs_is_at_the_top() -> None:
    found = {path.name for path in PACKAGE.glob("*.py")}
    assert found == {"__init__.py", "__main__.py", "documents.py", "errors.py", "units.py"}


def test_modules_are_imported_at_the_top_but_for_commands() -> None:
    lazy = []
    for module in modules():
        tree = ast.parse(module.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        if any(isinstance(node, ast.Import | ast.ImportFrom) for one in functions for node in ast.walk(one)):
            lazy.append(str(module.relative_to(PACKAGE)))
    assert [name for name in lazy if not name.startswith("commands/")] == []
