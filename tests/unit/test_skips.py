"""A skip that hides a failure is worse than none: where CI counts, it fails the session."""

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parent.parent / "conftest.py").read_text()
TESTS = """
import pytest

def test_runs():
    pass

@pytest.mark.skipif(True, reason="no such device here")
def test_skips():
    pass
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    return pytester


def test_in_ci_a_skip_fails_the_session_and_is_named(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = session.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*skipped, which CI counts as failed*", "*::test_skips: *no such device here*"])


def test_in_ci_a_session_without_skips_passes(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert session.runpytest_subprocess("-k", "test_runs").ret == pytest.ExitCode.OK


def test_in_ci_what_there_is_no_time_for_is_a_skip(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    session.makepyfile(test_late="from time_left import skip_when_late\n\ndef test_late():\n    skip_when_late(0)")
    result = session.runpytest_subprocess("-k", "test_runs or test_late")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=1)


def test_elsewhere_a_skip_is_a_skip(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert session.runpytest_subprocess().ret == pytest.ExitCode.OK


def test_a_module_that_skips_itself_counts_too(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    session.makepyfile(test_module="import pytest\npytest.skip('nothing here', allow_module_level=True)\n")
    result = session.runpytest_subprocess("-k", "test_runs")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_module.py: *nothing here*"])
