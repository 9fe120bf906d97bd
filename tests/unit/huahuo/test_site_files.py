"""What the package shows to a browser: the built console or how to build it, and the mail frames."""

from pathlib import Path

import pytest

from huahuo.pages import site
from huahuo.transport.wire.site import CACHE_ASK_AGAIN, CACHE_FOR_EVER, CSP


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder without a build."""
    monkeypatch.setattr(site, "files", lambda _name: tmp_path)
    return tmp_path


def test_without_a_build_the_page_says_how_to_build(package: Path) -> None:
    assert b"make web" in site.assets()["/"].body


def test_the_browser_client_alone_does_not_hide_that_page(package: Path) -> None:
    (package / site.BUILT / "client").mkdir(parents=True)
    (package / site.BUILT / "client" / "huahuo-client.js").write_bytes(b"")
    found = site.assets()
    assert b"make web" in found["/"].body
    assert "/client/huahuo-client.js" in found


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
