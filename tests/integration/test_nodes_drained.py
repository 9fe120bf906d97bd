"""The door for other nodes, and a node that sends its clients away."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import msgspec
import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.app import cluster_service
from huahuo.app.cluster_service import Drain, register_cluster_actions
from huahuo.cluster import members, request_signing
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import (
    BODY_BYTES_MAX,
    REQUESTS_PER_S,
    Asker,
    NodeError,
    NodeRefused,
    NodesDoor,
    NodeSilent,
    Peers,
    Refused,
)
from huahuo.cluster.request_signing import HEADER, WINDOW_MS, Head, Signer
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.http import client, reader
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE, ROOT
from tests.support.worlds.wire import PLACE, World, world

SECRET, LOG = b"s" * 32, "log-1"
NEXT = itertools.count()


class Question(msgspec.Struct, frozen=True):
    number: int


class Reply(msgspec.Struct, frozen=True):
    doubled: int
    asked_by: str


NO_TEXT = msgspec.Raw(b"\xa1\xff")
"""In MessagePack, a text that is no UTF-8."""


class Spoilt(msgspec.Struct, frozen=True):
    number: msgspec.Raw = NO_TEXT


class SpoiltReply(msgspec.Struct, frozen=True):
    asked_by: msgspec.Raw = NO_TEXT
    doubled: int = 1


class Pair:
    """The node `b` with its door, and what asks it as the node `a`."""

    def __init__(self, w: World) -> None:
        self.url = f"http://127.0.0.1:{w.port}"
        self.clock = FakeAmbient("b")
        self.asked = 0
        self._w = w
        self.restart()

    def restart(self) -> None:
        """Another process of the node is there from now on."""
        self.door = NodesDoor(secret=SECRET, node="b", log_id=LOG, ambient=self.clock)
        self.door.on("double", Question, self._double)
        self.door.on("spoil", Question, self._spoil)
        self._w.api.serve_nodes(self.door)

    async def _double(self, node: str, asked: Question) -> object:
        self.asked += 1
        if asked.number < 0:
            raise Refused("negative", "only numbers from 0")
        if asked.number == 13:
            raise RuntimeError("canary-in-exception")
        return Reply(2 * asked.number, node)

    async def _spoil(self, _node: str, _asked: Question) -> object:
        return SpoiltReply()

    def asker(self, *, secret: bytes = SECRET, node: str = "a", log: str = LOG, ahead_s: float = 0) -> Asker:
        ambient = FakeAmbient(next(NEXT), now_ms=self.clock.now_ms() + round(ahead_s * 1000))
        return Asker(secret=secret, node=node, log_id=log, ambient=ambient)

    async def ask(self, asker: Asker, number: int = 21, *, to: str = "b", name: str = "double") -> Reply:
        return await asker.ask(self.url, to, name, Question(number), Reply)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with world() as w:
        yield Pair(w)


def signed(p: Pair, body: bytes = b"", **fields: Any) -> dict[str, str]:
    """The headers of a good request; `fields` replace what is signed."""
    signer, digest = Signer(SECRET), request_signing.digest_of(body)
    head = Head("double", "a", "b", p.door.life, LOG, signer.mark, p.clock.now_ms(), "0" * 16, 1, digest)
    return {HEADER: signer.header(msgspec.structs.replace(head, **fields))}


async def test_a_node_gets_an_answer_and_the_other_one_knows_who_asked() -> None:
    async with pair() as p:
        assert await p.ask(p.asker()) == Reply(42, "a")
        assert await p.ask(p.asker(), to="") == Reply(42, "a")


async def test_what_another_node_asks_counts_as_no_users_work() -> None:
    async with world() as w:
        p = Pair(w)
        asker = p.asker()
        w.server.turns.charge("user/1", 1.0)
        for _ in range(3):
            await p.ask(asker)
        assert w.server.turns.wait_s("user/1") == 0, "this user is alone"


async def test_what_a_handler_refuses_is_told_with_its_code() -> None:
    async with pair() as p:
        with pytest.raises(NodeRefused, match="only numbers from 0") as refused:
            await p.ask(p.asker(), -1)
        assert (refused.value.node, refused.value.code) == ("b", "negative")
        with pytest.raises(NodeRefused) as failed:
            await p.ask(p.asker(), 13)
        assert failed.value.code == "failed"
        assert "canary" not in str(failed.value)
        with pytest.raises(NodeRefused, match="version") as unknown:
            await p.ask(p.asker(), name="treble")
        assert unknown.value.code == "not_found"


async def test_what_is_no_text_is_refused_and_no_fault_of_either_node() -> None:
    async with pair() as p:
        with pytest.raises(NodeRefused, match="double") as refused:
            await p.asker().ask(p.url, "b", "double", Spoilt(), Reply)
        assert refused.value.code == "bad_message"
        with pytest.raises(NodeRefused, match="its answer has another form"):
            await p.asker().ask(p.url, "b", "spoil", Question(1), Reply)


async def test_a_node_with_another_master_key_is_refused_and_named() -> None:
    async with pair() as p:
        with pytest.raises(NodeRefused, match="the node b refused: it has another master key") as refused:
            await p.ask(p.asker(secret=b"x" * 32))
        assert refused.value.code == "wrong_key"
        assert p.asked == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": "c"}, "not_here"),
        ({"life": "f" * 16}, "other_life"),
        ({"life": ""}, "other_life"),
        ({"log": "log-2"}, "other_log"),
        ({"time_ms": WINDOW_MS}, "stale"),
    ],
)
async def test_a_request_for_another_node_log_or_time_is_refused(fields: dict[str, Any], code: str) -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        headers = signed(p, b"\x81\xa6number\x01", **fields)
        answer = await c.post(f"{p.url}/nodes/double", headers=headers, content=b"\x81\xa6number\x01")
        assert msgspec.msgpack.decode(answer.content)["code"] == code
        assert p.asked == 0


async def test_a_clock_that_is_five_minutes_off_is_no_hindrance() -> None:
    async with pair() as p:
        for ahead_s in (-300, 300):
            assert (await p.ask(p.asker(ahead_s=ahead_s, node=f"a{ahead_s}"))).asked_by == f"a{ahead_s}"


async def test_the_same_request_is_answered_once() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        headers, body = signed(p, b"\x81\xa6number\x01"), b"\x81\xa6number\x01"
        assert (await c.post(f"{p.url}/nodes/double", headers=headers, content=body)).status_code == 200
        again = await c.post(f"{p.url}/nodes/double", headers=headers, content=body)
        assert msgspec.msgpack.decode(again.content)["code"] == "replayed"
        assert p.asked == 1


async def test_a_request_that_came_before_a_restart_is_refused_after_it() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        headers, body = signed(p, b"\x81\xa6number\x01"), b"\x81\xa6number\x01"
        assert (await c.post(f"{p.url}/nodes/double", headers=headers, content=body)).status_code == 200
        p.restart()
        again = await c.post(f"{p.url}/nodes/double", headers=headers, content=body)
        assert msgspec.msgpack.decode(again.content)["code"] == "other_life"
        assert p.asked == 1


async def test_a_node_that_was_restarted_answers_the_next_question() -> None:
    async with pair() as p:
        asker = p.asker()
        assert await p.ask(asker) == Reply(42, "a")
        p.restart()
        assert await p.ask(asker, 4) == Reply(8, "a")
        assert p.asked == 2


async def test_a_changed_header_ends_the_signature() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        body = b"\x81\xa6number\x01"
        value = signed(p, body)[HEADER]
        for at in range(len(value)):
            changed = value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
            answer = await c.post(f"{p.url}/nodes/double", headers={HEADER: changed}, content=body)
            assert answer.status_code == 403
        assert p.asked == 0


async def test_a_changed_body_is_not_looked_into() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        headers = signed(p, b"\x81\xa6number\x01")
        answer = await c.post(f"{p.url}/nodes/double", headers=headers, content=b"\x81\xa6number\x02")
        assert (answer.status_code, p.asked) == (409, 0)


async def test_a_browser_is_refused_whatever_it_signs_and_gets_no_cors_headers() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        body = b"\x81\xa6number\x01"
        for more in ({"Origin": p.url}, {"Sec-Fetch-Mode": "cors"}):
            answer = await c.post(f"{p.url}/nodes/double", headers=signed(p, body) | more, content=body)
            assert answer.status_code == 403
            assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = {"Origin": p.url, "Access-Control-Request-Method": "POST"}
        preflight = await c.options(f"{p.url}/nodes/double", headers=asked)
        assert preflight.status_code == 405
        assert p.asked == 0


async def test_a_body_over_the_bound_is_refused_before_it_is_read() -> None:
    async with pair() as p, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as c:
        body = b"x" * (BODY_BYTES_MAX + 1)
        answer = await c.post(f"{p.url}/nodes/double", headers=signed(p, body), content=body)
        assert answer.status_code == 413


async def test_a_node_that_asks_without_pause_is_told_to_wait() -> None:
    async with world() as w:
        p = Pair(w)
        headers = [signed(p, number=number) for number in range(1, 4 * REQUESTS_PER_S + 2)]
        judged = [p.door.admit(_request(one), "double", "127.0.0.1") for one in headers]
        assert [hasattr(one, "principal") for one in judged].count(False) == 1


async def test_an_answer_that_nobody_signed_is_not_believed() -> None:
    async with world() as w:  # a service that is no node
        clock = FakeAmbient("a")
        asker = Asker(secret=SECRET, node="a", log_id=LOG, ambient=clock)
        with pytest.raises(NodeSilent, match="did not sign"):
            await asker.ask(f"http://127.0.0.1:{w.port}", "b", "double", Question(1), Reply)


@pytest.mark.parametrize("mac", ["\xff", "é" * 64])
def test_a_signature_that_is_no_ascii_is_a_wrong_one(mac: str) -> None:
    head = Head("double", "a", "b", "", LOG, "", 0, "", 1, "")
    assert not Signer(SECRET).answered(head, 200, b"", mac)
    assert not Signer(SECRET).signed(f"x.{mac}")


async def test_a_node_whose_url_cannot_be_asked_is_silent_and_fails_nobody() -> None:
    clock = FakeAmbient("a")
    asker = Asker(secret=SECRET, node="a", log_id=LOG, ambient=clock)
    async with world() as w:
        for url in (f"http://127.0.0.1:{w.port}/a b", f"http://a\x01b@127.0.0.1:{w.port}", "http://[", "b"):
            with pytest.raises(NodeSilent):
                await asker.ask(url, "b", "double", Question(1), Reply)


async def test_all_are_asked_at_once_and_who_did_not_answer_is_part_of_it() -> None:
    async with pair() as p:
        asker = p.asker()
        members = {
            name: Member(url=url, build="t", keys="k", beat=1, at_ms=0, applied=0)
            for name, url in {"a": "", "b": p.url, "c": "http://127.0.0.1:9", "gone": p.url}.items()
        }
        silent = {"gone": 11.0}
        peers = Peers(asker, p.door, members=lambda: members, silent_s=lambda node: silent.get(node, 0.0))
        said = await peers.ask_all("double", Question(4), Reply)
        assert said.answers == {"b": Reply(8, "a")}
        assert list(said.silent) == ["c"]
        with pytest.raises(NodeError):
            await peers.ask("nobody", "double", Question(4), Reply)


async def test_requests_may_overtake_each_other() -> None:
    async with pair() as p:
        asker = p.asker()
        found = await asyncio.gather(*(p.ask(asker, number) for number in range(20, 60)))
        assert [one.doubled for one in found] == [2 * number for number in range(20, 60)]


def _request(headers: dict[str, str]) -> Any:
    from huahuo.transport.http.messages import Request

    return Request("POST", "/nodes/double", {}, tuple(headers.items()))


OTHER = "http://web-2:8765"
STREAM = "user/42"


async def _nothing() -> None:
    """The work of this node."""


@asynccontextmanager
async def node(*others: str) -> AsyncIterator[tuple[World, Drain, list[bool]]]:
    """A node, its drain, and what it said of whether it is ready. `others` take clients."""
    async with _node(others) as (w, drain, ready, _):
        yield w, drain, ready


@asynccontextmanager
async def _node(others: Sequence[str]) -> AsyncIterator[tuple[World, Drain, list[bool], Duty]]:
    async with world() as w:
        duty = Duty(
            log=w.log, ambient=w.ambient, node="web-1", work=_nothing, rest=_nothing,
            tell=lambda beat: Member(url=w.url, build="1", keys="k", beat=beat, at_ms=0, applied=0),
        )  # fmt: skip

        async def where() -> Sequence[str]:
            return others

        ready: list[bool] = []
        drain = Drain(duty, w.hub, ready.append, where)
        await duty.start()
        try:
            yield w, drain, ready, duty
        finally:
            drain.stop()
            await duty.stop()


@asynccontextmanager
async def asked(gone: str = "web-3") -> AsyncIterator[World]:
    """A node that takes the commands of administrators, beside `gone`, whose machine is off."""
    async with _node([OTHER]) as (w, drain, _, duty):
        at = Member(
            url="http://127.0.0.1:1", build="1", keys="k", beat=1, at_ms=w.ambient.now_ms(), applied=0
        )
        await w.log.append(Append(ts_ms=1, rows=(members.put_member(gone, at),)))
        asker = Asker(secret=b"s" * 32, node="web-1", log_id=w.log.log_id, ambient=w.ambient)
        door = NodesDoor(secret=b"s" * 32, node="web-1", log_id=w.log.log_id, ambient=w.ambient)
        peers = Peers(asker, door, members=lambda: duty.members, silent_s=duty.silent_s)
        nobody = cast("Any", None)
        register_cluster_actions(
            w.registry, duty, peers, nobody, drain, nobody
        )  # here none trims or finalizes
        cluster_service.register_node_actions(w.registry, duty, None)
        yield w


async def _turned_away(w: World, who: Principal) -> str:
    """The reason that a client gets that signs in now."""
    async with raw(w.url, "huahuo.v1") as newcomer:
        await newcomer.say(action="authenticate", token=w.token(who))
        assert await newcomer.closed() == CloseCode.DRAINING
        return next(str(message["reason"]) for message in newcomer.seen if message["type"] == "goaway")


@pytest.mark.parametrize("place", ["own", "worker"])
async def test_clients_of_a_drained_node_and_newcomers_are_told_where_to_go(place: str) -> None:
    token = PLACE.set(place)
    try:
        async with node(OTHER) as (w, drain, ready), raw(w.url, "huahuo.v1") as there:
            await there.authenticate(w.token(ALICE))
            drained = await drain.set(undo=False)
            assert (drained.clients, ready) == (1, [False])
            assert await there.closed() == CloseCode.DRAINING
            assert OTHER in await _turned_away(w, ALICE)
            await drain.set(undo=True)
            async with raw(w.url, "huahuo.v1") as newcomer:
                await newcomer.authenticate(w.token(ALICE))
            assert ready == [False, True]
    finally:
        PLACE.reset(token)


async def test_a_reader_of_server_sent_events_is_told_too() -> None:
    async with node(OTHER) as (w, drain, _), client(f"http://127.0.0.1:{w.port}", w.token(ALICE)) as c:
        await drain.set(undo=False)
        async with reader(c, STREAM, after=0) as events:
            await events.until("goaway")
        assert OTHER in str(events.seen)


async def test_an_administrator_gets_in_to_take_the_node_back() -> None:
    async with node() as (w, drain, _):
        await drain.set(undo=False)
        async with raw(w.url, "huahuo.v1") as newcomer:
            await newcomer.authenticate(w.token(ROOT))
            await drain.set(undo=True)
            await newcomer.say(action="whatever", id="1")
            await newcomer.until("error")


async def test_who_drains_the_node_that_it_asks_gets_the_reply_and_stays() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as guest:
        await guest.authenticate(w.token(ALICE))
        await operator.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await guest.closed() == CloseCode.DRAINING
        await operator.say(action="drain_node", node="web-1", undo=True, id="2")
        await operator.until("drained")


async def test_who_drains_the_node_without_an_id_gets_the_reply_too() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT), client="cli")
        await operator.say(action="drain_node", node="web-1")
        await operator.until("drained")


async def test_others_without_a_name_are_told_where_the_one_who_drains_has_one() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as unnamed:
        await operator.authenticate(w.token(ROOT), client="cli")
        await unnamed.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await unnamed.closed() == CloseCode.DRAINING


async def test_other_connections_of_who_drains_a_node_are_told_and_may_come_back() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as tail:
        await operator.authenticate(w.token(ROOT), client="cli")
        await tail.authenticate(w.token(ROOT), client="tail")
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await tail.closed() == CloseCode.DRAINING
        async with raw(w.url, "huahuo.v1") as again:
            await again.authenticate(w.token(ROOT), client="tail")
            await operator.say(action="drain_node", node="web-1", undo=True, id="2")
            await operator.until("drained")


async def test_to_drain_a_node_that_is_down_is_refused_for_good_and_says_what_to_do() -> None:
    async with asked(gone="web-3") as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-3", id="1")
        refused = await operator.until("error")
        assert refused["code"] == "conflict"
        assert "the node web-3 at http://127.0.0.1:1 can't be reached" in refused["details"]
        assert refused["details"].endswith("if it will not come back: `huahuo cluster remove web-3`")


@pytest.mark.parametrize("action", ["drain_node", "remove_node"])
async def test_a_name_that_no_node_has_is_answered_by_those_that_there_are(action: str) -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT))
        await operator.say(action=action, node="web-9", id="1")
        refused = await operator.until("error")
        assert (refused["code"], refused["details"]) == ("not_found", "the nodes are web-1, web-3")


async def test_newcomers_are_sent_to_all_nodes_that_take_clients_in_turns() -> None:
    async with node(OTHER, "http://web-3:8765") as (w, drain, _):
        await drain.set(undo=False)
        told = {await _turned_away(w, ALICE) for _ in range(2)}
        assert told == {f"this node is drained: go to {url}" for url in (OTHER, "http://web-3:8765")}


async def test_where_no_node_takes_clients_none_is_named() -> None:
    async with node() as (w, drain, _):
        await drain.set(undo=False)
        assert await _turned_away(w, ALICE) == "this node is drained"
