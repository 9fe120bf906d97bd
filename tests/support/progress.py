"""A plug-in of pytest for `scripts/lanes.py`: writes what happens to a file, a line for each thing.

`collected N`; `done` after each test; `failed TEST`; `absent WHAT`; at the end `outcomes {"passed": 40, …}`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.absent import PROPERTY


class Progress:
    """Writes the lines."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._say(f"collected {len(session.items)}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say(f"failed {report.nodeid}")
        if report.when == "call":
            for name, what in report.user_properties:
                if name == PROPERTY:
                    self._say(f"absent {what}")
        if report.when == "teardown":
            self._say("done")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._say(f"failed {report.nodeid}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = {name: len(reports) for name, reports in terminalreporter.stats.items() if name}
        self._say(f"outcomes {json.dumps(counts)}")

    def _say(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--progress", type=Path, help="write what happens to this file")


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    path: Path | None = config.getoption("--progress")
    if path is None:
        return (yield)
    with path.open("a", encoding="utf-8") as file:
        config.pluginmanager.register(Progress(file))
        return (yield)
