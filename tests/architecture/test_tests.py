"""The tests themselves: they share by `tests/support` only; folder and mark say what runs beside a test."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from scripts.suite import LANES, paths

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PROGRAMS = (
    "tests.support.drivers.browser",
    "tests.support.drivers.command_line",
    "tests.support.drivers.console",
    "tests.support.drivers.stage",
    "tests.support.servers.dovecot",
    "tests.support.servers.pymap",
    "tests.support.servers.inside",
    "tests.support.servers.nodes",
    "tests.support.servers.serving",
    "tests.support.worlds.recorded",
)
"""Who imports one of these has a program running beside it: the service, a mail server, a browser."""
WITH_PROGRAMS = {"browser", "e2e"}
IN_PROCESS = {"contract", "integration", "property", "simulation", "unit"}


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_a_test_takes_what_it_shares_from_support(path: Path) -> None:
    ours = {module for module in imports(path) if module.split(".")[0] == "tests"}
    assert not {module for module in ours if not module.startswith("tests.support.")}


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_where_a_program_runs_beside_a_test_the_mark_e2e_says_so(path: Path) -> None:
    marked = "pytest.mark.e2e" in path.read_text(encoding="utf-8")
    beside = imports(path) & {*PROGRAMS, "subprocess"}
    if imports(path) & set(PROGRAMS):
        assert marked, "it starts a program: mark it e2e"
    if marked and path != Path(__file__):
        assert beside, "everything happens in this process: it is no e2e"


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_folders_of_programs_and_of_this_process_do_not_mix(path: Path) -> None:
    text, folder = path.read_text(encoding="utf-8"), path.relative_to(ROOT / "tests").parts[0]
    if folder in WITH_PROGRAMS:
        assert re.search(r"^pytestmark = .*pytest\.mark\.e2e", text, re.MULTILINE), "every test of it is e2e"
    if folder in IN_PROCESS:
        assert "pytest.mark.e2e" not in text, "it belongs into tests/e2e"


def test_every_file_of_tests_is_in_one_lane_of_the_suite() -> None:
    places = [ROOT / path for lane in LANES.values() for path in paths(lane)]
    for test in TESTS:
        assert len({test, *test.parents} & set(places)) == 1, name(test)
