"""The tests themselves: they share by `tests/support` only; folder and mark say what runs beside a test."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from scripts.suite import LANES, paths
from tests.support.worlds.modules import again

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
IMPATIENT = {
    "httpx.AsyncClient": "timeout",
    "httpx.Client": "timeout",
    "httpx.get": "timeout",
    "httpx.post": "timeout",
    "connect": "open_timeout",
}
"""What gives up after five or ten seconds, which a busy machine may take, if it is not told how long."""


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


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def breaking(rule: Callable[[Path], object]) -> list[str]:
    """The files for which the rule has an answer that is neither empty nor false."""
    return [name(path) for path in TESTS if rule(path)]


def marked(path: Path) -> bool:
    return "pytest.mark.e2e" in text(path)


def folder(path: Path) -> str:
    return path.relative_to(ROOT / "tests").parts[0]


def test_a_test_takes_what_it_shares_from_support() -> None:
    def foreign(path: Path) -> set[str]:
        ours = {module for module in imports(path) if module.split(".")[0] == "tests"}
        return {module for module in ours if not module.startswith("tests.support.")}

    assert breaking(foreign) == []


def test_a_test_that_starts_a_program_has_the_mark_e2e() -> None:
    assert breaking(lambda path: imports(path) & {*PROGRAMS} and not marked(path)) == []


def test_a_test_with_the_mark_e2e_has_something_beside_this_process() -> None:
    beside = {*PROGRAMS, "subprocess"}
    found = breaking(lambda path: marked(path) and not imports(path) & beside)
    assert found == [name(Path(__file__))], "everything happens in this process: it is no e2e"


def test_every_test_in_a_folder_of_programs_has_the_mark_e2e() -> None:
    mark = re.compile(r"^pytestmark = .*pytest\.mark\.e2e", re.MULTILINE)
    assert breaking(lambda path: folder(path) in WITH_PROGRAMS and not mark.search(text(path))) == []


def test_no_test_in_a_folder_of_this_process_has_the_mark_e2e() -> None:
    assert breaking(lambda path: folder(path) in IN_PROCESS and marked(path)) == []


def impatient(path: Path) -> list[str]:
    """The calls of a file that do not say how long they wait."""
    if not {"httpx", "websockets.asyncio.client"} & imports(path):
        return []
    calls = [node for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.Call)]
    named = [(call, IMPATIENT.get(ast.unparse(call.func))) for call in calls]
    return [
        f"{name(path)}:{call.lineno}"
        for call, how_long in named
        if how_long and how_long not in {given.arg for given in call.keywords}
    ]


def test_a_client_of_a_test_does_not_give_up_before_the_test_does() -> None:
    outside = [path for path in (ROOT / "tests").rglob("*.py") if "simulator" not in path.parts]
    assert [call for path in outside for call in impatient(path)] == []


def test_every_file_of_tests_is_in_one_lane_of_the_suite() -> None:
    places = [ROOT / path for lane in LANES.values() for path in paths(lane)]
    for test in TESTS:
        assert len({test, *test.parents} & set(places)) == 1, name(test)


def test_tests_that_are_collected_again_have_the_marks_of_their_module() -> None:
    found = again(["test_server_rest"]).values()
    assert found
    for test in found:
        assert "loop" in {mark.name for mark in getattr(test, "pytestmark", ())}, test.__name__
