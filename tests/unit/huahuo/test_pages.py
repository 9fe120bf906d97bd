"""What the package shows to a browser: the console, the mail frames, and a front end that the user has."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from huahuo.pages import site
from huahuo.pages.site import classic_policy_of, classic_site
from huahuo.transport.http.site import CACHE_ASK_AGAIN, CACHE_FOR_EVER, CSP


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder without a build."""
    monkeypatch.setattr(site, "files", lambda _name: tmp_path)
    return tmp_path


def test_without_a_build_the_page_says_how_to_build(package: Path) -> None:
    assert b"make web" in site.assets()["/"].body


def test_the_built_console_takes_that_page_s_place(package: Path) -> None:
    (package / site.BUILT / "assets").mkdir(parents=True)
    (package / site.BUILT / "index.html").write_bytes(b"built")
    (package / site.BUILT / "assets" / "index-0a1b2c.js").write_bytes(b"")
    found = site.assets()
    assert found["/"].body == b"built"
    assert found["/"].cache == CACHE_ASK_AGAIN
    assert found["/assets/index-0a1b2c.js"].cache == CACHE_FOR_EVER, "its name has a hash of what it holds"


def test_a_page_of_any_origin_may_import_the_client_and_nothing_else(package: Path) -> None:
    for path in ("client/huahuo-client.js", "assets/index-0a1b2c.js", "index.html"):
        (package / site.BUILT / path).parent.mkdir(parents=True, exist_ok=True)
        (package / site.BUILT / path).write_bytes(b"")
    assert {path for path, asset in site.assets().items() if asset.any_origin} == {"/client/huahuo-client.js"}


def test_the_console_s_policy_allows_nothing_inline() -> None:
    assert "unsafe-inline" not in CSP
    assert "'unsafe-eval'" not in CSP


@pytest.mark.parametrize("path", [site.MAIL_FRAME_PATH, site.REMOTE_FRAME_PATH])
def test_a_mail_frame_runs_no_script_and_only_the_console_may_hold_it(path: str) -> None:
    policy = site.assets()[path].csp
    for rule in ("default-src 'none'", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'self'"):
        assert rule in policy
    assert "script-src" not in policy
    assert "allow-scripts" not in policy


def test_only_the_frame_for_pictures_lets_pictures_in() -> None:
    found = site.assets()
    assert "img-src data:;" in found[site.MAIL_FRAME_PATH].csp
    assert "img-src data: https: http:;" in found[site.REMOTE_FRAME_PATH].csp


def test_the_policy_names_inline_scripts_and_no_others() -> None:
    script = b"\n  window.x = 1\n"
    page = (
        b"<script>"
        + script
        + b'</script><SCRIPT src="/a.js"></SCRIPT><script type="module" src=/b.js></script>'
    )
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    policy = classic_policy_of(page)
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "unsafe-inline' " not in policy.partition("style-src")[0]


def test_files_are_served_by_their_path_and_ours_wins_at_env_config(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "env-config.js").write_text("theirs")
    (tmp_path / "assets" / "a-1.css").write_text("p {}")
    (tmp_path / "notes.exe").write_text("no page has it")
    found, index = classic_site(tmp_path)
    assert sorted(found) == ["/", "/assets/a-1.css", "/env-config.js", "/index.html"]
    assert found["/"] is index
    assert b"theirs" not in found["/env-config.js"].body
    assert "immutable" in found["/assets/a-1.css"].cache
    assert "immutable" not in index.cache


def test_a_folder_without_a_page_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"classic_ui: .* has no index\.html"):
        classic_site(tmp_path / "none")


_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "huahuo" / "pages" / "classic_page.js"
_CLIENT = _ROOT / "web" / "client" / "src" / "client" / "importing.ts"


def test_the_page_and_the_client_take_the_same_first_lines_for_names_of_columns() -> None:
    page, client = (
        re.findall(r"const COLUMNS = (.+);", file.read_text("utf-8")) for file in (_PAGE, _CLIENT)
    )
    assert len(page) == 1
    assert page == client
