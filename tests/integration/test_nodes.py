"""Nodes of one log: who may not take part, and what clients are told."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from huahuo.app import credentials, nodes
from huahuo.app.cluster_service import say_what_is_undone
from huahuo.app.config import Settings
from huahuo.app.foundation import open_sqlite
from huahuo.app.service_port import WaitingRoom
from huahuo.cli import maintenance
from huahuo.cli.maintenance import adopt
from huahuo.cluster import members, shared_facts
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import Member
from huahuo.cluster.shared_facts import Telling, Told
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import FakeAmbient, SystemAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.sequencer.port import InDoubt, Sequencer, Unreachable
from huahuo.eventstore.sqlite import log as replicas
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.http import client, reader
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.patience import WITHIN_S
from tests.support.servers.nats import PASSWORD, NatsServers, nats_servers
from tests.support.worlds.neighbours import neighbours
from tests.support.worlds.people import ALICE
from tests.support.worlds.sequencers import answered
from tests.support.worlds.wire import PLACE, World, world

MASTER_KEY, JWT_SECRET = "5a" * 32, "test-secret-that-is-long-enough-000000"


@pytest.fixture(scope="module")
def order() -> Iterator[NatsServers]:
    with nats_servers() as running:
        yield running


def settings(order: NatsServers, data: Path, log: str) -> Settings:
    return Settings(
        data=data,
        port=0,
        log=f"{order.url}?name={log}",
        master_key=MASTER_KEY,
        jwt_secret=JWT_SECRET,
        node="a",
    )


@contextlib.asynccontextmanager
async def opened(given: Settings) -> AsyncIterator[Log]:
    ambient = SystemAmbient()
    log = await open_sqlite(
        given, credentials.ensure_keys(given, ambient), ambient, WaitingRoom(given.host, 0)
    )
    try:
        yield log
    finally:
        await log.close()


def event(body: bytes = b"{}") -> Append:
    return Append(ts_ms=0, principal="service", events=(NewEvent("user/1", "ticked", body),))


async def test_an_empty_directory_takes_over_the_id_of_the_log(order: NatsServers, tmp_path: Path) -> None:
    async with opened(settings(order, tmp_path / "a", "takes")) as one:
        await one.append(event())
        other = msgspec.structs.replace(settings(order, tmp_path / "b", "takes"), node="b")
        async with opened(other) as log:
            replica = nodes.replica_of(log)
            assert replica is not None
            await replica.joined()
            assert (log.log_id, log.position) == (one.log_id, 1)


async def adopted(given: Settings) -> None:
    """Adopt the directory, again until the ordered log answers in time."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await adopt(given, SystemAmbient(), str)
            except HuahuoError as error:
                if not isinstance(error.__context__, InDoubt | Unreachable):
                    raise


async def trimmed(given: Settings) -> None:
    """Trim the log of `given` behind all that it has, as its nodes do."""
    async with opened(given) as log:
        replica = nodes.replica_of(log)
        assert replica is not None
        await replica.joined()
        for _ in range(4):
            await log.append(event())
        told = await answered(replica.tell_birth_again)
        await answered(lambda: replica.trim(told))


async def test_a_log_of_another_directory_is_refused_also_once_it_was_trimmed(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "c", "third")
    async with opened(given) as made:
        await made.append(event())
    await trimmed(settings(order, tmp_path / "d", "fourth"))
    with pytest.raises(ConfigError, match="is that of"):
        async with opened(msgspec.structs.replace(given, log=f"{order.url}?name=fourth")):
            pass


async def test_a_single_service_is_not_adopted_into_a_log_that_was_trimmed(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "e", "fifth")
    async with opened(msgspec.structs.replace(given, log="")) as log:
        await log.append(event())
    await trimmed(settings(order, tmp_path / "f", "fifth"))
    with pytest.raises(HuahuoError, match="in use already: use an empty one"):
        await adopted(given)


async def test_a_replica_is_opened_by_its_node_only(order: NatsServers, tmp_path: Path) -> None:
    given = settings(order, tmp_path / "a", "alone")
    async with opened(given) as log:
        await log.append(event())
    with pytest.raises(EventStoreError, match="replica of a log that several nodes share"):
        async with opened(msgspec.structs.replace(given, log="")):
            pass


async def test_a_directory_of_a_single_service_is_not_mixed_with_a_log(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "a", "mixed")
    async with opened(msgspec.structs.replace(given, log="")) as log:
        await log.append(event())
    with pytest.raises(EventStoreError, match="single service"):
        async with opened(given):
            pass


async def test_an_adopted_directory_may_hold_what_any_service_takes(
    order: NatsServers, tmp_path: Path
) -> None:
    largest = event(b'"' + b"x" * (EVENT_BYTES_MAX - 2) + b'"')
    given = settings(order, tmp_path, "large")
    async with opened(msgspec.structs.replace(given, log="")) as single:
        await single.append(largest)
    await adopted(given)
    async with opened(given) as log:
        await log.append(largest)
        assert [len(one.body) for one in await log.read("user/1", 0, events_max=9, bytes_max=9 << 20)] == [
            EVENT_BYTES_MAX
        ] * 2


@pytest.mark.parametrize("used", [False, True])
async def test_a_birth_that_a_slow_log_put_in_order_twice_is_no_use_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    given = Settings(data=tmp_path, port=0, master_key=MASTER_KEY, jwt_secret=JWT_SECRET, node="a")
    async with opened(given) as single:
        await single.append(event())
    order = MemoryOrder()

    async def slow(*_: object) -> Sequencer:
        return Twice(order, b"of somebody else" if used else b"")

    monkeypatch.setattr(maintenance, "sequencer_of", slow)
    given = msgspec.structs.replace(given, log="nats://127.0.0.1")
    with pytest.raises(HuahuoError, match="in use already") if used else contextlib.nullcontext():
        await adopt(given, SystemAmbient(), str)
    assert replicas.is_replica(tmp_path) is not used
    assert order.last == (3 if used else 2)


class Twice(MemorySequencer):
    """One that was asked for each proposal again before it answered."""

    def __init__(self, order: MemoryOrder, more: bytes) -> None:
        super().__init__(order)
        self._more = more

    async def propose(self, proposal: bytes) -> int:
        first = await super().propose(proposal)
        await super().propose(proposal)
        if self._more:
            await super().propose(self._more)
        return first


async def test_an_event_that_no_service_takes_is_named_and_not_adopted(
    order: NatsServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(order, tmp_path, "over")
    async with opened(msgspec.structs.replace(given, log="")) as single:
        await single.append(event(b'"' + b"x" * 100 + b'"'))
    monkeypatch.setattr(maintenance, "EVENT_BYTES_MAX", 100)
    with pytest.raises(HuahuoError, match=r"the event 1 \(ticked of user/1\) has 102 bytes"):
        await adopt(given, SystemAmbient(), str)


async def test_a_directory_that_differed_is_refused_until_it_is_made_anew(
    order: NatsServers, tmp_path: Path
) -> None:
    given = settings(order, tmp_path / "a", "differs")
    async with opened(given) as log:
        await log.append(event())
        replica = nodes.replica_of(log)
        assert replica is not None
        replica.differed("the history of this node differs from that of b")
    with pytest.raises(
        ConfigError, match=r"differs from that of b; .*first keep a copy.* Only then empty .* fetches a copy"
    ):
        async with opened(given):
            pass
    shutil.rmtree(tmp_path / "a")
    async with opened(given) as log:
        await until_applied(log)
        assert log.position == 1


async def until_applied(log: Log) -> None:
    replica = nodes.replica_of(log)
    assert replica is not None
    await replica.joined()


def test_a_node_makes_no_keys(order: NatsServers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="huahuo cluster keys"):
        credentials.ensure_keys(Settings(data=tmp_path / "a", log=order.url), SystemAmbient())


@pytest.mark.parametrize("log", ["mysql://a:{}@b", "nats://a:{}@b?colour=red", "nats://a:{}@127.0.0.1:1x"])
async def test_a_bad_address_is_refused_without_its_password(tmp_path: Path, log: str) -> None:
    given = Settings(data=tmp_path, log=log.format(PASSWORD), master_key=MASTER_KEY, jwt_secret=JWT_SECRET)
    with pytest.raises(ConfigError) as refused:
        async with opened(given):
            pass
    assert PASSWORD not in f"{refused.value}{given!r}"


def test_a_node_has_one_name_for_good(tmp_path: Path) -> None:
    first = nodes.node_name(Settings(data=tmp_path / "a"), SystemAmbient())
    assert nodes.node_name(Settings(data=tmp_path / "a"), SystemAmbient()) == first
    assert nodes.node_name(Settings(data=tmp_path / "a", node="web-1"), SystemAmbient()) == "web-1"
    with pytest.raises(ConfigError, match="not the name of a node"):
        nodes.node_name(Settings(data=tmp_path / "a", node="no spaces"), SystemAmbient())


def test_a_node_that_listens_everywhere_announces_the_name_of_its_machine() -> None:
    name = socket.gethostname()
    assert (
        nodes.reachable("http://0.0.0.0:8765") == nodes.reachable("http://[::]:8765") == f"http://{name}:8765"
    )
    assert nodes.reachable("http://10.0.0.7:8765") == "http://10.0.0.7:8765"
    assert nodes.reachable("") == ""


async def test_a_node_that_does_not_listen_yet_is_told_later_and_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_facts, "AGAIN_S", 0.0)
    clock = FakeAmbient()
    async with neighbours({"a": clock, "b": clock}) as [a, b]:
        here, there = (Telling(one.peers, clock, lambda _user, _client: None) for one in (a, b))
        listening = a.members["b"]
        a.members["b"] = replace(listening, url="")
        failed, often = [0], asyncio.Event()
        fails = here.presence.failed

        def failed_again(node: str, told: Told) -> None:
            fails(node, told)
            failed[0] += 1
            if failed[0] == 3:
                often.set()

        monkeypatch.setattr(here.presence, "failed", failed_again)
        with capture_logs() as said:
            here.start()
            async with asyncio.timeout(WITHIN_S):
                await often.wait()
                here.joined(7, "dev")
                a.members["b"] = listening
                while not there.count(7, ""):  # noqa: ASYNC110  a probe of another node
                    await asyncio.sleep(0.01)
        assert [one for one in said if one["event"] == "node_not_told"] == []
        await here.stop()
        await there.stop()


async def test_work_that_no_node_does_is_told_to_who_watches_the_node() -> None:
    async with world() as w, client(f"http://127.0.0.1:{w.port}") as http:

        def said(beat: int) -> Member:
            now_ms = w.ambient.now_ms()
            return Member(url="", build="1", keys="k", beat=beat, at_ms=now_ms, applied=0)

        async def work() -> None:
            raise ConfigError("the effect order/ship is not known")

        async def rest() -> None:
            pass

        died = replace(said(1), divides=members.DIVISION)  # a moment ago
        await w.log.append(Append(ts_ms=1, rows=(members.put_member("died", died),)))
        duty = Duty(log=w.log, ambient=w.ambient, node="here", work=work, rest=rest, tell=said)
        w.site.told = lambda: "disk low"
        say_what_is_undone(duty, w.metrics, w.site)
        assert (await http.get("/readyz")).text == "ready; disk low\n"
        assert b"huahuo_work_undone 0.0\n" in w.metrics_text
        await duty.start()
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert answer.text == (
            "ready; no node does effects, timers and the rest of the work:"
            " the effect order/ship is not known; disk low\n"
        )
        assert b"huahuo_work_undone 1.0\n" in w.metrics_text
        await duty.stop()


STREAM = "user/42"
TEXT = {"Content-Type": "text/plain"}


class Elsewhere:
    """What another node wrote: this one gets it when it asks, unless the ordered log is `away`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.away = False
        self.asked = 0
        self.world: World | None = None

    async def __call__(self, places: Sequence[tuple[str, int]]) -> bool:
        assert self.world is not None
        if all(seq <= self.world.log.head(stream).seq for stream, seq in places):
            return True
        self.asked += 1
        if not self.away and self.texts:
            await self.world.append(STREAM, *self.texts)
            self.texts.clear()
        return not self.away


@asynccontextmanager
async def node() -> AsyncIterator[tuple[World, Elsewhere, httpx.AsyncClient]]:
    """A node whose log has one event of the stream."""
    elsewhere = Elsewhere()
    async with world(catch_up=elsewhere) as w, client(f"http://127.0.0.1:{w.port}", w.token(ALICE)) as c:
        elsewhere.world = w
        await w.append(STREAM, "a")
        yield w, elsewhere, c


async def test_a_page_behind_what_another_node_showed_waits_for_it() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.texts = ["b", "c"]
        page = (await c.get(f"/streams/{STREAM}", params={"after": 2})).json()
        assert (page["outcome"], [event["text"] for event in page["events"]]) == ("resumed", ["c"])


async def test_a_page_is_never_a_reset_while_the_node_cannot_find_out() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.away = True
        page = await c.get(f"/streams/{STREAM}", params={"after": 2, "wait": 1})
        assert (page.status_code, page.json()["code"]) == (503, "unavailable")
        assert int(page.headers["retry-after"]) >= 1


async def test_a_page_is_a_reset_if_the_log_itself_is_shorter() -> None:
    async with node() as (_, elsewhere, c):
        page = (await c.get(f"/streams/{STREAM}", params={"after": 9})).json()
        assert page["outcome"] == "reset"
        assert elsewhere.asked == 1


async def test_a_reader_of_server_sent_events_waits_or_is_sent_elsewhere() -> None:
    async with node() as (w, elsewhere, c):
        elsewhere.texts = ["b", "c"]
        async with reader(c, STREAM, f"{w.log.log_id}:2", after=0) as events:
            assert await events.texts(1) == ["c"]
        elsewhere.away = True
        refused = await c.get(
            f"/streams/{STREAM}", params={"after": 9}, headers={"Accept": "text/event-stream"}
        )
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1


async def test_an_ack_of_what_another_node_showed_counts() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.texts = ["b"]
        said = {"client": "dev", "cursors": {STREAM: 2}}
        assert (await c.post("/acks", json=said)).status_code == 204
        assert (await c.post("/acks", json=said | {"cursors": {STREAM: 3}})).status_code == 400
        elsewhere.away = True
        assert (await c.post("/acks", json=said | {"cursors": {STREAM: 3}})).status_code == 503


async def test_an_offset_that_another_node_gave_is_not_taken_for_an_earlier_one() -> None:
    async with node() as (_, elsewhere, c):
        path = f"/ds/{STREAM}"
        elsewhere.texts = ["b", "c"]
        page = await c.get(path, params={"offset": f"{2:016d}"})
        assert [event["text"] for event in page.json()] == ["c"]
        elsewhere.away = True
        for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
            refused = await c.get(path, params={"offset": f"{9:016d}", **live})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1


async def test_a_stream_under_ds_is_not_missing_while_the_node_cannot_find_out() -> None:
    async with node() as (_, elsewhere, c):
        path = f"/ds/{STREAM}/answer"
        assert (await c.get(path)).status_code == 404
        elsewhere.away = True
        assert (await c.get(path)).status_code == 503
        assert (await c.post(path, headers=TEXT, content="x")).status_code == 503


@pytest.mark.parametrize("place", ["own", "worker"])
async def test_a_websocket_waits_or_is_sent_elsewhere_also_on_a_worker(place: str) -> None:
    token = PLACE.set(place)
    try:
        async with node() as (w, elsewhere, _):
            elsewhere.texts = ["b", "c"]
            resume = {"cursors": {STREAM: 2}, "log": w.log.log_id}
            async with raw(w.url, "huahuo.v1") as first:
                await first.authenticate(w.token(ALICE), resume=resume)
                assert await _texts(first, 1) == ["c"]
            elsewhere.away = True
            async with raw(w.url, "huahuo.v1") as second:
                resume["cursors"] = {STREAM: 9}
                await second.say(action="authenticate", token=w.token(ALICE), resume=resume)
                assert await second.closed() == CloseCode.DRAINING
                assert "reset" not in str(second.seen)
    finally:
        PLACE.reset(token)


async def _texts(client: RawClient, count: int) -> list[str]:
    while len(client.events(STREAM)) < count:
        await client.next()
    return [event["text"] for _, event in client.events(STREAM)]
