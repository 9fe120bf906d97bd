"""`huahuo` is the only import name, and importing it costs next to nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("actors", "eventstore", "transport", "replay", "mailcheck")


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize("floor", FLOORS)
def test_a_bare_name_is_refused_and_the_right_one_named(floor: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {floor}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"ImportError: import huahuo.{floor}, not {floor}" in done.stderr


@pytest.mark.parametrize("floor", FLOORS)
def test_the_link_of_a_floor_leads_to_its_folder(floor: str) -> None:
    link = ROOT / "huahuo" / floor
    assert link.is_symlink()
    assert link.resolve() == ROOT / floor


def test_importing_the_package_loads_none_of_its_floors() -> None:
    assert not {name for name in loaded_by("import huahuo") if name.startswith("huahuo.")} - {"huahuo.errors"}


def test_the_python_client_needs_neither_storage_nor_imap_nor_actors() -> None:
    loaded = loaded_by("from huahuo.transport.client import Client")
    assert "huahuo.transport.client.client" in loaded
    assert not {"sqlite3", "_sqlite3", "imapclient", "pykka"} & loaded


def test_a_process_that_only_publishes_loads_no_part_of_the_service() -> None:
    loaded = loaded_by("from huahuo import Publisher")
    assert "huahuo.publisher" in loaded
    assert not {"sqlite3", "_sqlite3", "imapclient", "pykka", "asyncio", "websockets", "structlog"} & loaded


def test_a_start_on_an_existing_log_loads_neither_the_http_client_nor_the_maker_of_tables() -> None:
    loaded = loaded_by("import huahuo.app.wiring, huahuo.mailcheck.plugin.domain")
    assert not {"httpcore", "sqlite_utils"} & loaded, "a sixth of the start's time, for what is used later"


def test_the_program_begins_without_rich_and_what_rich_brings() -> None:
    begin = "from huahuo import options; options.import_structlog_without_rich()"
    loaded = loaded_by(f"{begin}; import huahuo.cli.main, huahuo.embedding.huahuo")
    assert "structlog" in loaded
    assert not {"rich", "pygments", "attr"} & loaded, "a sixth of the start's time, for what is used later"


def test_what_the_package_exports_is_there() -> None:
    loaded = loaded_by("from huahuo import *")
    assert "huahuo.embedding.service" in loaded


@pytest.mark.parametrize(
    ("words", "not_loaded"),
    [
        ("--version", {"typer", "asyncio", "msgspec"}),
        ("--help", {"pykka", "websockets", "jwt", "sqlite_utils", "structlog", "huahuo.app.wiring"}),
    ],
)
def test_version_and_help_load_only_what_they_say(words: str, not_loaded: set[str]) -> None:
    run = f"import contextlib, sys; from huahuo.cli.entry import main; sys.argv = ['huahuo', '{words}']"
    loaded = loaded_by(f"{run}\nwith contextlib.suppress(SystemExit): main()")
    assert "huahuo.cli.entry" in loaded
    assert not not_loaded & loaded
