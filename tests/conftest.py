"""Where CI is `true`, a skipped test fails the session: a skip that hides a failure is worse than none.

What CI has no time for is skipped too, and is no failure: one that takes too long has no result.
"""

import os
from contextlib import suppress

import pytest

from time_left import NO_TIME, NOT_COMPILED

with suppress(ImportError):  # it is not on the virtual machines
    from hypothesis import settings

    settings.register_profile("lab", deadline=None)  # how long an example takes says nothing of its result
    settings.load_profile("lab")

pytest_plugins = ["pytester"]


def _skips_that_count(reporter: pytest.TerminalReporter | None) -> list[pytest.TestReport]:
    if reporter is None or os.environ.get("CI") != "true":
        return []
    return [report for report in reporter.stats.get("skipped", []) if not _was_to_be_expected(report)]


def _was_to_be_expected(report: pytest.TestReport) -> bool:
    return any(words in _reason(report) for words in (NO_TIME, NOT_COMPILED))


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


def _reporter(config: pytest.Config) -> pytest.TerminalReporter | None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter if isinstance(reporter, pytest.TerminalReporter) else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skips_that_count(_reporter(session.config)) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = _skips_that_count(terminalreporter)
    if not skipped:
        return
    terminalreporter.section("skipped, which CI counts as failed", red=True)
    for report in skipped:
        terminalreporter.line(f"{report.nodeid}: {_reason(report)}")
