"""What the package shows to a browser: the console, the mail frames, and a front end that the user has."""

import re
from pathlib import Path

import pytest

from huahuo.pages import site
from huahuo.transport.http.site import CSP


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder without a build."""
    monkeypatch.setattr(site, "files", lambda _name: tmp_path)
    return tmp_path


def test_without_a_build_the_page_says_how_to_build(package: Path) -> None:
    assert b"make web" in site.assets()["/"].body


def test_the_console_s_policy_allows_nothing_inline() -> None:
    assert "unsafe-inline" not in CSP
    assert "'unsafe-eval'" not in CSP


_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "huahuo" / "pages" / "classic_page.js"
_CLIENT = _ROOT / "web" / "client" / "src" / "client" / "importing.ts"


def test_the_page_and_the_client_take_the_same_first_lines_for_names_of_columns() -> None:
    page, client = (
        re.findall(r"const COLUMNS = (.+);", file.read_text("utf-8")) for file in (_PAGE, _CLIENT)
    )
    assert len(page) == 1
    assert page == client
