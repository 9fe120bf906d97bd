"""A real server over the in-memory log, with one clock that the test moves, and a test domain's commands."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, cast

import httpx
import msgspec
import uvicorn

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import Action, HttpRoute, Registry, Tongue
from huahuo.actors.plugins.calls import Call, Parted, Principal, Refusal, Reply, error_reply, from_record
from huahuo.eventstore.ambient import FakeAmbient, json_bytes, rfc3339
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import Append, CommandRecord, Duplicate, NewEvent
from huahuo.replay.feed import CatchUp, Feed
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.durable_streams.serving import DurableStreams
from huahuo.transport.http.api import Api
from huahuo.transport.http.asgi import AsgiTransport
from huahuo.transport.http.native import NativeHttp
from huahuo.transport.http.site import Asset, Phase, Site
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.protocol.dialects import Compression
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.connection import Connection
from huahuo.transport.server.hub import CONNECTIONS_PER_USER, Hub
from huahuo.transport.server.server import Server
from huahuo.transport.wire.connection_ref import ConnectionRef
from huahuo.transport.wire.ports import LiveConnection
from huahuo.transport.workers.channel import Manners, WorkerPort
from huahuo.transport.workers.desk import Desk, tell_commits
from huahuo.transport.workers.owner import Owner
from huahuo.transport.workers.worker import Taker, Worker
from tests.support.drivers.http import client
from tests.support.models.faulty_log import FaultyLog
from tests.support.patience import WITHIN_S
from tests.support.worlds.compressed import dictionary
from tests.support.worlds.people import ALICE

SECRET = b"a secret of at least thirty-two bytes"
MASTER_KEY = bytes(range(32))


class Note(msgspec.Struct, frozen=True):
    """What the test's own command `note` takes: `text` becomes `count` events of the user's stream."""

    text: str
    count: int = 1
    email_id: int = 0


class World:
    """A server and everything behind it. `ambient` is the clock of deadlines and tokens."""

    def __init__(self, settings: TransportSettings, disk: ModelDisk, ambient: FakeAmbient) -> None:
        self.settings = settings
        self.disk = disk
        self.ambient = ambient
        self.auth = Authenticator(SECRET)
        self.metrics = Metrics()
        self.executed = 0
        self.queried = 0
        self.hold: asyncio.Event | None = None
        """Where set, `note` waits for it between its append and its reply."""
        self.unspeakable = False
        """Whether the answer to `note` is one of which no message can be made."""
        self.snapshot_fault: Exception | None = None
        self.before_snapshot: Callable[[], object] = lambda: None
        self.parted: Parted | None = None
        """Where set, the state of `user/…` and the answer to `echo`."""
        self.port = 0
        self.dictionary = b""
        self.tail_events_max = 65_536
        self.proxies: tuple[str, ...] = ()
        self.log: FaultyLog
        self.feed: Feed
        self.hub: Hub
        self.door: AddressDoor
        self.gate: Gate
        self.runtime: Runtime
        self.server: Server
        self.publisher: Publisher
        self.registry: Registry
        self.api: Api
        self.site: Site
        self.worker: Worker | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def token(self, who: Principal = ALICE, ttl_s: float = 3600, jti: str = "") -> str:
        return self.auth.mint(who, now_ms=self.ambient.now_ms(), ttl_s=ttl_s, jti=jti)

    @property
    def connections(self) -> list[Connection]:
        """The objects behind the open connections: tests look at state that users cannot see."""
        refs = [ref for ref in self.ticked if isinstance(ref, ConnectionRef)]
        return [actor for ref in refs if isinstance(actor := ref.actor_inbox.actor, Connection)]

    @property
    def delivering(self) -> Server:
        """The server that has the WebSockets: this one, or its worker's."""
        return self.server if self.worker is None else self.worker.server

    @property
    def metrics_text(self) -> bytes:
        """The metrics of the server that has the WebSockets."""
        return (self.metrics if self.worker is None else self.worker.metrics).text()

    @property
    def ticked(self) -> tuple[LiveConnection, ...]:
        """All open WebSockets, of this server or of its worker."""
        theirs = () if self.worker is None else self.worker.hub.connections
        return (*self.hub.connections, *theirs)

    async def append(self, stream: str, *texts: str, kind: str = "noted", **more: Any) -> int:
        """Append one event for each text and return the last seq."""
        now = self.ambient.now_ms()
        events = tuple(NewEvent(stream, kind, event_body(kind, text, now)) for text in texts)
        await self.log.append(Append(ts_ms=now, events=events, **more))
        return self.log.head(stream).seq

    def look_at_those_who_rest(self) -> None:
        """Whatever ends a connection's rest has told the wheel: else it would be ticked late."""
        assert all(one.at_rest for one in self.connections if one.rests_until_s)

    def tick(self, seconds: float) -> None:
        """Let time go by, and let every connection notice."""
        self.look_at_those_who_rest()
        self.ambient.advance(seconds)
        for connection in self.ticked:
            connection.tick(self.ambient.monotonic_s())

    async def note(self, call: Call[Note]) -> Reply:
        self.executed += 1
        if call.params.text == "refuse":
            return error_reply(Refusal("not_found", "没有"))
        if call.params.text == "crash":
            raise RuntimeError("canary-in-exception")
        stream, now = call.principal.name, self.ambient.now_ms()
        body = json_bytes({"type": "success", "message": "ok", "n": self.executed})
        record = None if call.key is None else CommandRecord(call.key, call.fingerprint, body, stream)
        texts = [call.params.text] * call.params.count
        done = await self.log.append(
            Append(
                ts_ms=now,
                events=tuple(NewEvent(stream, "noted", event_body("noted", text, now)) for text in texts),
                command=record,
                principal=call.principal.name,
                command_id=call.command_id,
            )
        )
        if self.hold is not None:
            await self.hold.wait()
        if self.unspeakable:
            return Reply(body, (stream, cast("int", object())), recorded=True)
        if isinstance(done, Duplicate):
            return from_record(done.command)
        return Reply(body, (stream, done.seq_of(stream)), recorded=record is not None)

    async def query(self, call: Call[Note]) -> Reply:
        self.queried += 1
        if self.parted is not None:
            return Reply(b'{"type":"echo"}', parted=self.parted)
        return Reply(json_bytes({"type": "echo", "text": call.params.text * call.params.count}))

    async def state(self, stream: str) -> tuple[int, bytes | Parted]:
        self.before_snapshot()
        if self.snapshot_fault is not None:
            raise self.snapshot_fault
        return self.log.head(stream).seq, self.parted or json_bytes({"emails": []})


def event_body(kind: str, text: str, ms: int) -> bytes:
    return json_bytes({"type": kind, "text": text, "timestamp": rfc3339(ms)})


@asynccontextmanager
async def world(
    settings: TransportSettings | None = None,
    *,
    disk: ModelDisk | None = None,
    ambient: FakeAmbient | None = None,
    tail_events_max: int = 65_536,
    door: AddressDoor | None = None,
    connections_per_user: int = CONNECTIONS_PER_USER,
    compression: Compression | None = None,
    assets: Mapping[str, Asset] | None = None,
    routes: Sequence[HttpRoute] = (),
    tongues: Sequence[Tongue] = (),
    catch_up: CatchUp | None = None,
) -> AsyncIterator[World]:
    """A running server. The same `disk` again is the same log after a restart."""
    made = World(settings or TransportSettings(), disk or ModelDisk(), ambient or FakeAmbient(7))
    made.tail_events_max = tail_events_max
    made.log = log = await FaultyLog.open(made.disk, ambient=made.ambient, master_key=MASTER_KEY, build="t")
    made.feed = feed = Feed(log, tail_events_max=tail_events_max)
    feed.catch_up = catch_up
    made.door = door or AddressDoor()
    made.runtime = runtime = Runtime(asyncio.get_running_loop(), ambient=made.ambient)
    made.hub = hub = Hub(
        log,
        made.ambient,
        revocations=made.auth.revocations,
        connections_per_user=connections_per_user,
    )
    made.registry = registry = Registry()
    registry.command(Action("note", Note, made.note))
    registry.command(Action("echo", Note, made.query, query=True, compressible=True))
    registry.snapshot("user", made.state)
    registry.tongues += tongues
    made.publisher = Publisher(log, made.ambient, registry)
    made.publisher.register()
    site = Site(log, made.ambient, made.metrics, assets or {})
    site.phase = Phase.READY
    made.site = site
    made.gate = Gate(log, made.ambient)
    made.server = server = Server(
        settings=made.settings,
        log=log,
        feed=feed,
        registry=registry,
        gate=made.gate,
        hub=hub,
        door=made.door,
        verifier=made.auth,
        metrics=made.metrics,
        runtime=runtime,
        ambient=made.ambient,
        fingerprint_key=b"k" * 32,
        compression=compression,
    )
    made.dictionary = b"" if compression is None else dictionary().data
    made.proxies = tuple(map(str, made.door.trusted))
    made.api = api = Api(server, site, log=log, acked=hub.acked, limit=site.limit, routes=routes)
    api.serve_durable_streams(DurableStreams(server.wires, log, api.arrivals))
    server.plain = NativeHttp(server, api)
    await hub.start()
    try:
        async with _PLACES[PLACE.get()](made):
            yield made
            made.look_at_those_who_rest()
    finally:
        await server.drain(2)
        await hub.stop()
        await runtime.stop()
        feed.close()
        await log.close()


PLACE: ContextVar[str] = ContextVar("place", default="own")
"""Who has the port of `world`: "own" is itself, "asgi" an ASGI server (uvicorn), "worker" a worker of it."""


@asynccontextmanager
async def _on_its_own_port(made: World) -> AsyncIterator[None]:
    made.port = await made.server.start("127.0.0.1", 0)
    try:
        yield
    finally:
        made.api.close()
        await made.server.drain(2)


class QuietUvicorn(uvicorn.Server):
    """Leaves the signals of the process to the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def in_uvicorn(
    application: Any, end: Callable[[], Awaitable[None]] | None = None, **settings: Any
) -> AsyncIterator[int]:
    """Its port. `end`: what is awaited before it stops."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            application, log_config=None, ws="websockets-sansio", ws_per_message_deflate=False, **settings
        )
        other = QuietUvicorn(config)
        serving = asyncio.create_task(other.serve([listening]))
        await until(lambda: other.started)
        try:
            yield int(listening.getsockname()[1])
        finally:
            if end is not None:
                await end()
            other.should_exit = True
            await serving


@asynccontextmanager
async def _inside_another(made: World) -> AsyncIterator[None]:
    made.server.begin()
    inside = AsgiTransport(made.server, made.api)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await (inside.http if scope["type"] == "http" else inside.websocket)(scope, receive, send)

    async def end() -> None:
        made.api.close()
        await made.server.drain(2)

    async with in_uvicorn(application, end, lifespan="off", ws_max_size=1 << 25, server_header=False) as port:
        made.port = port
        yield


@asynccontextmanager
async def _at_a_worker(made: World) -> AsyncIterator[None]:
    """The worker is in this process, and all else is as between two: the sockets and what goes over them."""
    made.server.begin()
    owner = Owner(
        log=made.log, feed=made.feed, registry=made.registry, gate=made.gate, hub=made.hub, door=made.door,
        verifier=made.auth, server=made.server, metrics=made.metrics, ambient=made.ambient,
        fingerprint_key=b"k" * 32, judges_others=False,
        manners=Manners(
            settings=made.settings, dictionary=made.dictionary, language="zh", trusted_proxies=made.proxies,
            tail_events_max=made.tail_events_max, tail_bytes_max=64 << 20, log_level="info", log_json=False,
        ),
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    taking, giving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving: set[asyncio.Task[None]] = set()

    def serve(sock: socket.socket, data: bytes) -> None:
        serving.add(asyncio.get_running_loop().create_task(made.server.handshakes.adopt(sock, data)))

    taker, ready = Taker(taking, serve), asyncio.Event()
    desk = Desk(owner, ready=ready.set, lost=lambda: None)
    made.worker = worker = Worker(made.ambient, InlineExecutor(), lambda _hello: None)
    unlisten = tell_commits(made.log, lambda: [desk])
    made.server.rejudging.also = lambda *whom: desk.channel.say(WorkerPort.rejudge, *whom)
    listening = socket.create_server(("127.0.0.1", 0))
    made.port = listening.getsockname()[1]
    try:
        await desk.channel.open(ours)
        desk.greet(1)
        await worker.start(theirs, giving, [listening])
        await ready.wait()
        yield
    finally:
        made.api.close()
        await worker.drain(2)
        await made.server.drain(2)
        unlisten()
        desk.channel.close()
        taker.close()
        giving.close()


_PLACES = {"own": _on_its_own_port, "asgi": _inside_another, "worker": _at_a_worker}


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; for facts inside the server that nothing announces."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)


def http(w: World, who: Principal | None = ALICE, ttl_s: float = 3600) -> httpx.AsyncClient:
    """A client over HTTP of this user, or of nobody."""
    return client(f"http://127.0.0.1:{w.port}", None if who is None else w.token(who, ttl_s))
