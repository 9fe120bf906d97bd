"""`authorize` of an application decides who may read, publish and command, whichever way they came in."""

from pathlib import Path

import pytest
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Principal
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError, StreamDenied
from huahuo.transport.commands.published_events import TYPES_PER_USER
from tests.support.drivers.http import client as http_client
from tests.support.drivers.http import reader
from tests.support.drivers.rawclient import connected
from tests.support.worlds.everywhere import running
from tests.support.worlds.own_accounts import ALICE, BOB, Accounts, application


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


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


async def test_a_users_own_stream_and_system_need_no_answer_of_authorize(
    tmp_path: Path, accounts: Accounts
) -> None:
    def authorize(who: Principal, stream: str, right: str) -> bool:
        raise AssertionError(f"{who} {stream} {right}")

    app = application(tmp_path, accounts, authorize=authorize)
    async with app, connected(app.url) as ws:
        streams = (await ws.authenticate("alice-1"))["streams"]
        assert {one["outcome"] for one in streams.values()} == {"fresh"}


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
        assert first.json()["at"] == {"stream": "room/1", "seq": 1}
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
