"""The shop type-checks as it stands, and an annotated application does so strictly."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.snippets import block

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop" / "shop.py"
STRICT = ROOT / "tests" / "support" / "worlds" / "orders.py"
EXAMPLES = [
    ROOT / "examples" / one for one in ("shop/shop.py", "chat/chat.py", "jobs/jobs.py", "fleet/fleet.py")
]
PAGES = ("entities", "tutorial")
PYRIGHT = ROOT / "web" / "node_modules" / ".bin" / "pyright"
WRONG = """
from huahuo import Entity, Event
from msgspec import Struct
class Order(Struct, frozen=True):
    n: int = 0
class Placed(Event, type='x'): ...
order = Entity('order', Order)
@order.evolve
def placed(state: Order, event: Placed) -> int:
    return 1
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What mypy says about the three files, with the settings and the cache of `make check`.

    One run, because most of it is the library: two minutes without the cache, a few seconds with it.
    """
    folder = tmp_path_factory.mktemp("mypy")
    wrong = folder / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    lines = run("mypy", str(SHOP), str(STRICT), str(wrong), MYPYPATH=str(folder)).stdout.splitlines()
    assert lines[-1].endswith("(checked 3 source files)"), lines
    return lines


def about(file: str, complaints: Sequence[str]) -> Sequence[str]:
    return [line for line in complaints if f"{file}:" in line]


def test_mypy_accepts_the_shop_whose_handlers_leave_out_annotations(complaints: Sequence[str]) -> None:
    assert not about("shop.py", complaints)


def test_mypy_strict_accepts_annotated_entities(complaints: Sequence[str]) -> None:
    assert not about("orders.py", complaints)


def test_a_handler_that_returns_no_state_is_found_by_mypy(complaints: Sequence[str]) -> None:
    (found,) = about("wrong.py", complaints)
    assert 'incompatible type "Callable[[Order, Placed], int]"' in found


def test_mypy_finds_nothing_in_the_library_itself(complaints: Sequence[str]) -> None:
    assert len(complaints) == 2, "the wrong handler and the count of errors"


@pytest.fixture(scope="module")
def diagnostics(tmp_path_factory: pytest.TempPathFactory) -> Sequence[dict[str, Any]]:
    """What pyright says about the examples, and strictly about the applications of the documents."""
    if not PYRIGHT.exists():
        pytest.skip("pyright is not installed: scripts/web.sh")
    folder = tmp_path_factory.mktemp("pyright")
    written = {
        "wrong": WRONG, **{page: f"# pyright: strict\n{block(f'docs/{page}.md', 'shop')}" for page in PAGES}
    }  # fmt: skip
    for name, text in written.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    files = [*EXAMPLES, STRICT, *(folder / f"{name}.py" for name in written)]
    command = [str(PYRIGHT), "--outputjson", "--pythonpath", sys.executable, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(files), done.stdout
    found: Sequence[dict[str, Any]] = said["generalDiagnostics"]
    return found


def test_pyright_accepts_the_examples_and_the_applications_of_the_documents(
    diagnostics: Sequence[dict[str, Any]],
) -> None:
    assert [one for one in diagnostics if not one["file"].endswith("wrong.py")] == []


def test_a_handler_that_returns_no_state_is_found_by_pyright(diagnostics: Sequence[dict[str, Any]]) -> None:
    found = [one["message"] for one in diagnostics if one["file"].endswith("wrong.py")]
    assert any('Placed) -> int" is not assignable' in message for message in found), found
