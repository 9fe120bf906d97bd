"""Doors that were added after the checklist was written, and what no other test of the checklist shows."""

import socket
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from huahuo.app.config import Settings
from huahuo.app.workers import tell_address
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.mailcheck.roster.state import RosterFold
from huahuo.replay.history.keyframes import state_at
from huahuo.storage import copying
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.worlds.storing import stored

CANARY = "canary-7c1f-in-the-address"
ADMIN_ONLY: dict[str, dict[str, Any]] = {
    "get_storage": {},
    "set_quota": {"user_id": 1},
    "erase_user": {"user_id": 1},
    "get_usage": {"user_id": 2},
    "compact": {"older_than_s": 0},
    "shred": {"entity": "mailbox/1"},
    "audit": {},
    "get_clients": {},
}


async def test_what_concerns_others_is_for_administrators(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1) as alice:
        for action, fields in ADMIN_ONLY.items():
            with pytest.raises(CommandError) as refused:
                await alice.send(action, **fields)
            assert refused.value.code == "forbidden", action


async def test_an_api_key_of_an_administrator_neither_erases_users_nor_makes_keys(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        await s.app.users.add("root", "root-root-root", is_admin=True, principal="test")
        async with s.client(1, admin=True) as root:
            key = (await root.send("add_key", name="bot", rights=["admin"], days=1))["key"]
        async with Client(s.app.url, token=key) as bot:
            asked: dict[str, dict[str, Any]] = {"erase_user": {"user_id": 7}, "add_key": {"name": "more"}}
            for action, fields in asked.items():
                with pytest.raises(CommandError) as refused:
                    await bot.send(action, **fields)
                assert refused.value.code in ("forbidden", "invalid_field"), action


async def test_a_token_in_an_address_signs_nobody_in_and_is_not_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stored(tmp_path / "data") as s:
        token = s.token(1, admin=True)
        async with http_client(s.app.url) as http:
            for name in ("token", "access_token", "jwt"):
                answer = await http.get("/streams/log", params={name: token, "more": CANARY})
                assert answer.status_code == 400, name
                assert CANARY not in answer.text
    said = capfd.readouterr()
    assert token not in said.out + said.err
    assert CANARY not in said.out + said.err


def test_a_service_in_the_open_without_tls_says_so_when_it_starts() -> None:
    with capture_logs() as lines:
        tell_address(Settings(host="0.0.0.0"), "http://0.0.0.0:8765", None)
    assert any("without TLS" in line["event"] for line in lines)


async def test_only_answers_without_secrets_are_compressed(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        compressed = {action.action for action in s.app.registry.commands.values() if action.compressible}
    assert compressed == {"get_all_emails", "firemail_emails"}


async def test_looking_back_asks_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    async with stored(data) as s, s.client(1) as alice:
        await alice.send("add_email", email="a@example.com", password="pw", server="imap.example.com")

    def blocked(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", blocked)
    view = await SqliteView.open(data)
    _, roster = await state_at(cast("Log", view), "user/1", RosterFold())
    assert [row.email for row in roster.cut()] == ["a@example.com"]
    await view.close()


async def test_a_backup_can_be_read_by_its_owner_only_and_has_no_key(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backups"
    async with stored(data):
        pass
    outcome = await copying.run(data, str(target), 1, 60.0, SystemAmbient())
    for path in (target, *(target / outcome.made).iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert [path.name for path in (target / outcome.made).iterdir()] != []
    assert not any("key" in path.name or "secret" in path.name for path in target.rglob("*"))
