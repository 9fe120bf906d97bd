"""The shop type-checks as it stands, and an annotated application does so strictly."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop" / "shop.py"
STRICT = ROOT / "tests" / "support" / "worlds" / "orders.py"
pytestmark = pytest.mark.slow


def checked(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_accepts_the_shop_whose_handlers_leave_out_annotations(tmp_path: Path) -> None:
    loose = ("--allow-untyped-defs", "--allow-incomplete-defs", "--no-warn-return-any")
    checked("mypy", "--strict", *loose, "--cache-dir", str(tmp_path), str(SHOP))


def test_mypy_strict_accepts_annotated_entities(tmp_path: Path) -> None:
    checked("mypy", "--strict", "--cache-dir", str(tmp_path), str(STRICT))


if importlib.util.find_spec("pyright") is not None:  # no development tool

    @pytest.mark.parametrize("file", [SHOP, STRICT])
    def test_pyright_accepts_both(file: Path) -> None:
        checked("pyright", "--pythonpath", sys.executable, str(file))


def test_a_handler_that_returns_no_state_is_found_by_mypy(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from huahuo import Entity, Event\n"
        "from msgspec import Struct\n"
        "class Order(Struct, frozen=True):\n    n: int = 0\n"
        "class Placed(Event, type='x'): ...\n"
        "order = Entity('order', Order)\n"
        "@order.evolve\ndef placed(state: Order, event: Placed) -> int:\n    return 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(wrong)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert 'incompatible type "Callable[[Order, Placed], int]"' in done.stdout
