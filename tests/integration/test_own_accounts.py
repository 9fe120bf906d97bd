"""An application's own accounts and rights, on every way in: WebSocket, HTTP, events, Durable Streams."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from huahuo import ConfigError, Huahuo, Refused
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientStopped
from tests.support.drivers.http import client as http_client
from tests.support.drivers.http import reader
from tests.support.drivers.rawclient import connected
from tests.support.models.issuer import AUDIENCE, ISSUER, key_set, pair
from tests.support.patience import WITHIN_S
from tests.support.servers.key_server import key_server
from tests.support.worlds.everywhere import WAYS, running
from tests.support.worlds.own_accounts import ALICE, BOB, Accounts, application

KEY, NEWER = pair("ES256", "old"), pair("ES256", "new")


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.mark.parametrize("way", WAYS)
async def test_a_user_of_the_application_is_signed_in_on_every_way_in(
    tmp_path: Path, accounts: Accounts, way: str
) -> None:
    app, stream = application(tmp_path, accounts), f"user/{ALICE}"
    async with running(app, way) as url, http_client(url, "alice-1") as http:
        async with connected(url) as ws:
            user = (await ws.authenticate("alice-1"))["user"]
            assert user == {"user_id": ALICE, "username": "Alice", "is_admin": False, "groups": ["ops"]}
            await app.publish(stream, "parcel_seen", {"text": "a"})
            assert (await ws.until("events"))["events"][0]["text"] == "a"
        page = await http.get(f"/streams/{stream}")
        assert [event["text"] for event in page.json()["events"]] == ["a"]
        async with reader(http, stream, after=0) as events:
            assert await events.texts(1) == ["a"]
        ticket = (await http.post("/ticket")).json()["ticket"]
        async with (
            httpx.AsyncClient(base_url=url, timeout=WITHIN_S) as plain,
            reader(plain, stream, after=0, ticket=ticket) as events,
        ):
            assert await events.texts(1) == ["a"]
        put = await http.put(
            f"/ds/user/{ALICE}/notes", content=b"hello", headers={"Content-Type": "text/plain"}
        )
        assert put.status_code == 201
        assert (await http.get(f"/ds/user/{ALICE}/notes")).text == "hello"
        assert (await http.get(f"/streams/user/{BOB}")).status_code == 403


@pytest.mark.parametrize(
    ("token", "code", "close"),
    [("nobody", "token_invalid", 4500), ("locked", "token_invalid", 4500), ("old", "token_expired", 4003)],
)
async def test_a_refused_user_is_told_the_code_and_the_log_the_reason(
    tmp_path: Path, accounts: Accounts, token: str, code: str, close: int
) -> None:
    with capture_logs() as logs:
        async with (
            running(application(tmp_path, accounts), "own port") as url,
            http_client(url, token) as http,
        ):
            async with connected(url) as ws:
                refused = await ws.authenticate(token)
                assert (refused["success"], refused["code"]) == (False, code)
                assert "canary" not in str(refused)
                assert await ws.closed() == close
            for answer in (
                await http.get(f"/streams/user/{ALICE}"),
                await http.get("/ds/user/1/notes"),
                await http.get(f"/streams/user/{ALICE}", headers={"Accept": "text/event-stream"}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (401, code)
                assert "canary" not in answer.text
    told = [line["reason"] for line in logs if line["event"] == "token_refused"]
    assert len(told) == 4
    assert token != "locked" or all("canary-reason" in reason for reason in told)


@pytest.mark.parametrize("way", WAYS)
async def test_while_the_application_cannot_judge_clients_come_back_and_nobody_is_called_invalid(
    tmp_path: Path, accounts: Accounts, way: str
) -> None:
    accounts.down = True
    async with running(application(tmp_path, accounts), way) as url, http_client(url, "alice-1") as http:
        async with connected(url) as ws:
            await ws.say(action="authenticate", token="alice-1")
            assert (await ws.until("goaway"))["code"] == 1011
            assert await ws.closed() == 1011
        answer = await http.get("/streams/system")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        async with Client(url, token="alice-1", backoff_s=(0.01, 0.05)) as client:
            accounts.down = False
            await client.wait_online()


async def test_a_refresh_that_nobody_can_judge_leaves_the_connection_as_it_is(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app, connected(app.url) as ws:
        await ws.authenticate("alice-1")
        accounts.down = True
        await ws.say(action="authenticate", token="alice-1", id="r")
        assert (await ws.until("error", id="r"))["code"] == "unavailable"
        await app.publish(f"user/{ALICE}", "parcel_seen", {"text": "a"})
        assert (await ws.until("events"))["events"][0]["text"] == "a"


async def test_what_follows_a_sign_in_waits_for_its_verdict(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts)
    async with app, connected(app.url) as ws:
        await ws.say(action="authenticate", token="alice-1")
        await ws.say(action="subscribe", id="s", stream="group/ops")
        await ws.until("authentication_result", success=True)
        assert (await ws.until("subscribed", id="s"))["outcome"] == "fresh"


async def test_the_services_own_tokens_hold_beside_the_applications(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app, connected(app.url) as ws:
        assert (await ws.authenticate(app.token(42, "own")))["user"]["user_id"] == 42


async def test_a_revoked_user_is_out_at_once_and_in_again_if_the_application_says_so(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts)
    async with app:
        async with connected(app.url) as ws:
            await ws.authenticate("alice-1")
            await app.revoke(user_id=ALICE)
            assert await ws.closed() == 4503
        await asyncio.to_thread(time.sleep, 0.002)  # a revocation holds for its whole millisecond
        async with connected(app.url) as ws:
            assert (await ws.authenticate("alice-1"))["success"]
        accounts.users["alice-1"] = Refused("token_revoked")
        async with Client(app.url, token="alice-1") as client:
            with pytest.raises(ClientStopped):
                await client.wait_online()


# An issuer's keys ----------------------------------------------------------------------------------------


def bearer(one: Any, **claims: Any) -> str:
    token: str = one.token(exp=time.time() + 60, **claims)
    return token


@pytest.mark.parametrize("way", WAYS)
async def test_tokens_of_an_issuer_are_good_on_every_way_in_also_after_its_keys_changed(
    tmp_path: Path, way: str
) -> None:
    async with key_server(key_set(KEY)) as keys:
        app = Huahuo(
            data=tmp_path / "data", port=0, jwks_url=keys.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE,
            groups_claim="realm_access.roles",
        )  # fmt: skip
        async with running(app, way) as url:
            async with connected(url) as ws:
                said = await ws.authenticate(bearer(KEY, realm_access={"roles": ["ops"]}))
                assert said["user"] == {
                    "user_id": "alice", "username": "alice", "is_admin": False, "groups": ["ops"]
                }  # fmt: skip
            async with http_client(url, bearer(KEY)) as http:
                assert (await http.get("/streams/user/alice")).status_code == 200
                assert keys.requests == 1
            keys.body = key_set(NEWER)
            async with http_client(url, bearer(NEWER)) as http, reader(http, "user/alice") as events:
                await events.until("live")
            async with http_client(url, bearer(pair("ES256", "unknown"))) as http:
                assert (await http.get("/streams/user/alice")).status_code == 401
            assert keys.requests == 2
            keys.down = True
            async with http_client(url, bearer(NEWER)) as http:
                assert (await http.get("/streams/user/alice")).status_code == 200


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"jwks_url": "http://issuer.example/keys"}, "http:// is for this machine only"),
        ({"jwks_url": "keys.json"}, "must begin with https://"),
        ({"jwt_issuer": ISSUER}, "set jwks_url"),
        ({"jwt_audience": AUDIENCE}, "set jwks_url"),
    ],
)
async def test_settings_that_would_not_protect_anybody_are_refused(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        await Huahuo(data=tmp_path / "data", port=0, **given).start()


async def test_keys_without_issuer_and_audience_are_warned_about(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with Huahuo(data=tmp_path / "data", port=0, jwks_url="https://issuer.example/keys"):
            pass
    assert [line for line in logs if "set jwt_issuer and jwt_audience" in line["event"]]
