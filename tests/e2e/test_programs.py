"""What programs use, on the real service: keys made from the command line, and webhooks over `kill -9`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, ClientStopped
from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.drivers.http import client
from tests.support.drivers.snippets import snippet
from tests.support.patience import WITHIN_S
from tests.support.servers.receiver import receiver
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("programs")
    with serving(folder / "data", HUAHUO_WEBHOOKS_ALLOW_PRIVATE="1") as made:
        yield made


def key(server: Serving, *arguments: str) -> str:
    done = huahuo("key", *arguments, "--data", str(server.data), **KEYS)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


async def test_a_key_from_the_command_line_goes_wherever_a_token_goes(server: Serving) -> None:
    async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
        added = await root.send("add_user", name="alice", password="canary-password")
        made = await asyncio.to_thread(key, server, "add", "ci", "--user", "alice", "--right", "read")
        stream = f"user/{added['user_id']}"
        await root.send("publish", stream=stream, type="parcel_seen", order_id=7)
        async with Client(server.url, token=made) as alice:
            assert (await alice.send("list_webhooks"))["data"] == []
            with pytest.raises(ClientError, match="forbidden"):
                await alice.send("check_emails", email_ids=[1])
            async with client(server.url, made) as http:
                page = await http.get(f"/streams/{stream}")
                assert [event["order_id"] for event in page.json()["events"]] == [7]
                assert (await http.get("/streams/user/0")).status_code == 403
                refused = await http.post("/commands/add_key", json={"name": "x", "rights": ["read"]})
                assert refused.status_code == 403
                only = await asyncio.to_thread(key, server, "add", "c", "--user", "alice", "--right", "codes")
                as_codes = {"Authorization": f"Bearer {only}"}
                unknown = await http.get("/mailboxes/a@example.com/code", headers=as_codes)
                assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
                assert (await http.get(f"/streams/{stream}", headers=as_codes)).status_code == 403
                described = (await http.get("/openapi.json")).json()["paths"]
                assert {"/mailboxes/{address}/code", "/commands/add_webhook"} <= set(described)
                listed = (await asyncio.to_thread(key, server, "list", "--json")).splitlines()[0]
                assert json.loads(listed)["last_used_at"]
                await asyncio.to_thread(key, server, "revoke", "1")
                assert (await http.get(f"/streams/{stream}")).status_code == 401
            async with asyncio.timeout(WITHIN_S):
                stopped = await alice.wait_stopped()
            assert isinstance(stopped, ClientStopped)


def test_keys_are_made_without_a_running_service_too(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        asyncio.run(add_user(server))
        assert server.stop() == 0
        made = key(server, "add", "cron", "--user", "alice")
        assert key(server, "list").startswith("1\talice\tcron\tread\t")
        server.start()
        with httpx.Client(trust_env=False, timeout=WITHIN_S) as http:
            headers = {"Authorization": f"Bearer {made}"}
            assert http.get(f"{server.url}/streams/user/1", headers=headers).status_code == 200


async def add_user(server: Serving) -> None:
    async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
        await root.send("add_user", name="alice", password="canary-password")


async def test_an_event_comes_signed_and_a_kill_loses_no_delivery(server: Serving) -> None:
    with receiver() as came:
        async with Client(server.url, token=server.token(0, "root", admin=True)) as root:
            url = f"http://127.0.0.1:{came.port}/hook"
            hook = await root.send("add_webhook", url=url, types=["parcel_seen"], streams=["user/42"])
            came.status = 503
            await root.send("publish", stream="user/42", type="parcel_seen", order_id=8)
            first, _ = await asyncio.to_thread(came.next)
            server.kill()
            came.status = 200
            server.start()
            headers, body = await asyncio.to_thread(came.next)
            assert headers["webhook-id"] == first["webhook-id"]
            assert json.loads(body)["data"]["order_id"] == 8
            here: dict[str, Any] = {}
            exec(snippet("docs/programs.md", "verify"), here)
            assert here["is_genuine"](hook["secret"], headers, body)
            assert not here["is_genuine"](hook["secret"], headers, body + b" ")
