"""The listening socket, the sockets that it serves, and the drain.

A request for a WebSocket passes the origin check and the limits per address (`handshakes`), then becomes a
`Connection`. Until their client has authenticated, sockets wait in the server's lobby.
"""

import asyncio
import contextlib
import socket
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import structlog

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import MayRead, Registry
from huahuo.actors.plugins.words import Language
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Door, Notices
from huahuo.transport.access.rights import Verifier
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.intake import Intake
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.load.shares import Budget, BudgetLimits, Estimates, Shares
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, Compression, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import FrameCache, ServerSent, text_frame
from huahuo.transport.server.connection import Connection
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.handshakes import Admission, Handshakes, peer_of
from huahuo.transport.server.presence import Presence
from huahuo.transport.server.snapshots import Pictures, Supply
from huahuo.transport.server.states import States
from huahuo.transport.server.views import Ask, Views, asks
from huahuo.transport.server.wires import Outbox, Rejudging, Verdicts, Wires
from huahuo.transport.session import outgoing
from huahuo.transport.session.interface import Shared, knows_all
from huahuo.transport.wire.connection_ref import ConnectionRef
from huahuo.transport.wire.frame_reader import AckReader
from huahuo.transport.wire.interpreted_socket import Interpreted
from huahuo.transport.wire.lobby import Lobby
from huahuo.transport.wire.ports import CommandGate, Hub, InLobby, Meter, PlainHttp, Socket
from huahuo.transport.wire.sends import Sends
from huahuo.transport.wire.web_socket import WebSocket
from huahuo.transport.words import en, http_en, http_zh, zh

BACKLOG = 4096
"""Connections that the kernel holds until we accept them. Beyond that, a client's kernel retries after one
second, then after three. With the usual 100, thousands that reconnect together would wait for long."""

ACCEPTS_A_TURN = 16
"""asyncio's own loop accepts as many connections in one turn as its `backlog` says; uvloop always one. Each
costs about 20 µs, so with the kernel's backlog others would wait for 80 ms."""

CANCEL_TIMEOUT_S = 1.0

_log = structlog.get_logger(__name__)


class Server:
    """See the module. Implements `web_socket.Owner`."""

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
        metrics: Meter,
        runtime: Runtime,
        ambient: Ambient,
        fingerprint_key: bytes,
        compression: Compression | None = None,
        executor: Executor | None = None,
        turns: Turns | None = None,
        may_read: MayRead | None = None,
        language: Language | None = None,
        knows: Callable[[str], bool] = knows_all,
        ask: Ask | None = None,
    ) -> None:
        """Wire a server. `fingerprint_key` (up to 64 bytes) must be the same after a restart.

        Without `compression` the compressed dialects are not offered. `executor` compresses long messages;
        without it they are compressed on the loop. `may_read` judges the streams that have no other judge.
        `knows`: see `Shared`. `ask`: who says which rows a user may follow; None: the lists of `registry`.
        """
        self._door = door
        self._lobby = Lobby(
            settings.unauthenticated_max,
            settings.open_timeout_s,
            ambient.slept_s,
            per_address_max=settings.unauthenticated_per_address,
            bytes_max=settings.lobby_bytes_max,
            address_of=lambda transport: door.peer_address(peer_of(transport)),
        )
        self._settings = settings
        budget = Budget(
            BudgetLimits(
                process=settings.unsent_bytes_max,
                user=settings.unsent_bytes_per_user,
                connection=settings.unsent_bytes_per_connection,
            )
        )
        turns = turns or Turns(Shares(), ambient.monotonic_s, process_s=ambient.process_s)
        pictures = Pictures(
            registry.snapshots,
            feed,
            settings=settings,
            budget=budget,
            turns=turns,
            compression=compression,
            executor=executor or InlineExecutor(),
            now_s=ambient.monotonic_s,
        )
        frames = FrameCache(
            bytes_max=settings.frame_cache_bytes_max, frame_bytes_max=settings.frame_bytes_max
        )
        sends = Sends(settings.sends)
        fanout = FanOut(
            frames,
            events_max=settings.frame_events_max,
            monotonic_s=ambient.monotonic_s,
            sends=sends,
            later=lambda go_on: asyncio.get_running_loop().call_soon(go_on),
        )
        registry.words.add(zh, en)
        registry.words.add(http_zh, http_en)
        verdicts, outbox = Verdicts(registry.judges, may_read), Outbox()
        gate.told = outbox.flush
        turns.rounds.room.append(gate.has_room)
        views = Views(log, ask or asks(registry.lists, log, ambient), text_frame)
        self._wires = wires = Wires(
            shared=Shared(
                shared_log=feed.catch_up is not None,
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
                knows=knows,
                leaving=lambda: max(self._leaving, len(self._open)),
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
                pictures=pictures,
                budget=budget,
                intake=Intake(settings.intake_bytes_max),
                estimates=Estimates(),
                turns=turns,
            ),
            verdicts=verdicts,
            outbox=outbox,
            sends=sends,
            views=views,
            states=States(log, ChainMap(registry.views, registry.snapshots), text_frame, views.number),
            presence=Presence(text_frame, views.number),
            ack_reader=AckReader(ambient.monotonic_s),
        )
        supply = wires.supply
        self.budget, self.turns, self.pictures = supply.budget, supply.turns, supply.pictures
        self.intake = supply.intake
        self.fanout, self.frames = wires.fanout, wires.shared.frames
        self._untap = contextlib.ExitStack()
        self.rejudging = Rejudging(wires.fanout, wires.verdicts.judged, registry.right_types)
        if wires.verdicts.judged:
            self._untap.callback(feed.tap(self.rejudging.committed))
        self._untap.callback(feed.tap(wires.fanout.committed))
        self.rejudging.lists = wires.judge_followed
        self._untap.callback(wires.views.close)
        self._untap.callback(wires.states.close)
        self._untap.callback(wires.presence.close)
        self._listening: list[asyncio.Server] = []
        self._tongues = tuple(registry.tongues)
        self._begun = False
        self._draining = False
        self.plain: PlainHttp | None = None
        """Takes the sockets of plain HTTP that is more than the site's."""
        self.admission = Admission(door, wires.notices, ambient, settings.origins)
        self.handshakes = Handshakes(self, wires, self._lobby, self.admission)
        self._open: dict[Socket, ConnectionRef | None] = {}
        self._leaving = 0
        self._emptied: asyncio.Event | None = None

    def measured(
        self,
        metrics: Metrics,
        compression: Compression,
        connections: Callable[[], int],
        running: Callable[[], int],
    ) -> None:
        """Let metrics show what each process has that serves WebSockets.

        `connections`: those that are open. `running`: calls without an answer.
        """
        gauge, total = metrics.gauge, metrics.total
        wires, budget, turns, pictures = self._wires, self.budget, self.turns, self.pictures
        feed, tail, frames = wires.feed, wires.feed.tail, self.frames
        gauge("connections", "Open WebSockets.", connections)
        gauge("actors", "Actors that have not ended.", lambda: wires.runtime.alive)
        gauge("tail_bytes", "Recent events in memory: 500 B and its body each.", lambda: tail.weight)
        total("feed_reads", "Pages that subscribers and entities read from disk.", lambda: feed.fetches)
        total("feed_signals_missed", "Commits that the feed was not told of.", lambda: feed.missed)
        gauge("frame_cache_bytes", "Frames kept for others at the same place.", lambda: frames.bytes)
        total("compression_before_bytes", "Messages before compression.", lambda: compression.before)
        total("compression_after_bytes", "The same, compressed.", lambda: compression.after)
        gauge("unsent_bytes", "Replies and snapshots built or being built, not sent.", lambda: budget.used)
        total("unsent_refused", "Answered busy for want of room for the reply.", lambda: budget.refused)
        gauge("snapshots_kept_bytes", "Finished snapshots kept to be shared.", lambda: pictures.kept_bytes)
        self.intake.measured(metrics)
        gauge("turns_waiting", "Queries and snapshots that wait for their turn.", lambda: turns.waiting)
        gauge("calls_running", "Commands and queries without an answer.", running)
        gauge(
            "sockets_unauthenticated",
            "Sockets whose client has not authenticated.",
            lambda: self.unauthenticated_count,
        )
        gauge("lobby_bytes", "Bytes of theirs that are not handled.", lambda: self.lobby_bytes)
        total("sockets_cut_off", "Such sockets that gave way to others.", lambda: self.cut_off_count)

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

    def connected(self, socket: InLobby) -> None:
        """See `web_socket.Owner`."""
        self._lobby.enter(socket, socket.address)

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """See `web_socket.Owner`."""
        self._lobby.hold(socket, held_bytes)

    def authenticated(self, socket: InLobby) -> None:
        """See `web_socket.Owner`."""
        self._lobby.leave(socket)

    def disconnected(self, socket: InLobby) -> None:
        """See `web_socket.Owner`."""
        self._lobby.leave(socket)
        if socket.address:
            self._door.leave(socket.address)

    async def start(self, host: str = "127.0.0.1", port: int = 8765, **options: Any) -> int:
        """Listen, and return the port (0 chooses a free one). `options` go to `loop.create_server`.

        Raises:
            OSError: the address is not available.
        """
        self.begin()
        options.setdefault("backlog", ACCEPTS_A_TURN)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(self.handshakes.greeting, host, port, **options)
        self._accept_from(listening)
        sockets = listening.sockets
        # A simulated network has no sockets to ask, and never wants a free port.
        return int(sockets[0].getsockname()[1]) if sockets else port

    async def serve_on(self, sock: socket.socket) -> None:
        """Listen on a socket that is bound already, after `begin`. Raises OSError."""
        loop = asyncio.get_running_loop()
        greeting = self.handshakes.greeting
        self._accept_from(await loop.create_server(greeting, sock=sock, backlog=ACCEPTS_A_TURN))

    def _accept_from(self, listening: asyncio.Server) -> None:
        self._listening.append(listening)
        for sock in listening.sockets:
            with sock.dup() as same:
                same.listen(BACKLOG)

    def begin(self) -> None:
        """Serve, without a listening socket of its own: another server hands in sockets."""
        self._begun = True
        way = self._wires.sends.open()
        if way != "transport":
            self._wires.ack_reader.open()
        if structlog.is_configured():  # else it would go to standard output, which is the program's
            _log.info("frames_are_sent_by", way=way)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Accept no more connections, tell all clients to come back later, and end. Idempotent.

        Connections that have not ended after `timeout_s` are cut off, or left behind. After a cancelled drain
        you may call it again.
        """
        if not self._begun:
            return
        self._draining, self._leaving = True, len(self._open)
        try:
            for listening in self._listening:
                listening.close()
            self._lobby.close()
            if self.plain is not None:
                self.plain.drain()
            for connection in tuple(self._open.values()):
                if connection is not None:
                    connection.close(CloseCode.DRAINING, en.RESTARTS)
            if not await self._all_gone(self._settings.drain_timeout_s if timeout_s is None else timeout_s):
                await self._cut_off()
        finally:
            self._untap.close()
            self._wires.ack_reader.close()

    async def _all_gone(self, timeout_s: float) -> bool:
        """Whether every connection ended in time."""
        self._emptied = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for listening in self._listening:
                    await listening.wait_closed()
                if self._open:
                    await self._emptied.wait()
        return not self._open

    async def _cut_off(self) -> None:
        """End what is left."""
        for ws in tuple(self._open):
            ws.transport.abort()
        if not await self._all_gone(CANCEL_TIMEOUT_S):
            _log.error("connections_left_behind", count=len(self._open))
            for connection in tuple(self._open.values()):
                if connection is not None:
                    connection.lost()

    @property
    def sockets(self) -> tuple[WebSocket, ...]:
        """Open WebSockets on the server's own port, from the oldest on."""
        return tuple(ws for ws in self._open if isinstance(ws, WebSocket))

    def follow(self, socket: Socket, dialect: Dialect) -> None:
        """Open the connection of a reader; `unfollow` must follow."""
        self._open[socket] = ref = Connection.open(socket, dialect, self._wires)
        if self._draining:
            ref.close(CloseCode.DRAINING, en.RESTARTS)

    def unfollow(self, socket: Socket) -> None:
        """The reader is gone."""
        ref = self._open.get(socket)
        if ref is not None:
            ref.lost()
        self.disconnected(socket)
        self.ended(socket)

    @property
    def wires(self) -> Wires:
        """What its connections use, for those who serve the same streams in another way."""
        return self._wires

    # One socket --------------------------------------------------------------------------------------

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return not self._draining

    def serve(self, ws: WebSocket, dialect: Dialect | None, *, over_limit: bool) -> None:
        """See `handshakes.Host`."""
        self._open[ws] = None
        try:
            if over_limit:
                self._turn_away(ws, CloseCode.TOO_MANY_CONNECTIONS, en.TOO_MANY_HERE)
            elif dialect is None:
                self._turn_away(ws, CloseCode.UNSUPPORTED_VERSION, en.NO_VERSION)
            else:
                self._open[ws] = ref = Connection.open(self._interpreted(ws, dialect), dialect, self._wires)
                if self._draining:  # opened just before the drain, which did not see it
                    ref.close(CloseCode.DRAINING, en.RESTARTS)
        except Exception:  # noqa: BLE001  one connection's fault must not affect others
            _log.exception("connection_not_served")
            ws.end(CloseCode.SERVER_FAULT, en.FAULT, self._settings.close_timeout_s)

    def ended(self, socket: Socket) -> None:
        """See `web_socket.Owner`."""
        self._open.pop(socket, None)
        if self._emptied is not None and not self._open:
            self._emptied.set()

    def _interpreted(self, ws: Socket, dialect: Dialect) -> Socket:
        """The socket for its connection: with an interpreter in between, if its client may need one."""
        if dialect is not DOCUMENT or not self._tongues:
            return ws
        return Interpreted(ws, self._tongues, self._settings, self._wires.ambient.monotonic_s)

    def _turn_away(self, ws: Socket, code: CloseCode, reason: str) -> None:
        self._wires.meter.closed(code)
        language = self._wires.shared.language or "en"
        ws.write(outgoing.goaway(code, self._wires.shared.words.explain(reason, language)))
        ws.end(code, reason, self._settings.close_timeout_s)
