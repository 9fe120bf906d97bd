"""What is applied on every node depends on the replicated state and the proposal alone.

The apply path is `replicated/state_machine` with all that it imports, and how an engine writes what it
decided. None of it may ask for clock, chance, name of the node, environment or thread, nor compress,
encrypt, or depend on the hash of a text, which differs between processes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "huahuo.eventstore"
START = f"{PACKAGE}.replicated.state_machine"
ENGINES = tuple(f"{PACKAGE}.sqlite.{name}" for name in ("changes", "seq_index", "schema"))

MODULES = {
    "asyncio", "calendar", "cryptography", "datetime", "getpass", "locale", "multiprocessing", "os",
    "platform", "random", "secrets", "select", "signal", "socket", "subprocess", "sys", "threading", "time",
    "uuid", "zoneinfo", "zstandard",
}  # fmt: skip
ROOMS = {
    f"{PACKAGE}.{name}"
    for name in ("ambient", "blobs", "executor", "core.seal", "zstd_frames", "zstd_training")
}
CALLS = {"hash", "id", "input", "open", "vars", "globals", "__import__", "eval", "exec"}
ALLOWED = {
    (f"{PACKAGE}.core.draft", "give_way"),
    (f"{PACKAGE}.core.storage_port", "hash"),
    (f"{PACKAGE}.model", "hash"),
    (f"{PACKAGE}.sqlite.changes", ""),
}
"""`give_way` lets other threads run and returns nothing; a `Secret` is hashed, and never applied; packed
names are found by their hash, and listed in the order in which they came; `sys` tells how many rows one
statement binds best, and the rows are the same."""


def path_of(module: str) -> Path | None:
    """The file of a module of the event store."""
    parts = module.removeprefix("huahuo.").split(".")
    found = [ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")]
    return next((path for path in found if path.exists()), None)


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of each import; the name is "" where a whole module is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def closure(start: str) -> dict[str, ast.AST]:
    """The modules of the event store that `start` imports, directly or not."""
    found: dict[str, ast.AST] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        path = path_of(module)
        if path is None or module in found or not module.startswith(PACKAGE) or module in ROOMS:
            continue
        found[module] = ast.parse(path.read_text())
        for imported, name in imports(found[module]):
            waiting += [imported, f"{imported}.{name}"]
    return found


def faults(module: str, tree: ast.AST) -> list[str]:
    """What in the code of a module may differ between nodes."""
    found = []
    for imported, name in imports(tree):
        forbidden = imported.split(".")[0] in MODULES or {imported, f"{imported}.{name}"} & ROOMS
        if forbidden and (module, name) not in ALLOWED:
            found.append(f"{module} imports {name or imported} of {imported}")
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in CALLS and (module, called.id) not in ALLOWED:
            found.append(f"{module} calls {called.id}, line {called.lineno}")
        if isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
            found.append(f"{module} goes through a set, whose order is not the same everywhere")
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in {"ambient", "_ambient", "environ", "vault", "_vault"}:
                found.append(f"{module} uses {name}, line {node.lineno}")
    return found


def _is_set(node: ast.AST) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"set", "frozenset"}
    )


def test_no_node_applies_anything_by_its_own_clock_chance_name_environment_or_thread() -> None:
    path = closure(START)
    assert f"{PACKAGE}.core.draft" in path
    assert f"{PACKAGE}.core.chain" in path
    for module in ENGINES:
        file = path_of(module)
        assert file is not None
        path[module] = ast.parse(file.read_text())
    assert [fault for module, tree in path.items() for fault in faults(module, tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "import os.path",
        "from secrets import token_bytes",
        "from threading import Lock",
        "from socket import gethostname",
        "from huahuo.eventstore.ambient import rfc3339",
        "from huahuo.eventstore import blobs",
        "from huahuo.eventstore.executor import give_way",
        "def f(x): return hash(x)",
        "def f(self): return self._ambient.now_ms()",
        "def f(xs): return [x for x in set(xs)]",
        "def f():\n    for x in {1, 2}: pass",
    ],
)
def test_each_way_to_depend_on_the_node_is_found(line: str) -> None:
    assert len(faults("m", ast.parse(line))) == 1


def test_code_that_depends_on_its_arguments_alone_is_let_through() -> None:
    code = "from hashlib import blake2b\ndef f(xs): return [x for x in sorted(set(xs))]"
    assert faults("m", ast.parse(code)) == []
