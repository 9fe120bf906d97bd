"""The shop type-checks as it stands, and an annotated application does so strictly."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop" / "shop.py"
STRICT = ROOT / "tests" / "support" / "worlds" / "orders.py"
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
pytestmark = pytest.mark.slow


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=280,
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


if importlib.util.find_spec("pyright") is not None:  # no development tool

    @pytest.mark.parametrize("file", [SHOP, STRICT])
    def test_pyright_accepts_both(file: Path) -> None:
        done = run("pyright", "--pythonpath", sys.executable, str(file))
        assert done.returncode == 0, done.stdout + done.stderr
