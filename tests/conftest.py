"""Async tests run on a loop of their own. In CI a skipped test is a failed run."""

import gc
import os
import signal
from typing import Any

import hypothesis
import pytest
import structlog

from huahuo.testing.world import VirtualLoop
from tests.support.absent import PROPERTY

# The time of an example depends on the machine and its other work, so it proves nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SLOW_S = 2.0
_slow: dict[str, float] = {}
"""Tests without the mark `slow` that took longer than `SLOW_S`, and how long."""
_skipped: dict[str, list[str]] = {}
"""The tests that were skipped, by reason."""
_absent: dict[str, list[str]] = {}
"""The tests that passed without a part, by what that part needs."""


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The loop of an async test: asyncio's, if neither mark `virtual_time` nor mark `loop` says otherwise."""
    if request.node.get_closest_marker("virtual_time"):
        return "asyncio", {"loop_factory": VirtualLoop}
    chosen = request.node.get_closest_marker("loop")
    return "asyncio", {"loop_factory": chosen.kwargs["factory"]} if chosen else {}


def pytest_configure() -> None:
    """Under `nohup` the processes that tests start would ignore hangups, too: a handler is not inherited."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown() -> None:
    """A command that ran in this process has set up the log for itself, not for the next test."""
    structlog.reset_defaults()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped (not what was expected to fail), absent, and slow without the mark."""
    if report.when == "call":
        for name, what in report.user_properties:
            if name == PROPERTY:
                _absent.setdefault(str(what), []).append(report.nodeid)
    if report.when == "call" and report.duration >= SLOW_S and "slow" not in report.keywords:
        _slow[report.nodeid] = report.duration
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember the files that were skipped as a whole."""
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run with skips into a failure where `CI` is set."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, and how to get what it needs, where one looks last."""
    if _slow:
        terminalreporter.section(f"{SLOW_S:.0f} s or more, without the mark `slow`")
        for test, duration_s in sorted(_slow.items()):
            terminalreporter.write_line(f"{duration_s:5.1f} {test}")
    if _absent:
        terminalreporter.section("ABSENT HERE: parts of tests that did not run", yellow=True, bold=True)
        for what, tests in sorted(_absent.items()):
            terminalreporter.write_line(f"{len(tests):5} {what}", yellow=True)
    if not _skipped:
        return
    count = sum(map(len, _skipped.values()))
    verdict = "which fails a run in CI" if os.environ.get("CI") else "all the others ran"
    terminalreporter.section(f"NOT TESTED: {count} of the tests, {verdict}", red=True, bold=True)
    for reason, tests in sorted(_skipped.items()):
        terminalreporter.write_line(f"{len(tests):5} {reason}", red=True)
