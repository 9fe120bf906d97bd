"""An application's own accounts, tokens and rights, on every way in.

WebSocket, HTTP, events, Durable Streams.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Struct
from structlog.testing import capture_logs

from huahuo import Command, ConfigError, Context, Entity, Event, Huahuo, Principal, Refused
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientStopped, CommandError, Online, StreamDenied
from huahuo.transport.commands.published_events import TYPES_PER_USER
from huahuo.transport.words import http_en
from tests.support.drivers.clients import BACKOFF_S, Heard
from tests.support.drivers.http import client as http_client
from tests.support.drivers.http import reader
from tests.support.drivers.rawclient import connected
from tests.support.models.issuer import AUDIENCE, ISSUER, key_set, pair
from tests.support.patience import WITHIN_S
from tests.support.servers.key_server import key_server
from tests.support.simulator.http_socket import HttpSocket
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


async def test_authorize_says_who_reads_a_stream_on_every_way_in(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    accounts.let(ALICE, "read room/1")
    async with running(app, "own port") as url:
        await app.publish("room/1", "said", {"text": "a"})
        async with connected(url) as ws:
            streams = (
                await ws.authenticate("alice-1", resume={"log": None, "cursors": {"room/1": 0, "room/2": 0}})
            )["streams"]
            assert (streams["room/1"]["outcome"], streams["room/2"]["outcome"]) == ("reset", "denied")
            await ws.say(action="subscribe", id="s", stream="room/2")
            assert (await ws.until("subscribed", id="s"))["outcome"] == "denied"
        async with http_client(url, "alice-1") as http:
            assert (await http.get("/streams/room/1")).json()["events"][0]["text"] == "a"
            assert (await http.get("/streams/room/2")).status_code == 403
            async with reader(http, "room/1", after=0) as events:
                assert await events.texts(1) == ["a"]
            refused = await http.get("/streams/room/2", headers={"Accept": "text/event-stream"})
            assert refused.status_code == 403
        async with http_client(url, "bob-1") as http:
            assert (await http.get("/streams/room/1")).status_code == 403
        async with http_client(url, "root-1") as http:
            assert (await http.get("/streams/room/1")).status_code == 200, "administrators read everything"
            assert (await http.get("/streams/room/a b")).status_code == 403, "but what can be"


async def test_with_authorize_a_group_in_the_token_is_a_right_only_if_authorize_says_so(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    async with app, Client(app.url, token="alice-1") as client:
        with pytest.raises(StreamDenied):
            await client.events("group/ops").ready()
        accounts.let(ALICE, "read group/ops")
        await client.events("group/ops").ready()


async def test_a_user_who_publishes_ever_new_types_of_events_is_refused(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    accounts.let(ALICE, "publish room/1")
    async with running(app, "own port") as url, Client(url, token="alice-1") as alice:
        for start in range(0, TYPES_PER_USER, 50):
            events = [{"stream": "room/1", "type": f"said-{start + n}"} for n in range(50)]
            await alice.send("publish", events=events)
        with pytest.raises(CommandError, match="quota_exceeded"):
            await alice.send("publish", stream="room/1", type="said-too")
        await alice.send("publish", stream="room/1", type="said-7")
    again = application(tmp_path, accounts, authorize=accounts.authorize)
    async with running(again, "own port") as url, Client(url, token="alice-1") as alice:
        for start in range(0, TYPES_PER_USER, 50):
            events = [{"stream": "room/1", "type": f"says-{start + n}"} for n in range(50)]
            await alice.send("publish", events=events)
        with pytest.raises(CommandError, match="quota_exceeded"):
            await alice.send("publish", stream="room/1", type="said-too")
        await alice.send("publish", stream="room/1", type="said-7")  # it stands in the log


async def test_a_call_ends_a_right_at_once_and_no_later_event_is_seen(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    for user in (ALICE, BOB):
        accounts.let(user, "read room/1")
    async with running(app, "own port") as url, connected(url) as alice, connected(url) as bob:
        for ws, token in ((alice, "alice-1"), (bob, "bob-1")):
            await ws.authenticate(token)
            await ws.say(action="subscribe", stream="room/1")
            await ws.until("live", stream="room/1")
        async with http_client(url, "alice-1") as http, reader(http, "room/1") as events:
            await events.until("live")
            accounts.rooms.discard((ALICE, "read room/1"))
            await app.rights_changed("room/1", user=ALICE)
            await app.publish("room/1", "said", {"text": "secret"})
            assert (await events.until("unsubscribed")).data["reason"] == "forbidden"
        assert (await alice.until("unsubscribed"))["reason"] == "forbidden"
        assert not [one for one in [*alice.seen, *await alice.quiet()] if "secret" in str(one)]
        assert "secret" in str(await bob.until("events"))


async def test_a_right_is_judged_again_when_the_token_is_refreshed(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    accounts.let(ALICE, "read room/1")
    async with app, connected(app.url) as ws:
        await ws.authenticate("alice-1")
        await ws.say(action="subscribe", stream="room/1")
        await ws.until("live", stream="room/1")
        accounts.rooms.clear()
        await ws.say(action="authenticate", token="alice-1")
        assert (await ws.until("unsubscribed"))["stream"] == "room/1"


async def test_authorize_says_who_publishes(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    accounts.let(ALICE, "publish room/1")
    event = {"stream": "room/1", "type": "said", "fields": {"text": "a"}}
    async with app, http_client(app.url, "alice-1") as http, http_client(app.url, "bob-1") as other:
        first = await http.post("/publish", json=event, headers={"Idempotency-Key": "k"})
        assert first.json()["at"] == {"stream": "room/1", "seq": 1, "position": 1}
        again = await http.post("/publish", json=event, headers={"Idempotency-Key": "k"})
        assert again.json() == first.json() | {"duplicate": True}
        both = await http.post("/publish", json=[event, event | {"stream": "room/2"}])
        assert (both.status_code, both.json()["code"]) == (403, "forbidden")
        assert (await other.post("/publish", json=event)).status_code == 403
        async with http_client(app.url, "root-1") as root:
            assert (await root.post("/publish", json=event)).json()["at"]["seq"] == 2
        async with connected(app.url) as ws:
            await ws.authenticate("alice-1", language="en")
            await ws.say(action="publish", id="c", stream="room/2", type="said", text="a")
            assert (await ws.until("error", id="c"))["message"] == "this stream is not yours to write"


async def test_authorize_of_a_stream_under_ds(tmp_path: Path, accounts: Accounts) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize)
    for right in ("read ds/notes", "publish ds/notes"):
        accounts.let(ALICE, right)
    accounts.let(BOB, "read ds/notes")
    async with app, http_client(app.url, "alice-1") as alice, http_client(app.url, "bob-1") as bob:
        plain = {"Content-Type": "text/plain"}
        assert (await alice.put("/ds/notes", content=b"a", headers=plain)).status_code == 201
        assert (await bob.get("/ds/notes")).text == "a"
        assert (await bob.post("/ds/notes", content=b"b", headers=plain)).status_code == 403
        assert (await alice.get("/ds/others")).status_code == 403
        assert (await alice.put(f"/ds/user/{ALICE}/notes", content=b"a", headers=plain)).status_code == 201


class Opened(Event, type="case_opened"): ...


class Closed(Event, type="case_closed", rights=True): ...


class Case(Struct, frozen=True):
    status: str = "new"


class Open(Command, action="open_case", creates=True): ...


class Close(Command, action="close_case"): ...


def cases() -> Entity[Case]:
    """An entity that says nothing about its readers."""
    case = Entity("case", Case)

    @case.evolve
    def opened(_state: Case, _event: Opened) -> Case:
        return Case("open")

    @case.evolve
    def closed(_state: Case, _event: Closed) -> Case:
        return Case("closed")

    @case.decide
    def open_(_state: Case, _command: Open, _ctx: Context) -> list[Event]:
        return [Opened()]

    @case.decide
    def close(_state: Case, _command: Close, _ctx: Context) -> list[Event]:
        return [Closed()]

    @case.query("get_case")
    def get(state: Case, _who: Principal) -> dict[str, str]:
        return {"status": state.status}

    return case


async def test_authorize_says_who_reads_and_commands_an_entity_without_readers(
    tmp_path: Path, accounts: Accounts
) -> None:
    app = application(tmp_path, accounts, authorize=accounts.authorize, entities=[cases()])
    accounts.let(ALICE, "read case/1")
    async with app, Client(app.url, token="alice-1") as alice, Client(app.url, token="bob-1") as bob:
        await bob.send("open_case")
        for action in ("close_case", "get_case"):
            with pytest.raises(CommandError, match="not_found"):
                await bob.send(action, case_id=1)
        with pytest.raises(StreamDenied):
            await bob.events("case/1").ready()
        assert (await alice.send("get_case", case_id=1))["data"] == {"status": "open"}
        events = alice.events("case/1", first="start")
        assert (await anext(events)).type == "case_opened"
        accounts.rooms.clear()
        await app.send("close_case", case_id=1)
        with pytest.raises(StreamDenied):  # the event that ended the right is not seen
            await anext(events)


USERS = {
    "alice-1": Principal("alice@example.com", "Alice", groups=("ops",)),
    "alice-2": Principal("alice@example.com", "Alice", groups=("ops",)),
    "bob-1": Principal(7),
    "root-1": Principal(1, is_admin=True),
}


def judging(tmp_path: Path) -> Huahuo:
    return Huahuo(data=tmp_path / "data", port=0, authenticate=USERS.get)


@pytest.mark.parametrize("way", WAYS)
async def test_the_service_says_who_a_token_is(tmp_path: Path, way: str) -> None:
    app = judging(tmp_path)
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
    app = judging(tmp_path)
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
    app = judging(tmp_path)
    async with running(app, "own port") as url:
        key = await key_of(url, "root-1", right)
        async with Client(url, token=key, backoff_s=BACKOFF_S) as client:
            assert (await Heard(client).wait(Online)).user["user_id"] == 1


async def test_a_key_for_codes_alone_has_no_connection_and_is_told_why(tmp_path: Path) -> None:
    app = judging(tmp_path)
    async with running(app, "own port") as url:
        key = await key_of(url, "alice-1", "codes")
        async with http_client(url, key) as http:
            answer = await http.get("/who")
            assert (answer.status_code, answer.json()["detail"]) == (403, http_en.KEY_CANNOT_CONNECT)
