"""In CI a skipped test is a failed run: what was not tested must not look tested."""

import os

import hypothesis
import pytest

# The time of an example depends on the machine and its other work, so it proves nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped, but not tests that were expected to fail."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run with skips into a failure where `CI` is set."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so where one looks last."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.write_line(f"{len(_skipped)} skipped tests fail a run in CI", red=True)
