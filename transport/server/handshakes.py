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
from typing import Any, Final, Protocol

import structlog
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.door import Door, Entry, Notices, origin_allowed
from huahuo.transport.protocol.dialects import Dialect, Negotiated, negotiate
from huahuo.transport.server.wires import Wires
from huahuo.transport.wire.lobby import Asked, Greeter, Greeting, Lobby, Welcomes, understood
from huahuo.transport.wire.ports import PlainHttp
from huahuo.transport.wire.web_socket import LOGGER, Owner, WebSocket
from huahuo.transport.words import http_zh

_ROOT: Final = re.compile(r"(/[A-Za-z0-9_.~%-]+)+")
_log = structlog.get_logger(__name__)


class Admission:
    """See the module. Both ways of a handshake ask it."""

    def __init__(self, door: Door, notices: Notices, ambient: Ambient, origins: Sequence[str]) -> None:
        self._door = door
        self._notices = notices
        self._ambient = ambient
        self.origins = origins
        self._proxy_told = False

    def enter(self, origins: Sequence[str], hosts: Sequence[str], address: str) -> Entry:
        """Count one more connection of this address, if its page may connect."""
        if not origin_allowed(origins, hosts, self.origins):
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


def peer_of(transport: object) -> str:
    """The address at the other end of the socket, "" where it has none."""
    known: Any = transport
    try:
        return str(known.get_extra_info("peername")[0])
    except (TypeError, IndexError, AttributeError):
        return ""


_FORWARDED = re.compile(rb"\r\nx-forwarded-for:[ \t]*([^\r\n]*)(?=\r\n)", re.IGNORECASE)


class Host(Owner, Protocol):
    """The server: owner of the sockets, and what the library uses in place of its own server."""

    plain: PlainHttp | None

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        ...

    def serve(self, ws: WebSocket, dialect: Dialect | None, *, over_limit: bool) -> None:
        """Serve an open socket in a task until its end. `over_limit`: its address has too many."""
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
        plain = self._host.plain
        if plain is None or not self._host.is_serving():
            greeting.transport.abort()
            return
        asked = understood(data)
        if asked is not None:
            address = self._admission.address(greeting.transport, asked.forwarded_for)
            entry = self._admission.enter(asked.origins, asked.hosts, address)
            if entry is not Entry.REFUSED:  # else plain HTTP writes the refusal
                self.welcome(greeting.transport, asked, data[asked.size_bytes :], address, entry)
                return
        plain.take_over(greeting.transport, data, greeting.deadline_s)

    def judge(self, request: Request, peer: str) -> tuple[Asked, str, Entry] | Response:
        """What `welcome` needs for an unusual request, which the door has counted; or the refusal."""
        offered: list[str] = []

        def choose(_protocol: ServerProtocol, names: Sequence[Subprotocol]) -> None:
            offered.extend(names)

        library, all_of = ServerProtocol(select_subprotocol=choose, logger=LOGGER), request.headers.get_all
        origins, hosts, forwarded_for = all_of("Origin"), all_of("Host"), all_of("X-Forwarded-For")
        if not origin_allowed(origins, hosts, self._admission.origins):
            self._admission.tell_refused_origin(origins)
            return library.reject(HTTPStatus.FORBIDDEN, http_zh.ORIGIN_REFUSED)
        response = library.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return response
        address = self._admission.address_of(peer, forwarded_for)
        entry = self._admission.enter(origins, hosts, address)
        if entry is Entry.REFUSED:
            return library.reject(HTTPStatus.TOO_MANY_REQUESTS, http_zh.TOO_MANY_CONNECTIONS)
        accept = response.headers["Sec-WebSocket-Accept"]
        return (
            Asked(0, accept, tuple(offered), tuple(origins), tuple(hosts), tuple(forwarded_for)),
            address,
            entry,
        )

    def welcome(
        self, transport: asyncio.Transport, asked: Asked, behind: bytes, address: str, entry: Entry
    ) -> None:
        """Open a WebSocket. The door has counted it; `behind`: what came behind its request."""
        negotiated = self.negotiate(asked.offered)
        transport.write(self._welcomes.answer(asked.accept, negotiated.subprotocol, self._ambient.now_ms()))
        ws = self.open(transport, negotiated.dialect, address, over=entry is Entry.OVER)
        if behind:
            ws.data_received(behind)

    def open(
        self,
        transport: asyncio.Transport,
        dialect: Dialect | None,
        address: str,
        root: str = "",
        *,
        over: bool,
    ) -> WebSocket:
        """Serve an open WebSocket. `over`: its address has too many."""
        ws = WebSocket(
            transport,
            owner=self._host,
            settings=self._settings,
            sends=self._sends,
            ack_reader=self._ack_reader,
            address=address,
            root=root,
        )
        transport.set_protocol(ws)
        self._host.serve(ws, dialect, over_limit=over)
        return ws

    async def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Serve a socket that another process accepted, and `data`, which it has read.

        Raises:
            OSError: the socket is unusable.
        """
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Greeting(self, self._lobby, data), sock)
