"""`get_clients`: admins see who is connected, where each stands, and how far it is behind."""

import asyncio
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_an_admin_sees_each_connection_and_its_place_in_its_streams(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        alice = Client(server.url, token=server.token(42, "alice"), client="laptop")
        root = Client(server.url, token=server.token(1, "root", admin=True), client="desk")
        async with asyncio.timeout(WITHIN_S), alice, root:
            await alice.send("add_email", email="a@example.org", mail_type="gmail", password="x")
            async with alice.events("user/42", after="snapshot") as events:
                await anext(aiter(events))
                rows = (await root.send("get_clients"))["data"]
                listed = sorted(rows, key=lambda row: str(row["client"]), reverse=True)
                assert [(row["user"], row["username"], row["client"]) for row in listed] == [
                    ("user/42", "alice", "laptop"),
                    ("user/1", "root", "desk"),
                ]
                assert {"stream": "user/42", "seq": 1, "lag": 0} in listed[0]["streams"]
                assert listed[0]["connected_at"] < listed[0]["expires_at"]


async def test_others_may_not_ask(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        token = server.token(42, "alice")
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=token, client="laptop") as alice:
            with pytest.raises(CommandError) as refused:
                await alice.send("get_clients")
            assert refused.value.code == "forbidden"
