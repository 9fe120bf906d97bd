"""The listening socket: handshakes, who may come in, and the drain.

Plain HTTP on the same port is answered by the site. A WebSocket passes the origin check and the
limits per address, then becomes a `Connection`.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast

from websockets.asyncio.server import Server as Listening
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from actors import Runtime
from eventstore.ambient import Ambient
from eventstore.port import Log
from replay.feed import Feed
from transport import outgoing
from transport.api import Registry
from transport.codes import CloseCode
from transport.compression import Compression
from transport.connection import Connection, Wires
from transport.dialects import negotiate
from transport.fanout import FanOut
from transport.frames import FrameCache
from transport.origin import origin_allowed
from transport.ports import CommandGate, Door, Entry, Hub, Meter, Verifier
from transport.pump import Tally
from transport.settings import TransportSettings
from transport.shared import Shared
from transport.websocket import WebSocket

HANDSHAKES_MAX = 4096
"""Sockets that have not finished their handshake; the oldest gives way to the next."""

_READ_FRAMES_MAX = 4


class Site(Protocol):
    """Answers plain HTTP (`transport.http`)."""

    async def respond(self, request: Request) -> Response | None:
        """The answer, None for a WebSocket upgrade."""
        ...


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
    ) -> None:
        """Wire a server. `fingerprint_key` (up to 64 bytes) must be the same after a restart.

        `compression` None: the compressed protocol is not spoken.
        """
        self._settings = settings
        self._site = site
        frames = FrameCache(
            bytes_max=settings.frame_cache_bytes_max, frame_bytes_max=settings.frame_bytes_max
        )
        fanout = FanOut(frames, events_max=settings.frame_events_max, monotonic_s=ambient.monotonic_s)
        self._untap = feed.tap(fanout.committed)
        self._wires = Wires(
            shared=Shared(
                settings=settings,
                log=log,
                frames=frames,
                commands=registry.commands,
                fingerprint_key=fingerprint_key,
                compression=compression,
            ),
            runtime=runtime,
            ambient=ambient,
            feed=feed,
            fanout=fanout,
            hub=hub,
            door=door,
            gate=gate,
            verifier=verifier,
            meter=metrics,
            snapshots=registry.snapshots,
            tally=Tally(),
        )
        self._listening: Listening | None = None
        self._handshaking: dict[WebSocket, None] = {}
        self._open: dict[WebSocket, Connection | None] = {}

    async def start(self, host: str = "127.0.0.1", port: int = 8765, **options: Any) -> int:
        """Listen, and return the port (0 takes a free one). `options` go to `loop.create_server`.

        Raises:
            OSError: the address cannot be had.
        """
        settings = self._settings
        self._listening = await serve(
            self._handle,
            host,
            port,
            select_subprotocol=self._choose,
            compression=None,
            process_request=self._admit,
            server_header=None,
            open_timeout=settings.open_timeout_s,
            ping_interval=None,
            close_timeout=settings.open_timeout_s,
            max_size=settings.message_bytes_max,
            max_queue=_READ_FRAMES_MAX,
            create_connection=cast("type[ServerConnection]", self._socket),
            **options,
        )
        sockets = self._listening.sockets
        # A simulated network has no sockets to ask; there a free port is never wanted.
        return int(sockets[0].getsockname()[1]) if sockets else port

    async def drain(self, timeout_s: float | None = None) -> None:
        """Take nobody in any more, tell everybody to come back later, and end. Idempotent."""
        if self._listening is None:
            return
        self._listening.close(close_connections=False)
        for ws in tuple(self._handshaking):
            ws.transport.abort()
        for connection in tuple(self._open.values()):
            if connection is not None:
                connection.close(CloseCode.DRAINING, "the server restarts")
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s if timeout_s is None else timeout_s):
                await self._listening.wait_closed()
        except TimeoutError:
            for ws in tuple(self._open):
                ws.transport.abort()
            await self._listening.wait_closed()
        self._untap()

    # What the sockets tell ---------------------------------------------------------------------------

    def connected(self, socket: WebSocket) -> None:
        """See `websocket.Owner`."""
        self._handshaking[socket] = None
        if len(self._handshaking) > HANDSHAKES_MAX:
            next(iter(self._handshaking)).transport.abort()

    def disconnected(self, socket: WebSocket) -> None:
        """See `websocket.Owner`."""
        self._handshaking.pop(socket, None)
        if socket.address:
            self._wires.door.leave(socket.address)

    # The handshake -----------------------------------------------------------------------------------

    def _socket(self, *args: Any, **kwargs: Any) -> WebSocket:
        return WebSocket(*args, owner=self, settings=self._settings, **kwargs)

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        ws = cast("WebSocket", connection)
        response = await self._site.respond(request)
        if response is not None:
            return response
        headers = request.headers
        if not origin_allowed(headers.get_all("Origin"), headers.get_all("Host"), self._settings.origins):
            return ws.respond(HTTPStatus.FORBIDDEN, "this origin is not allowed\n")
        door = self._wires.door
        address = door.address(_peer(ws), headers.get_all("X-Forwarded-For"))
        entry = door.enter(address)
        if entry is Entry.REFUSED:
            return ws.respond(HTTPStatus.TOO_MANY_REQUESTS, "too many connections from this address\n")
        ws.address = address
        ws.over_limit = entry is Entry.OVER
        return None

    def _choose(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        ws = cast("WebSocket", connection)
        ws.negotiated = negotiate(offered, compression=self._wires.shared.compression is not None)
        return cast("Subprotocol | None", ws.negotiated.subprotocol)

    async def _handle(self, connection: ServerConnection) -> None:
        """One socket from its handshake to its end."""
        ws = cast("WebSocket", connection)
        self._handshaking.pop(ws, None)
        assert ws.negotiated is not None, "the handshake chose a subprotocol"
        for said in (ws.request, ws.response):
            if said is not None:
                said.headers.clear()  # kept as long as the connection: some KiB that nobody reads again
        self._open[ws] = None
        try:
            if ws.over_limit:
                await self._turn_away(ws, CloseCode.TOO_MANY_CONNECTIONS, "too many connections")
            elif ws.negotiated.dialect is None:
                await self._turn_away(ws, CloseCode.UNSUPPORTED_VERSION, "no offered version is spoken here")
            else:
                self._open[ws] = connection_actor = Connection.open(ws, ws.negotiated.dialect, self._wires)
                await connection_actor.read()
        finally:
            del self._open[ws]

    async def _turn_away(self, ws: WebSocket, code: CloseCode, reason: str) -> None:
        self._wires.meter.closed(code)
        ws.write(outgoing.goaway(code, reason))
        ws.end(code, reason, self._settings.close_timeout_s)
        await ws.wait_closed()


def _peer(ws: WebSocket) -> str:
    """The address at the other end of the socket, "" where it has none."""
    with contextlib.suppress(TypeError, IndexError):
        return str(ws.remote_address[0])
    return ""
