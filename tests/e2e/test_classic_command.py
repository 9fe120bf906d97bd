"""`huahuo import-firemail`, then `huahuo serve --classic-ui`, as a user runs them."""

import json
import urllib.request
from pathlib import Path

import pytest

from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.models.firemail_database import FireMailDatabase
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_database_and_a_front_end_come_over(tmp_path: Path) -> None:
    database = FireMailDatabase(tmp_path / "huohuo_email.db")
    root = database.user("root", "old-secret", is_admin=1)
    database.mail(database.mailbox(root, "a@example.com"), "hello")
    database.close()
    data, ui = tmp_path / "data", tmp_path / "ui"
    done = huahuo("import-firemail", str(database.file), "--data", str(data), **KEYS)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[:3]
    assert first == [
        f"{kind}: 1 added, 0 there already, 0 left out" for kind in ("users", "mailboxes", "mails")
    ]
    ui.mkdir()
    (ui / "index.html").write_text("<p>theirs</p>")
    with serving(data, HUAHUO_CLASSIC_UI=str(ui)) as server:
        busy = huahuo("import-firemail", str(database.file), "--data", str(data), **KEYS)
        assert busy.returncode != 0
        assert "in use" in busy.stderr
        with urllib.request.urlopen(f"{server.url}/emails/1") as page:
            assert page.read() == b"<p>theirs</p>"
        asked = urllib.request.Request(
            f"{server.url}/api/auth/login",
            json.dumps({"username": "root", "password": "old-secret"}).encode(),
        )
        with urllib.request.urlopen(asked) as answer:
            assert json.load(answer)["user"]["is_admin"] == 1
    missing = huahuo("import-firemail", str(tmp_path / "none.db"), "--data", str(tmp_path / "new"), **KEYS)
    assert missing.returncode != 0
    assert "there is no file" in missing.stderr
    assert "Traceback" not in missing.stderr
