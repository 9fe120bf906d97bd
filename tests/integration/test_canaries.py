"""No secret in any file, frame, log line, metric, backup or export, in any of 50 encodings (I16)."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from huahuo.actors.plugins.past import together
from huahuo.app.plugins import standard
from huahuo.cli import user_data
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.storage import copying
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.models.encodings import encodings_of, found_in
from tests.support.worlds.storing import Stored, stored

MAILBOX_PASSWORD = "pw-Quux'7c1f\\9e-of-the-mailbox"
REFRESH_TOKEN = "rt-M.R3_BAY.7c1f-of-the-grant!*long"
ACCOUNT_PASSWORD = "ac-Zork 5d2e/of+the=account"
KEY_FILES = {"jwt.secret", "master.key", "checkpoint.key"}
PAST = together([plugin.past for plugin in standard()])


def test_a_search_knows_more_than_fifty_encodings_and_finds_each() -> None:
    forms = encodings_of(MAILBOX_PASSWORD)
    assert len(set(forms.values())) >= 50
    for name, form in forms.items():
        assert name in found_in(b"before" + form + b"after", MAILBOX_PASSWORD)


class Seen:
    """All that was given out or written, by where it was."""

    def __init__(self) -> None:
        self.places: dict[str, bytes] = {}

    def add(self, where: str, what: object) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what, ensure_ascii=False).encode()
        self.places[where] = self.places.get(where, b"") + data

    def add_files(self, where: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in KEY_FILES:
                self.add(f"{where}/{path.name}", path.read_bytes())


async def live(s: Stored, seen: Seen) -> list[str]:
    """Use every door that takes a secret, well and badly. Returns the secrets that were made."""
    await s.app.users.add("root", "root-root-root", is_admin=True, principal="test")
    user = await s.app.users.add("alice", ACCOUNT_PASSWORD, principal="test")
    made: list[str] = []
    async with s.client(user.user_id) as alice, s.client(9, admin=True) as root:
        box: dict[str, Any] = {"server": "imap.example.com", "password": MAILBOX_PASSWORD}
        seen.add("replies", await alice.send("add_email", email="a@example.com", **box))
        lines = f"b@outlook.com----{MAILBOX_PASSWORD}----00000000-client----{REFRESH_TOKEN}"
        seen.add("replies", await alice.send("import_emails", data=lines))
        for wrong in (
            {"email": MAILBOX_PASSWORD, **box},
            {"email": "c@example.com", "server": MAILBOX_PASSWORD, "password": [MAILBOX_PASSWORD]},
            {"email": "d@example.com", **box, "port": MAILBOX_PASSWORD},
        ):
            with pytest.raises(CommandError) as refused:
                await alice.send("add_email", **wrong)
            seen.add("refusals", f"{refused.value!r} {refused.value} {refused.value.details}")
        hook = await alice.send("add_webhook", url="https://example.com/hook", types=["email_added"])
        key = await alice.send("add_key", name="bot", rights=["read"], days=1)
        made += [str(hook["secret"]), str(key["key"])]
        for query in ("list_webhooks", "list_keys", "get_all_emails", "get_usage", "export_emails"):
            seen.add("replies", await alice.send(query))
        for query in ("list_users", "get_clients", "get_storage", "get_projections"):
            seen.add("replies", await root.send(query))
        async with root.events("log", "start") as events:
            for _ in range(s.app.log.position):
                seen.add("frames", (await anext(events)).data)
        seen.add("replies", await root.send("audit"))
    async with http_client(s.app.url) as http:
        wrong_login = {"username": "alice", "password": ACCOUNT_PASSWORD + "x"}
        seen.add("answers", (await http.post("/login", json=wrong_login)).content)
        for path in ("/metrics", "/readyz", "/openapi.json", f"/nothing?token={MAILBOX_PASSWORD}"):
            seen.add("answers", (await http.get(path)).content)
    return made


async def test_no_secret_is_in_anything_that_was_written_or_given_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, data = Seen(), tmp_path / "data"
    async with stored(data) as s:
        made = await live(s, seen)
        seen.add_files("running", data)
        settings = s.app.settings
    outcome = await copying.run(data, str(tmp_path / "backups"), 1, 60.0, SystemAmbient())
    assert outcome.made
    seen.add_files("backup", tmp_path / "backups")
    await user_data.export(settings, SystemAmbient(), "alice", None, tmp_path / "alice.zip", PAST)
    with zipfile.ZipFile(tmp_path / "alice.zip") as archive:
        for name in archive.namelist():
            seen.add("export", archive.read(name))
    seen.add_files("stopped", data)
    said = capfd.readouterr()
    seen.add("log lines", (said.out + said.err).encode())
    for where in ("frames", "replies", "export", "stopped/log.db", "running/log.db-wal", "backup/log.db"):
        assert b"a@example.com" in seen.places[where], where  # the search looks where the user's data is
    secrets = (MAILBOX_PASSWORD, REFRESH_TOKEN, ACCOUNT_PASSWORD, *made)
    leaks = {
        f"{where}: {form}"
        for where, what in seen.places.items()
        for secret in secrets
        for form in found_in(what, secret)
    }
    assert leaks == set()
