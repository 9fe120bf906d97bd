"""Erasing and exporting a user: what goes, what is listed as staying, and that no file has the rest."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from huahuo.actors.plugins.past import together
from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.audit import commands
from huahuo.cli import maintenance
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.audit.index import Where
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.refusals import ChangeRefused
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.worlds.storing import Stored, stored

CANARY = "canary-7c1f"
MAILBOX: dict[str, Any] = {
    "email": f"{CANARY}@example.com",
    "password": f"secret-{CANARY}",
    "server": "imap.example.com",
}
PAST = together([plugin.past for plugin in standard()])


async def lived(s: Stored) -> int:
    """A user with everything that one can have; returns its id."""
    await s.app.users.add("root", "root-root-root", is_admin=True, principal="test")
    user = await s.app.users.add(f"alice-{CANARY}", "alice-alice", principal="test")
    async with Client(s.app.url, token=s.token(user.user_id), client=f"laptop-{CANARY}") as alice:
        await alice.send("add_email", **MAILBOX)
        await alice.send("add_webhook", url=f"https://{CANARY}.example.com/hook", types=["email_added"])
        await alice.send("add_key", name=f"key-{CANARY}", rights=["read"], days=1)
        async with alice.events(f"user/{user.user_id}", "start") as events:
            await anext(events)
    await s.app.publisher.publish(f"user/{user.user_id}", "note", {"text": CANARY})
    await s.app.publisher.publish("group/ops", "note", {"text": "shared"}, f"user/{user.user_id}")
    return user.user_id


async def asked(settings: Settings) -> None:
    """Somebody asks the audit, which makes its index."""
    await commands.find_events(settings, Where(), after=0, limit=10, as_json=True)


def files_with(data: Path, text: str) -> list[str]:
    return [file.name for file in data.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


async def test_an_erased_user_is_in_no_file_of_the_directory_any_more(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with stored(data) as s:
        user_id = await lived(s)
        assert files_with(data, CANARY)
        async with s.client(9, admin=True) as root:
            told = await root.send("erase_user", user_id=user_id)
        assert told["removed"]["accounts"] == told["removed"]["mailboxes"] == 1
        assert told["removed"]["api_keys"] == told["removed"]["webhooks"] == 1
        assert told["removed"]["events"] >= 6
    assert files_with(data, CANARY) == []


async def test_an_erased_user_is_not_in_the_index_of_the_audit(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with stored(data) as s:
        user_id = await lived(s)
        await asked(s.app.settings)
        assert "audit.db" in files_with(data, CANARY)
        await s.app.storing.erase(user_id, None, "test")
        assert files_with(data, CANARY) == []
        await asked(s.app.settings)  # it is made again of what is left
        assert files_with(data, CANARY) == []
        assert (data / "audit.db").is_file()


async def test_what_stays_is_listed_with_the_reason(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        user_id = await lived(s)
        async with http_client(s.app.url, s.token(user_id)) as http:
            await http.put(f"/ds/user/{user_id}/diary", headers={"Content-Type": "text/plain"}, content=b"x")
        erased = await s.app.storing.erase(user_id, None, "test")
        stays = {one.what: one.why for one in erased.remains}
        assert "others read" in stays["events that the user caused on group"]
        assert "revoked" in stays["events on auth"]
        assert "hash chain" in stays[f"names of streams, ds/user/{user_id}/…"]
        assert "notes of administrators" in stays
        assert "backups" in stays


async def test_the_log_stays_whole_and_the_service_starts_again_without_the_user(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with stored(data) as s:
        user_id = await lived(s)
        await s.app.storing.erase(user_id, None, "test")
    async with stored(data) as s:
        assert [one.name for one in s.app.users.users.all()] == ["root"]
        assert s.app.api_keys.state.all() == []
        async with s.client(user_id + 100) as other:
            await other.send("add_email", **MAILBOX)
        with pytest.raises(ChangeRefused, match="nobody"):
            await s.app.storing.erase(None, "nobody", "test")
    view = await SqliteView.open(data)
    assert await view.verify() > 0
    assert await view.check_receipts() > 0
    await view.close()


async def test_the_last_administrator_is_not_erased(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(9, admin=True) as root:
        await lived(s)
        with pytest.raises(CommandError, match="last administrator"):
            await root.send("erase_user", name="root")


async def test_the_command_erases_on_a_stopped_directory_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    async with stored(data) as s:
        await lived(s)
        settings = s.app.settings
    await maintenance.erase_user(settings, f"alice-{CANARY}", None, as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["removed"]["mailboxes"] == 1
    assert files_with(data, CANARY) == []


async def test_an_export_has_all_that_is_kept_of_a_user_and_no_secret(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        await lived(s)
        settings = s.app.settings
    target = tmp_path / "alice.zip"
    await maintenance.export_user(settings, SystemAmbient(), f"alice-{CANARY}", None, target, PAST)
    with zipfile.ZipFile(target) as archive:
        about = json.loads(archive.read("user.json"))
        events = [json.loads(line) for line in archive.read("events.jsonl").splitlines()]
        whole = b"".join(archive.read(name) for name in archive.namelist())
    assert about["account"]["name"] == f"alice-{CANARY}"
    assert {"email_added", "note"} <= {one["type"] for one in events}
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    assert b"secret-" not in whole
    assert target.stat().st_mode & 0o077 == 0


async def test_a_reader_of_all_events_gets_none_of_an_erased_user(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        user_id = await lived(s)
        async with s.client(9, admin=True) as root, root.events("log", "start") as before:
            assert CANARY in str([(await anext(before)).data for _ in range(s.app.log.position)])
            await root.send("erase_user", user_id=user_id)
        newest, seen = s.app.log.position, ""
        async with s.client(9, admin=True) as root, root.events("log", "start") as after:
            async for event in after:
                seen += str(event.data)
                if event.seq == newest:
                    break
        assert CANARY not in seen
