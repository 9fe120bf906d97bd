"""Admission at the listening socket: plain HTTP, origins, and the limits per address."""

import asyncio
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.door import Door, Entry
from huahuo.transport.access.origin import origin_allowed
from huahuo.transport.server.lobby import Lobby
from huahuo.transport.server.notices import Notices
from huahuo.transport.server.ports import Site
from huahuo.transport.server.web_socket import WebSocket
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
