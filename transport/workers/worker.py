"""A worker: a server of WebSockets whose log, limits, commands and rights are its owner's.

New sockets (`Usher`): WebSockets of usual clients stay here, all others are given to the owner, whose
`Taker` takes them. The owner has the site, the API over HTTP, the classic clients' interpreters and the
texts of all refusals, so whatever is not a usual handshake of an admitted client goes there, with the
bytes that were read.

Metrics of several processes become one text: a worker sends its samples, the owner labels and merges them.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import msgspec
import structlog
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply, UserId
from huahuo.actors.plugins.words import Language, Words
from huahuo.eventstore.ambient import Ambient, AwakeAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.zstd_frames import Dictionary
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Entry, origin_allowed
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.load.shares import Shares
from huahuo.transport.protocol.dialects import DOCUMENT, Compression
from huahuo.transport.server.presence import Presence
from huahuo.transport.server.server import Server
from huahuo.transport.wire.lobby import Asked, Greeting, understood
from huahuo.transport.workers.channel import (
    Channel,
    Columns,
    Hello,
    OwnerFailed,
    OwnerPort,
    Positions,
    WorkerPort,
)
from huahuo.transport.workers.owner_proxies import (
    RemoteDoor,
    RemoteGate,
    RemoteHub,
    RemoteLog,
    RemoteVerifier,
    asks_of,
    judge_of,
    presence_of,
    snapshots_of,
    tells_presence,
)

LABEL: Final = "worker"

type _Sample = tuple[str, dict[str, str], float]
type _Family = tuple[str, str, str, list[_Sample]]

_FAMILIES: Final = msgspec.msgpack.Decoder(list[_Family])


def metric_samples(metrics: Metrics) -> bytes:
    """The metrics of this process, for `merged`."""
    families = [
        (
            family.name,
            family.documentation,
            family.type,
            [(one.name, dict(one.labels), float(one.value)) for one in family.samples],
        )
        for family in metrics.registry.collect()
    ]
    return msgspec.msgpack.encode(families)


class _Merged(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged_metrics(own: Metrics, of_workers: Mapping[int, bytes | None]) -> bytes:
    """One text: the owner's samples as they are, and those of each worker with the label `worker`.

    None: that worker did not answer, so only `huahuo_worker_up` tells of it.
    """
    families = {family.name: family for family in own.registry.collect()}
    up = Metric("huahuo_worker_up", "Whether a worker answered this scrape.", "gauge")
    for number, encoded in of_workers.items():
        labels = {LABEL: str(number)}
        up.add_sample(up.name, labels, float(encoded is not None))
        for name, text, kind, samples in _FAMILIES.decode(encoded) if encoded is not None else ():
            family = families.get(name)
            if family is None:
                family = families[name] = Metric(name, text, kind)
            for sample, more, value in samples:
                family.add_sample(sample, more | labels, value)
    return generate_latest(_Merged([*families.values(), up]))


GIVING_MAX: Final = 4096
"""Sockets that wait to be given to the owner. Beyond that, a socket is closed."""
_READ_MAX: Final = 512 << 10
"""What may have been read of one: more than a single read of the event loop."""


class Giver:
    """Gives sockets to the owner over a second Unix socket: each goes with the bytes that were read of it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _READ_MAX)
        self._sock = sock
        self._waiting: deque[tuple[int, bytes]] = deque()

    def give(self, transport: asyncio.Transport, data: bytes) -> None:
        """Give away the socket of `transport`, of which `data` was read."""
        theirs = cast("socket.socket | None", transport.get_extra_info("socket"))
        if theirs is not None and len(self._waiting) < GIVING_MAX:
            self._waiting.append((socket.dup(theirs.fileno()), data))
            self._flush()
        transport.abort()  # closes our descriptor; the connection lives on by the other one

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            descriptor, data = self._waiting[0]
            try:
                socket.send_fds(self._sock, [data], [descriptor])
            except BlockingIOError:
                loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                _log.warning("socket_not_given", reason=str(error))
            self._waiting.popleft()
            socket.close(descriptor)
        loop.remove_writer(self._sock)


class Taker:
    """The owner's end: gets sockets and the bytes that were read of them."""

    def __init__(self, sock: socket.socket, serve: Callable[[socket.socket, bytes], Any]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._serve = serve
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def close(self) -> None:
        """The worker is gone."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, _READ_MAX, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                asyncio.get_running_loop().remove_reader(self._sock)
                return
            for descriptor in descriptors:
                self._serve(socket.socket(fileno=descriptor), data)


class Usher:
    """Implements `lobby.Greeter`."""

    def __init__(
        self,
        server: Server,
        door: RemoteDoor,
        giver: Giver,
        *,
        origins: tuple[str, ...],
        has_tongues: bool,
    ) -> None:
        self._server = server
        self._door = door
        self._giver = giver
        self._origins = origins
        self._has_tongues = has_tongues
        self._asking: set[asyncio.Task[None]] = set()

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """See `lobby.Greeter`."""
        asked = understood(data)
        if asked is None or not self._serves(asked):
            self._giver.give(greeting.transport, data)
            return
        greeting.transport.pause_reading()  # what the client sends now must wait for the socket's protocol
        task = asyncio.get_running_loop().create_task(self._ask(greeting, asked, data))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _serves(self, asked: Asked) -> bool:
        """Whether this is a client that a worker can serve, on a page that may connect."""
        dialect = self._server.handshakes.negotiate(asked.offered).dialect
        if dialect is None or (dialect is DOCUMENT and self._has_tongues):
            return False
        return self._server.is_serving() and origin_allowed(asked.origins, asked.hosts, self._origins)

    async def _ask(self, greeting: Greeting, asked: Asked, data: bytes) -> None:
        transport = greeting.transport
        address = self._server.admission.address(transport, asked.forwarded_for)
        try:
            entry = await self._door.ask(address)
        except (EventStoreError, OwnerFailed):
            transport.abort()
            return
        if entry is Entry.REFUSED:
            self._giver.give(transport, data)  # the owner's door refuses it again, and writes why
        elif transport.is_closing():
            self._door.leave(address)
        else:
            self._server.handshakes.welcome(transport, asked, data[asked.size_bytes :], address, entry)
            transport.resume_reading()


BEAT_S: Final = 1.0
LOOK_AGAIN_S: Final = 5.0
"""From a pruning until the heads are asked for again. Until then a reader of what is gone is told so
when it gets there, and not when it subscribes.
"""

_log = structlog.get_logger(__name__)


class Worker(WorkerPort):
    """See the module. `configure` is called with the first message, before anything is served.

    `awake`: see `Wheel`.
    """

    def __init__(
        self,
        ambient: Ambient,
        executor: Executor,
        configure: Callable[[Hello], None],
        *,
        awake: AwakeAmbient | None = None,
    ) -> None:
        self._ambient = ambient
        self._awake = awake
        self._executor = executor
        self._configure = configure
        self.channel = Channel(WorkerPort, self, lost=self._lost, now_s=ambient.monotonic_s)
        self.gate = RemoteGate(self.channel)
        self.metrics = Metrics()
        self._listeners: list[socket.socket] = []
        self._giving: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating: asyncio.TimerHandle | None = None
        self._looks = False
        self._presence: Presence | None = None
        self.over = asyncio.Event()
        """Set when it has nothing more to do: it was drained, or its owner is gone."""

    async def start(self, pipe: socket.socket, giving: socket.socket, listeners: list[socket.socket]) -> None:
        """Meet the owner. It serves once the owner has said hello."""
        self._giving, self._listeners = giving, listeners
        await self.channel.open(pipe)

    def hello(self, hello: Hello) -> None:
        """See `WorkerPort`."""
        self._configure(hello)
        assert self._giving is not None, "`start` comes first"
        channel, ambient, manners = self.channel, self._ambient, hello.manners
        self.log = log = RemoteLog(channel, hello.log_id, hello.position, hello.chain)
        self.feed = feed = Feed(
            log.as_log, tail_events_max=manners.tail_events_max, tail_bytes_max=manners.tail_bytes_max
        )
        feed.catch_up = log.catch_up if hello.shared_log else None
        self.hub = hub = RemoteHub(channel, ambient, self._awake)
        self.runtime = runtime = Runtime(asyncio.get_running_loop(), ambient=ambient)
        self.compression = Compression(Dictionary.of(manners.dictionary) if manners.dictionary else None)
        turns = Turns(Shares(), ambient.monotonic_s, process_s=ambient.process_s)
        door = RemoteDoor(channel, manners.trusted_proxies)
        self.server = server = Server(
            settings=manners.settings,
            log=log.as_log,
            feed=feed,
            registry=_registry(hello, channel),
            gate=self.gate,
            hub=hub,
            door=door,
            verifier=RemoteVerifier(channel),
            metrics=self.metrics,
            runtime=runtime,
            ambient=ambient,
            fingerprint_key=hello.fingerprint_key,
            compression=self.compression,
            executor=self._executor,
            turns=turns,
            may_read=judge_of(channel) if hello.judges_others else None,
            language=cast("Language", manners.language) if manners.language else None,
            knows=log.knows,
            ask=asks_of(channel),
        )
        log.is_read = server.fanout.watches
        self._presence = presence = server.wires.presence
        presence.fill = presence_of(channel)
        presence.sinks["owner"] = tells_presence(channel)
        server.handshakes.usher = Usher(
            server,
            door,
            Giver(self._giving),
            origins=manners.settings.origins,
            has_tongues=hello.has_tongues,
        )
        hub.start()
        server.measured(self.metrics, self.compression, lambda: hub.open_count, lambda: self.gate.running)
        self.metrics.gauge("heads_in_memory", "Heads of streams that a worker knows.", lambda: log.head_count)
        self._start(self._listen())
        self._beat()

    def commit(self, events: Columns) -> None:
        """See `WorkerPort`."""
        self.log.committed(events)

    def rows_changed(self, parts: list[tuple[str, str]] | None) -> None:
        """See `WorkerPort`."""
        self.log.rows_changed(parts)

    def present(self, source: str, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        """See `WorkerPort`."""
        if self._presence is not None:
            self._presence.heard(source, stream, put, drop)

    def pruned(self) -> None:
        """See `WorkerPort`. Old events go in many small steps, and one look is enough for several of them."""
        if not self._looks:
            self._looks = True
            self._start(self._look_again())

    def close_it(self, connection: int, code: int, reason: str) -> None:
        """See `WorkerPort`."""
        self.hub.close_it(connection, code, reason)

    def rejudge(self, stream: str | None, user_id: UserId | None) -> None:
        """See `WorkerPort`."""
        self.server.rejudging.now(stream, user_id)

    def positions(self) -> Positions:
        """See `WorkerPort`."""
        return self.hub.positions()

    def samples(self) -> bytes:
        """See `WorkerPort`."""
        return metric_samples(self.metrics)

    def end(self, timeout_s: float) -> None:
        """See `WorkerPort`."""
        self._start(self._drain(timeout_s))

    async def _listen(self) -> None:
        self.server.begin()
        for sock in self._listeners:
            await self.server.serve_on(sock)
        self.channel.say(OwnerPort.ready)

    async def _look_again(self) -> None:
        await asyncio.sleep(LOOK_AGAIN_S)
        self._looks = False
        await self.log.look_again()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _beat(self) -> None:
        self.channel.say(OwnerPort.beat)
        self._beating = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def let_go(self) -> None:
        """Free what can be had again: frames for others at the same place, and recent events."""
        if hasattr(self, "server"):
            self.server.frames.clear()
            self.feed.let_go()

    async def drain(self, timeout_s: float) -> None:
        """Close all connections and say the last acks."""
        if self.over.is_set() or not hasattr(self, "server"):
            self.over.set()
            return
        await self._drain(timeout_s)

    async def _drain(self, timeout_s: float) -> None:
        try:
            await self.server.drain(timeout_s)
            self.hub.stop()
            await self.runtime.stop(timeout_s)
        finally:
            if self._beating is not None:
                self._beating.cancel()
            self.channel.close()
            self.over.set()

    def _lost(self) -> None:
        """The owner is gone: nothing here may be served in parallel with a new one."""
        self.over.set()


def _registry(hello: Hello, channel: Channel) -> Registry:
    """What sessions must know of the owner's registry."""
    registry = Registry()
    for facts in hello.actions:
        # The owner checks the fields: `dict` takes them as they are.
        registry.commands[facts.action] = Action(
            facts.action, dict, _never, query=facts.query, compressible=facts.compressible
        )
    registry.snapshots = dict.fromkeys(hello.snapshots, snapshots_of(channel))
    registry.views = dict.fromkeys(hello.snapshots, snapshots_of(channel, viewed=True))
    registry.judges = dict.fromkeys(hello.judges, judge_of(channel))
    registry.right_types = set(hello.right_types)
    registry.words = Words.of(hello.words)
    return registry


def _never(call: Call[Any]) -> Reply:
    raise RuntimeError(f"a worker leaves {call.action} to its owner")
