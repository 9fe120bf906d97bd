"""A front end that the user has: which files are served, under which policy."""

import base64
import hashlib
from pathlib import Path

import pytest

from huahuo.pages.site import classic_policy_of, classic_site


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
