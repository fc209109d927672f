"""What each command loads: libraries that take long come in where they are used, and not while trials are measured."""

import subprocess
import sys

import pytest

SLOW = {"matplotlib", "numpy", "pyarrow", "scipy", "scipy.special", "scipy.stats"}


def loaded(*modules: str) -> set[str]:
    """Which of the slow libraries a new interpreter has after importing some modules."""
    code = f"import sys, {', '.join(modules)}; print(*({SLOW} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["pagelab.commands.cli"], set()),
        (["pagelab.run.experiment", "pagelab.terminal.progress"], {"numpy", "pyarrow"}),
        (["pagelab.report.page", "pagelab.terminal.summary"], SLOW - {"scipy.stats"}),
        (["pagelab.analysis.compare", "pagelab.terminal.comparison"], SLOW - {"matplotlib"}),
    ],
    ids=["help", "trials", "report", "compare"],
)
def test_what_is_loaded(modules: list[str], expected: set[str]) -> None:
    assert loaded(*modules) == expected
