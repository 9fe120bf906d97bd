"""Rules about the code that no linter knows: who may ask for time, chance and threads; sizes; words."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from scripts.weight import weight_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("eventstore", "replay", "actors", "transport", "mailcheck", "huahuo")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CODE_LINES_MAX = 600
LONG_LINES, LONG_FILES_MAX = 500, 15

AMBIENT = {"eventstore/ambient.py"}
THREADS = {
    "eventstore/executor.py",  # the port itself
    "huahuo/app/process.py",  # looks at a loop that may be blocked
    "huahuo/app/wiring.py",  # the library that exports blocks when it ends
    "huahuo/embedding/service_thread.py",  # the embedding API's own thread
}
CHANCE_AND_TIME = {"time", "random", "secrets", "uuid"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Each file is parsed once for all rules."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def calls(path: Path) -> set[str]:
    """The names of what a file calls: `time.time`."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def breaking(rule: Callable[[Path], object]) -> list[str]:
    """The files for which the rule has an answer that is neither empty nor false."""
    return [name(path) for path in SOURCES if rule(path)]


def test_only_the_ambient_module_asks_the_machine_for_time_or_chance() -> None:
    asking = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "os.urandom"}
    importing = breaking(lambda path: CHANCE_AND_TIME & {module.split(".")[0] for module in imported(path)})
    assert {*importing} <= AMBIENT
    assert {*breaking(lambda path: asking & calls(path))} <= AMBIENT


def test_threads_start_behind_the_executor_port_only() -> None:
    starts = {"threading.Thread", "Thread", "ThreadPoolExecutor", "asyncio.to_thread"}
    # A runtime without a loop of its caller's brings one; a job of another program says that it is there;
    # the second signal must end a process whose main thread is blocked.
    allowed = THREADS | {"actors/actor/runtime.py", "huahuo/publisher.py", "huahuo/app/process.py"}
    assert {*breaking(lambda path: starts & calls(path))} <= allowed


def test_a_file_is_one_idea_and_few_ideas_are_long() -> None:
    lines = {name(path): weight_of(path.read_text(encoding="utf-8")).lines for path in SOURCES}
    assert [one for one, count in lines.items() if count > CODE_LINES_MAX] == []
    assert len([one for one, count in lines.items() if count > LONG_LINES]) <= LONG_FILES_MAX


def test_every_module_says_what_it_is_for() -> None:
    assert breaking(lambda path: not ast.get_docstring(tree(path))) == []


def test_nothing_is_left_to_do_in_the_code() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert [name(path) for path in SOURCES if marks.search(path.read_text(encoding="utf-8"))] == []


def test_nothing_is_unpickled() -> None:
    unpickling = {"pickle", "marshal", "shelve", "dill"}
    assert breaking(lambda path: unpickling & set(imported(path))) == []


def test_sql_is_written_in_the_event_store_only() -> None:
    sql = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\b")
    for path in SOURCES:
        if not name(path).startswith("eventstore/"):
            assert not sql.search(path.read_text(encoding="utf-8")), name(path)
