"""Tokens that do not tell their bearer whose they are: of an application's own accounts, and API keys.

The service says it (`GET /who`), so that clients without a WebSocket know which stream is their user's.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from huahuo import Huahuo, Principal
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import Online
from huahuo.transport.words import http_en
from tests.support.drivers.clients import BACKOFF_S, Heard
from tests.support.drivers.http import client as http_client
from tests.support.patience import WITHIN_S
from tests.support.simulator.http_socket import HttpSocket
from tests.support.worlds.everywhere import WAYS, running

USERS = {
    "alice-1": Principal("alice@example.com", "Alice", groups=("ops",)),
    "alice-2": Principal("alice@example.com", "Alice", groups=("ops",)),
    "bob-1": Principal(7),
    "root-1": Principal(1, is_admin=True),
}


def application(tmp_path: Path) -> Huahuo:
    return Huahuo(data=tmp_path / "data", port=0, authenticate=USERS.get)


@pytest.mark.parametrize("way", WAYS)
async def test_the_service_says_who_a_token_is(tmp_path: Path, way: str) -> None:
    app = application(tmp_path)
    async with running(app, way) as url, http_client(url, "alice-1") as alice:
        answer = await alice.get("/who")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        said = answer.json()
        assert said["user"] == {
            "user_id": "alice@example.com", "username": "Alice", "is_admin": False, "groups": ["ops"]
        }  # fmt: skip
        page = (await alice.get("/streams/system")).json()
        assert (said["type"], said["log"], said["heartbeat_s"]) == ("who", page["log"], 30)
        async with http_client(url, "nobody") as stranger:
            assert (await stranger.get("/who")).status_code == 401
        async with http_client(url) as stranger:
            assert (await stranger.get("/who")).status_code == 401


async def test_over_http_a_token_of_another_user_is_refused_and_the_connection_goes_on(
    tmp_path: Path,
) -> None:
    app = application(tmp_path)
    async with asyncio.timeout(WITHIN_S), running(app, "own port") as url:
        socket = HttpSocket(f"{url.replace('http', 'ws')}/ws", timeout_s=WITHIN_S)

        async def told(**message: str) -> dict[str, Any]:
            await socket.send(msgspec.json.encode(message))
            while (said := msgspec.json.decode(await socket.recv()))["type"] == "live":
                pass
            return dict(said)

        for token in ("alice-1", "alice-2"):
            assert (await told(action="authenticate", token=token))["user"]["user_id"] == "alice@example.com"
        assert (await told(action="authenticate", token="bob-1"))["code"] == "user_mismatch"
        placed = await told(action="subscribe", id="1", stream="user/7")
        assert placed["outcome"] == "denied", "the token before still holds"
        await socket.close()


async def key_of(url: str, token: str, *rights: str) -> str:
    """An API key of the bearer of a token."""
    async with http_client(url, token) as http:
        answer = await http.post("/commands/add_key", json={"name": rights[0], "rights": rights})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["key"])


@pytest.mark.parametrize("right", ["write", "publish"])
async def test_a_key_that_may_only_write_is_somebody(tmp_path: Path, right: str) -> None:
    app = application(tmp_path)
    async with running(app, "own port") as url:
        key = await key_of(url, "root-1", right)
        async with Client(url, token=key, backoff_s=BACKOFF_S) as client:
            assert (await Heard(client).wait(Online)).user["user_id"] == 1


async def test_a_key_for_codes_alone_has_no_connection_and_is_told_why(tmp_path: Path) -> None:
    app = application(tmp_path)
    async with running(app, "own port") as url:
        key = await key_of(url, "alice-1", "codes")
        async with http_client(url, key) as http:
            answer = await http.get("/who")
            assert (answer.status_code, answer.json()["detail"]) == (403, http_en.KEY_CANNOT_CONNECT)
