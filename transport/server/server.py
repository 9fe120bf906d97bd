"""The listening socket: handshakes, admission, and the drain.

A request for a WebSocket passes the origin check and the limits per address, then becomes a `Connection`.
A usual request is answered at once (`fast_handshake`). All others go through the library, which also parses
plain HTTP, which the site answers, and writes every refusal. Both ways ask the same door.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import MayRead, Registry
from huahuo.actors.plugins.words import Language
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import Door, Entry
from huahuo.transport.access.verified import Verifier
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.compression import Compression
from huahuo.transport.protocol.dialects import DOCUMENT, Dialect, Negotiated, negotiate
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.protocol.server_sent import ServerSent
from huahuo.transport.server.admission import Admission, peer_of
from huahuo.transport.server.budget import Budget, BudgetLimits, Estimates
from huahuo.transport.server.connection import Connection
from huahuo.transport.server.connection_ref import ConnectionRef, read
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.fast_handshake import Asked, Greeting, Welcomes, understood
from huahuo.transport.server.interpreted import Interpreted
from huahuo.transport.server.lobby import Lobby
from huahuo.transport.server.notices import Notices
from huahuo.transport.server.opening import OpeningProtocol
from huahuo.transport.server.outbox import Outbox
from huahuo.transport.server.pictures import Pictures
from huahuo.transport.server.ports import CommandGate, Hub, InLobby, Meter, PlainHttp, Site, Usher
from huahuo.transport.server.pump import Supply, Tally
from huahuo.transport.server.shares import Shares
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.turns import Turns
from huahuo.transport.server.verdicts import Rejudging, Verdicts
from huahuo.transport.server.web_socket import WebSocket
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import outgoing
from huahuo.transport.session.shared import Shared
from huahuo.transport.words import en, zh

BACKLOG = 4096
"""Connections that the kernel holds until we accept them. Beyond that, a client's kernel retries after one
second, then after three. With the usual 100, thousands that reconnect together would wait for long."""

_READ_FRAMES_MAX = 4
CANCEL_TIMEOUT_S = 1.0
_NORMAL_CLOSURE = 1000
_RESTARTS = "the server restarts"
_WELCOMED = Request("/", Headers())
"""In place of a request that was answered without the library. Nothing reads it."""

_log = structlog.get_logger(__name__)


class Server:
    """See the module. Implements `websocket.Owner`."""

    def __init__(
        self,
        *,
        settings: TransportSettings,
        log: Log,
        feed: Feed,
        registry: Registry,
        gate: CommandGate,
        hub: Hub,
        door: Door,
        verifier: Verifier,
        site: Site,
        metrics: Meter,
        runtime: Runtime,
        ambient: Ambient,
        fingerprint_key: bytes,
        compression: Compression | None = None,
        executor: Executor | None = None,
        turns: Turns | None = None,
        may_read: MayRead | None = None,
        language: Language = "zh",
        knows: Callable[[str], bool] | None = None,
    ) -> None:
        """Wire a server. `fingerprint_key` (up to 64 bytes) must be the same after a restart.

        Without `compression` the compressed dialects are not offered. `executor` compresses long messages;
        without it they are compressed on the loop. `may_read` judges the streams that have no other judge.
        `knows`: see `Shared`.
        """
        self._settings = settings
        self.budget = Budget(
            BudgetLimits(
                process=settings.unsent_bytes_max,
                user=settings.unsent_bytes_per_user,
                connection=settings.unsent_bytes_per_connection,
            )
        )
        self.turns = turns or Turns(Shares(), ambient.monotonic_s, process_s=ambient.process_s)
        self.pictures = Pictures(
            registry.snapshots,
            feed,
            settings=settings,
            budget=self.budget,
            turns=self.turns,
            compression=compression,
            executor=executor or InlineExecutor(),
            now_s=ambient.monotonic_s,
        )
        frames = FrameCache(
            bytes_max=settings.frame_cache_bytes_max, frame_bytes_max=settings.frame_bytes_max
        )
        fanout = FanOut(frames, events_max=settings.frame_events_max, monotonic_s=ambient.monotonic_s)
        registry.words.add(zh, en)
        verdicts, outbox = Verdicts(registry.judges, may_read), Outbox()
        gate.told = outbox.flush
        self._untap = contextlib.ExitStack()
        self.rejudging = Rejudging(fanout, verdicts.judged, registry.right_types)
        if verdicts.judged:
            self._untap.callback(feed.tap(self.rejudging.committed))
        self._untap.callback(feed.tap(fanout.committed))
        self._wires = Wires(
            shared=Shared(
                settings=settings,
                log=log,
                frames=frames,
                commands=registry.commands,
                fingerprint_key=fingerprint_key,
                compression=compression,
                event_texts=ServerSent(log.log_id),
                judged=verdicts.judged,
                words=registry.words,
                language=language,
                **({} if knows is None else {"knows": knows}),
            ),
            runtime=runtime,
            ambient=ambient,
            feed=feed,
            fanout=fanout,
            hub=hub,
            door=door,
            gate=gate,
            notices=Notices(),
            verifier=verifier,
            meter=metrics,
            supply=Supply(
                pictures=self.pictures, budget=self.budget, estimates=Estimates(), turns=self.turns
            ),
            tally=Tally(),
            verdicts=verdicts,
            outbox=outbox,
        )
        self.frames = frames
        """Shared by all connections, for metrics."""
        self.fanout = fanout
        """Shared by all connections."""
        self._listening: list[asyncio.Server] = []
        self._tongues = tuple(registry.tongues)
        self._begun = False
        self._draining = False
        self.plain: PlainHttp | None = None
        """Takes the sockets of plain HTTP that is more than the site's."""
        self.usher: Usher | None = None
        """Decides about all new sockets, if it is set."""
        self._welcomes = Welcomes()
        self._lobby = Lobby(
            settings.unauthenticated_max,
            settings.open_timeout_s,
            ambient.slept_s,
            per_address_max=settings.unauthenticated_per_address,
            bytes_max=settings.lobby_bytes_max,
            address_of=lambda transport: door.peer_address(peer_of(transport)),
        )
        self.admission = Admission(door, self._lobby, site, self._wires.notices, ambient, settings.origins)
        self._open: dict[Socket, ConnectionRef | None] = {}
        self.handler_tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 8765, **options: Any) -> int:
        """Listen, and return the port (0 chooses a free one). `options` go to `loop.create_server`.

        Raises:
            OSError: the address is not available.
        """
        self.begin()
        options.setdefault("backlog", BACKLOG)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(self._greeting, host, port, **options)
        self._listening.append(listening)
        sockets = listening.sockets
        # A simulated network has no sockets to ask, and never wants a free port.
        return int(sockets[0].getsockname()[1]) if sockets else port

    async def serve_on(self, sock: socket.socket) -> None:
        """Listen on a socket that is bound already. May be called several times. Raises OSError."""
        self.begin()
        loop = asyncio.get_running_loop()
        self._listening.append(await loop.create_server(self._greeting, sock=sock, backlog=BACKLOG))

    def begin(self) -> None:
        """Serve, without a listening socket of its own: another server hands in sockets (`attend`)."""
        self._begun = True

    async def drain(self, timeout_s: float | None = None) -> None:
        """Accept no more connections, tell all clients to come back later, and end. Idempotent.

        Handlers that still run after `timeout_s` are cancelled. A handler that does not end even then is
        left behind. After a cancelled drain you may call it again.
        """
        if not self._begun:
            return
        self._draining = True
        try:
            for listening in self._listening:
                listening.close()
            self._lobby.close()
            if self.plain is not None:
                self.plain.drain()
            for connection in tuple(self._open.values()):
                if connection is not None:
                    connection.close(CloseCode.DRAINING, _RESTARTS)
            if not await self._all_gone(self._settings.drain_timeout_s if timeout_s is None else timeout_s):
                await self._cut_off()
        finally:
            self._untap.close()

    async def _all_gone(self, timeout_s: float) -> bool:
        """Whether every socket and handler ended in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for listening in self._listening:
                    await listening.wait_closed()
                while self.handler_tasks:
                    await asyncio.wait(self.handler_tasks)
        return not self.handler_tasks

    async def _cut_off(self) -> None:
        """End what is left: first the sockets, on which most handlers wait, then the handlers."""
        for ws in tuple(self._open):
            ws.transport.abort()
        if await self._all_gone(CANCEL_TIMEOUT_S):
            return
        for task in self.handler_tasks:
            task.cancel()
        if not await self._all_gone(CANCEL_TIMEOUT_S):
            _log.error("connection_handlers_left_behind", count=len(self.handler_tasks))

    @property
    def sockets(self) -> tuple[WebSocket, ...]:
        """Open WebSockets on the server's own port, from the oldest on."""
        return tuple(ws for ws in self._open if isinstance(ws, WebSocket))

    @property
    def unauthenticated_count(self) -> int:
        """Sockets whose client has not authenticated."""
        return len(self._lobby)

    @property
    def lobby_bytes(self) -> int:
        """The bytes of theirs that are not handled: heads of requests, messages, fragments."""
        return self._lobby.held_bytes

    @property
    def cut_off_count(self) -> int:
        """Unauthenticated sockets that were closed to make room for another, or held too much, so far."""
        return self._lobby.cut_off_count

    # Events of the sockets ---------------------------------------------------------------------------

    def connected(self, socket: InLobby) -> None:
        """See `websocket.Owner`."""
        self._lobby.enter(socket, socket.address)

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """See `websocket.Owner`."""
        self._lobby.hold(socket, held_bytes)

    def authenticated(self, socket: InLobby) -> None:
        """See `websocket.Owner`."""
        self._lobby.leave(socket)

    def disconnected(self, socket: InLobby) -> None:
        """See `websocket.Owner`."""
        self._lobby.leave(socket)
        if socket.address:
            self._wires.door.leave(socket.address)

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """See `greeting.Greeter`."""
        if self.usher is not None:
            self.usher.spoke(greeting, data)
            return
        asked = None if self._draining else understood(data)
        if asked is not None:
            address = self.admission.address(greeting.transport, asked.forwarded_for)
            entry = self.admission.enter(asked.origins, asked.hosts, address)
            if entry is not Entry.REFUSED:  # else the library's path writes the refusal
                self.welcome(greeting.transport, asked, data, address, entry)
                return
        if self.plain is not None and not self._draining and self.plain.begins(data):
            self.plain.take_over(greeting.transport, data, greeting.deadline_s)
            return
        ws = self._unknown()
        ws.open_by_s = greeting.deadline_s
        _attach(ws, greeting.transport, data)

    def welcome(
        self, transport: asyncio.Transport, asked: Asked, data: bytes, address: str, entry: Entry
    ) -> None:
        """Open a WebSocket at once. The door has counted it; `data` are its first bytes."""
        negotiated = self.negotiate(asked.offered)
        chosen = negotiated.subprotocol
        protocol = ServerProtocol(state=OPEN, max_size=self._settings.first_bytes_max)
        protocol.subprotocol = cast("Subprotocol | None", chosen)
        ws = self._socket(protocol)
        ws.request = _WELCOMED
        ws.address, ws.over_limit, ws.negotiated = address, entry is Entry.OVER, negotiated
        transport.write(self._welcomes.answer(asked.accept, chosen, self._wires.ambient.now_ms()))
        _attach(ws, transport, data[asked.size_bytes :])

    async def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Serve a socket that another process accepted, and `data`, which it has read.

        Raises:
            OSError: the socket is unusable.
        """
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Greeting(self, self._lobby, data), sock)

    def undecided(self, data: bytes) -> bool:
        """See `greeting.Greeter`."""
        return self.plain is not None and not self._draining and self.plain.begins(data) is None

    async def attend(self, socket: Socket) -> None:
        """Serve a socket that another server opened, until it ends. Its address was counted at the door."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.handler_tasks.add(task)
        try:
            await self._handle(socket)
        finally:
            self.handler_tasks.discard(task)
            self.disconnected(socket)

    def follow(self, socket: Socket, dialect: Dialect) -> ConnectionRef:
        """Open the connection of a reader, whose messages its owner hands in; `unfollow` must follow."""
        self._open[socket] = ref = Connection.open(socket, dialect, self._wires)
        if self._draining:
            ref.close(CloseCode.DRAINING, _RESTARTS)
        return ref

    def unfollow(self, socket: Socket) -> None:
        """The reader is gone."""
        ref = self._open.pop(socket, None)
        if ref is not None:
            ref.lost()
            ref.stop_now()
        self.disconnected(socket)

    @property
    def wires(self) -> Wires:
        """What its connections use, for those who serve the same streams in another way."""
        return self._wires

    # The handshake -----------------------------------------------------------------------------------

    def _greeting(self) -> Greeting:
        return Greeting(self, self._lobby)

    def _unknown(self) -> WebSocket:
        """A WebSocket whose request the library parses."""

        def choose(_protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            ws.negotiated = self.negotiate(offered)
            return cast("Subprotocol | None", ws.negotiated.subprotocol)

        protocol = OpeningProtocol(select_subprotocol=choose, max_size=self._settings.first_bytes_max)
        ws = self._socket(protocol)
        return ws

    def _socket(self, protocol: ServerProtocol) -> WebSocket:
        return WebSocket(
            protocol,
            self,  # in place of the library's server: it uses `handler`, `handler_tasks`, `is_serving`
            ping_interval=None,
            close_timeout=self._settings.open_timeout_s,
            max_queue=_READ_FRAMES_MAX,
            owner=self,
            settings=self._settings,
        )

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return not self._draining

    async def handler(self, connection: ServerConnection) -> None:
        """One socket from its first bytes to its end."""
        ws = cast("WebSocket", connection)
        try:
            if ws.is_open if ws.negotiated is not None else await self._opened(ws):
                await self._handle(ws)
        except Exception:  # noqa: BLE001  one connection's fault must not affect others
            _log.exception("connection_handler_failed")
            ws.end(CloseCode.SERVER_FAULT, "internal error", self._settings.close_timeout_s)
        finally:
            ws.end(_NORMAL_CLOSURE, "", self._settings.close_timeout_s)
            self.handler_tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _opened(self, ws: WebSocket) -> bool:
        """Let the library shake hands. False if no WebSocket was opened; then the connection is over."""
        try:
            async with Deadline(self._wires.ambient, self._lobby.left_s(ws.open_by_s)):
                await ws.handshake(self.admission.admit, None, None)
        except Exception:  # noqa: BLE001  no handshake in time, or the peer left
            ws.transport.abort()
            return False
        for said in (ws.request, ws.response):
            if said is not None:
                said.headers.clear()  # some KiB, unused from here on, else kept with the connection
        opened = ws.is_open
        if opened:
            ws.begin()  # which may end it; messages that came before that are still handled
        else:
            ws.transport.abort()
        return opened

    def negotiate(self, offered: Sequence[str]) -> Negotiated:
        """The subprotocol for a client that offers these."""
        return negotiate(offered, compression=self._wires.shared.compression is not None)

    async def _handle(self, ws: Socket) -> None:
        """Serve an open WebSocket."""
        assert ws.negotiated is not None, "the handshake chose a subprotocol"
        self._open[ws] = None
        try:
            if ws.over_limit:
                await self._turn_away(ws, CloseCode.TOO_MANY_CONNECTIONS, "too many connections")
            elif ws.negotiated.dialect is None:
                await self._turn_away(ws, CloseCode.UNSUPPORTED_VERSION, "no offered version is spoken here")
            else:
                heard = self._interpreted(ws, ws.negotiated.dialect)
                self._open[ws] = ref = Connection.open(heard, ws.negotiated.dialect, self._wires)
                if self._draining:  # opened just before the drain, which did not see it
                    ref.close(CloseCode.DRAINING, _RESTARTS)
                await read(heard, ref)
        finally:
            del self._open[ws]

    def _interpreted(self, ws: Socket, dialect: Dialect) -> Socket:
        """The socket for its connection: with an interpreter in between, if its client may need one."""
        if dialect is not DOCUMENT or not self._tongues:
            return ws
        return Interpreted(ws, self._tongues, self._settings, self._wires.ambient.monotonic_s)

    async def _turn_away(self, ws: Socket, code: CloseCode, reason: str) -> None:
        self._wires.meter.closed(code)
        ws.write(outgoing.goaway(code, reason))
        ws.end(code, reason, self._settings.close_timeout_s)
        await ws.wait_closed()


def _attach(ws: WebSocket, transport: asyncio.Transport, data: bytes) -> None:
    transport.set_protocol(ws)
    ws.connection_made(transport)
    if data:
        ws.data_received(data)
