"""New sockets, from their first bytes until each is a WebSocket, is refused, or speaks plain HTTP.

A usual request for a WebSocket is answered at once (`lobby`). All others are read as plain HTTP
(`transport.http.native`), which answers what is no request, and hands a request for a WebSocket on to the
library. Both ways ask the same door (`Admission`): plain HTTP, origins, and the limits per address.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.transport.access.door import Door, Entry, Notices, origin_allowed
from huahuo.transport.protocol.dialects import Negotiated, negotiate
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.wire.lobby import Asked, Greeter, Greeting, Lobby, Welcomes, understood
from huahuo.transport.wire.ports import PlainHttp, Site
from huahuo.transport.wire.server_protocol import OpeningProtocol, WelcomedProtocol
from huahuo.transport.wire.web_socket import READ_FRAMES_MAX, Owner, WebSocket
from huahuo.transport.words import http_zh

_ROOT: Final = re.compile(r"(/[A-Za-z0-9_.~%-]+)+")
_log = structlog.get_logger(__name__)


class Admission:
    """See the module. Both ways of a handshake ask it."""

    def __init__(
        self, door: Door, lobby: Lobby, site: Site, notices: Notices, ambient: Ambient, origins: Sequence[str]
    ) -> None:
        self._door = door
        self._lobby = lobby
        self._site = site
        self._notices = notices
        self._ambient = ambient
        self._origins = origins
        self._proxy_told = False

    def enter(self, origins: Sequence[str], hosts: Sequence[str], address: str) -> Entry:
        """Count one more connection of this address, if its page may connect."""
        if not origin_allowed(origins, hosts, self._origins):
            return Entry.REFUSED
        return self._door.enter(address)

    def address(self, transport: asyncio.BaseTransport, forwarded_for: Sequence[str]) -> str:
        """The address that a client counts under (`Door.address`)."""
        return self.address_of(peer_of(transport), forwarded_for)

    def address_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """As `address`, of the address at the other end of a socket."""
        address = self._door.address(peer, forwarded_for)
        if forwarded_for and not self._proxy_told and address == self._door.peer_address(peer):
            self._proxy_told = True
            _log.warning(
                "untrusted_proxy",
                proxy=peer,
                hint="its X-Forwarded-For is not believed, so all clients behind it count as one address and "
                "share one limit; if it is yours, name it in HUAHUO_TRUSTED_PROXIES",
            )
        return address

    def root_of(self, peer: str, prefixes: Sequence[str]) -> str:
        """The path that a trusted proxy says it took away (X-Forwarded-Prefix), "" if none does."""
        root = prefixes[0].strip().rstrip("/") if len(prefixes) == 1 else ""
        return root if _ROOT.fullmatch(root) and not self._door.peer_address(peer) else ""

    def tell_refused_origin(self, origins: Sequence[str]) -> None:
        """Say once in a while in the log that pages of these origins are refused."""
        held_back = self._notices.due("origin_refused", self._ambient.monotonic_s())
        if held_back is not None:
            _log.warning(
                "origin_refused",
                origin=", ".join(origins),
                hint="if the page is yours, add its origin to HUAHUO_ORIGINS",
                more_held_back=held_back,
            )

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, refuse, or (None) let the library open the WebSocket."""
        ws = cast("WebSocket", connection)
        headers = request.headers
        address = self.address(ws.transport, headers.get_all("X-Forwarded-For"))
        if not ws.connection_lost_waiter.done():
            self._lobby.enter(ws, address)  # until now it was counted under its proxy's address
        root = self.root_of(peer_of(ws.transport), headers.get_all("X-Forwarded-Prefix"))
        response = await self._site.respond(request, address, root)
        if response is not None:
            return response
        origins = headers.get_all("Origin")
        if not origin_allowed(origins, headers.get_all("Host"), self._origins):
            self.tell_refused_origin(origins)
            return ws.respond(HTTPStatus.FORBIDDEN, http_zh.ORIGIN_REFUSED)
        if (
            ws.connection_lost_waiter.done()
        ):  # it left before it was counted, so it would never be counted out
            return ws.respond(HTTPStatus.BAD_REQUEST, http_zh.NO_REQUEST)
        entry = self._door.enter(address)
        if entry is Entry.REFUSED:
            return ws.respond(HTTPStatus.TOO_MANY_REQUESTS, http_zh.TOO_MANY_CONNECTIONS)
        ws.address = address
        ws.over_limit = entry is Entry.OVER
        return None


def peer_of(transport: object) -> str:
    """The address at the other end of the socket, "" where it has none."""
    known: Any = transport
    try:
        return str(known.get_extra_info("peername")[0])
    except (TypeError, IndexError, AttributeError):
        return ""


_FORWARDED = re.compile(rb"\r\nx-forwarded-for:[ \t]*([^\r\n]*)(?=\r\n)", re.IGNORECASE)
_WELCOMED = Request("/", Headers())
"""In place of a request that was answered without the library. Nothing reads it."""


class Host(Owner, Protocol):
    """The server: owner of the sockets, and what the library uses in place of its own server."""

    plain: PlainHttp | None
    handler_tasks: set[asyncio.Task[None]]

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        ...

    async def handler(self, connection: ServerConnection) -> None:
        """One socket from its first bytes to its end."""
        ...


class Handshakes:
    """See the module. Implements `lobby.Greeter`."""

    def __init__(self, host: Host, wires: Wires, lobby: Lobby, admission: Admission) -> None:
        self._host = host
        self._ambient = wires.ambient
        self._settings = wires.shared.settings
        self._sends = wires.sends
        self._ack_reader = wires.ack_reader
        self._compresses = wires.shared.compression is not None
        self._speech = Speech(
            wires.shared.words, wires.shared.language or "en", wires.shared.language or "en"
        )
        self._lobby = lobby
        self._rounds = wires.supply.turns.rounds
        self._admission = admission
        self._welcomes = Welcomes()
        self.usher: Greeter | None = None
        """Decides about all new sockets, if it is set."""

    def greeting(self) -> Greeting:
        """The protocol object for a socket that was just accepted."""
        return Greeting(self, self._lobby)

    def negotiate(self, offered: Sequence[str]) -> Negotiated:
        """The subprotocol for a client that offers these."""
        return negotiate(offered, compression=self._compresses)

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """See `lobby.Greeter`. Addresses take turns: one may bring a thousand sockets a second."""
        said = _FORWARDED.findall(data, 0, data.find(b"\r\n\r\n") + 2)
        address = self._admission.address(greeting.transport, [one.decode("latin-1") for one in said])
        owner = f"address {address}"
        if self._rounds.may_begin(owner):
            self._begin(greeting, data)
        else:
            greeting.transport.pause_reading()
            self._rounds.wait(owner, partial(self._begin_late, greeting, data))

    def _begin_late(self, greeting: Greeting, data: bytes) -> None:
        if not greeting.transport.is_closing():
            greeting.transport.resume_reading()
            self._begin(greeting, data)

    def _begin(self, greeting: Greeting, data: bytes) -> None:
        self._lobby.leave(greeting)
        if self.usher is not None:
            self.usher.spoke(greeting, data)
            return
        serving, plain = self._host.is_serving(), self._host.plain
        asked = understood(data) if serving else None
        if asked is not None:
            address = self._admission.address(greeting.transport, asked.forwarded_for)
            entry = self._admission.enter(asked.origins, asked.hosts, address)
            if entry is not Entry.REFUSED:  # else the library's path writes the refusal
                self.welcome(greeting.transport, asked, data, address, entry)
                return
        if plain is not None and serving:
            plain.take_over(greeting.transport, data, greeting.deadline_s)
        else:
            self.open_slowly(greeting.transport, data, greeting.deadline_s, self._speech)

    def open_slowly(
        self, transport: asyncio.Transport, data: bytes, deadline_s: float, speech: Speech
    ) -> None:
        """Let the library read a request for a WebSocket, and answer it. `speech` says its refusals."""

        def choose(_protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            ws.negotiated = self.negotiate(offered)
            return cast("Subprotocol | None", ws.negotiated.subprotocol)

        protocol = OpeningProtocol(speech, select_subprotocol=choose, max_size=self._settings.first_bytes_max)
        ws = self._socket(protocol)
        ws.open_by_s = deadline_s
        _attach(ws, transport, data)

    def welcome(
        self, transport: asyncio.Transport, asked: Asked, data: bytes, address: str, entry: Entry
    ) -> None:
        """Open a WebSocket at once. The door has counted it; `data` are its first bytes."""
        negotiated = self.negotiate(asked.offered)
        chosen: Any = negotiated.subprotocol  # no `cast`: it is a call
        protocol = WelcomedProtocol(self._settings.first_bytes_max, chosen)
        ws = self._socket(protocol)
        ws.request = _WELCOMED
        del ws.request_rcvd  # only the library's handshake waits for it
        ws.address, ws.over_limit, ws.negotiated = address, entry is Entry.OVER, negotiated
        transport.write(self._welcomes.answer(asked.accept, chosen, self._ambient.now_ms()))
        _attach(ws, transport, data[asked.size_bytes :])

    async def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Serve a socket that another process accepted, and `data`, which it has read.

        Raises:
            OSError: the socket is unusable.
        """
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Greeting(self, self._lobby, data), sock)

    async def opened(self, ws: WebSocket) -> bool:
        """Let the library shake hands. False if no WebSocket was opened; then the connection is over."""
        try:
            async with Deadline(self._ambient, self._lobby.left_s(ws.open_by_s)):
                await ws.handshake(self._admission.admit, None, None)
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

    def _socket(self, protocol: ServerProtocol) -> WebSocket:
        return WebSocket(
            protocol,
            self._host,  # in place of the library's server: it uses `handler`, `handler_tasks`, `is_serving`
            ping_interval=None,
            close_timeout=self._settings.open_timeout_s,
            max_queue=READ_FRAMES_MAX,
            owner=self._host,
            settings=self._settings,
            sends=self._sends,
            ack_reader=self._ack_reader,
        )


def _attach(ws: WebSocket, transport: asyncio.Transport, data: bytes) -> None:
    transport.set_protocol(ws)
    ws.connection_made(transport)
    if data:
        ws.data_received(data)
