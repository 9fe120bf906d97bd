"""A cheap WebSocket handshake for the usual request: after a restart, ten thousand sockets come at once.

Nearly all handshakes look the same: one GET whose whole head comes in one piece, without a repeated header.
`understood` parses such a head and checks everything that RFC 6455 requires. It leaves any other request to
the library, which parses it again, decides and answers. So the short way never accepts a request that the
library would refuse, and all refusals are written in one place.
"""

import asyncio
import re
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from websockets.exceptions import InvalidHandshake
from websockets.headers import parse_subprotocol
from websockets.utils import accept_key

from huahuo.transport.server.lobby import Lobby

_HEAD_BYTES_MAX = 4096
_HEADERS_MAX = 64
_OFFERS_KEPT = 64
_OFFER_CHARS_MAX = 128

_HEADS_KEPT = 64
"""A head has at most 4 KiB, so these are 256 KiB at most."""
_KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([0-9A-Za-z+/]{22}==)[ \t]*\r\n", re.IGNORECASE)
"""Any other key is none: base64 of 16 bytes has this form."""
_PRIVATE = re.compile(rb"\A[^\r\n]*\?|\r\n(?:proxy-)?(?:authorization|cookie):", re.IGNORECASE)
"""A secret of the sender may be in these lines, and in the parameters of a query."""
_HEAD = re.compile(rb"GET [!-~]+ HTTP/1\.1\r\n(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+\r\n")
_CONNECTION = frozenset({"upgrade", "keep-alive, upgrade"})
_NOT_HERE = frozenset({"content-length", "transfer-encoding"})


type _Asked = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class Asked(msgspec.Struct, frozen=True):
    """A valid WebSocket handshake. Origin and connection limits are checked later.

    What was not sent is empty. `size_bytes` is the size of the head.
    """

    size_bytes: int
    accept: str
    offered: tuple[str, ...]
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    forwarded_for: tuple[str, ...]


class Greeter(Protocol):
    """Decides about a new socket. Implemented by the server."""

    def spoke(self, greeting: "Greeting", data: bytes) -> None:
        """The first bytes came: another protocol object must take over the transport."""
        ...


class Greeting(asyncio.Protocol):
    """Waits for the first bytes."""

    __slots__ = ("_beginning", "_greeter", "_lobby", "deadline_s", "transport")

    transport: asyncio.Transport
    is_open = False

    def __init__(self, greeter: Greeter, lobby: Lobby, read: bytes = b"") -> None:
        """`read`: bytes that were read before the socket came here."""
        self._greeter = greeter
        self._lobby = lobby
        self._beginning = read
        self.deadline_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        known: Any = transport  # no `cast`: it is a call
        self.transport = known
        self._lobby.greet(self)
        if self._beginning:
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """The first bytes came."""
        if self._beginning:
            data = self._beginning + data
        self._lobby.heard(self, len(data))
        self._greeter.spoke(self, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        """TCP is gone."""
        self._lobby.leave(self)


def understood(data: bytes) -> Asked | None:
    """The request, if `data` begins with a complete and usual one. None: the library must parse it."""
    end = data.find(b"\r\n\r\n", 0, _HEAD_BYTES_MAX) + len(b"\r\n\r\n")
    found = _KEY.search(data, 0, end)
    if found is None:
        return None
    head = data[: found.start(1)] + data[found.end(1) : end]
    asked = kept(head) if _PRIVATE.search(head) is None else _without_key(head)
    if asked is None:
        return None
    return Asked(end, accept_key(found[1].decode("ascii")), *asked)


@lru_cache(maxsize=_HEADS_KEPT)
def kept(head: bytes) -> _Asked | None:
    """See `_without_key`. Clients of one kind send the same head, and come together after a restart."""
    return _without_key(head)


def _without_key(head: bytes) -> _Asked | None:
    """What a head asks for, whose key was cut out."""
    if _HEAD.fullmatch(head) is None:
        return None
    lines = head.decode("ascii").split("\r\n")[1:-2]
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip(" \t")
    offered = _offered(fields.get("sec-websocket-protocol"))
    in_order = (
        len(fields) == len(lines) <= _HEADERS_MAX
        and fields.keys().isdisjoint(_NOT_HERE)
        and "host" in fields
        and fields.get("upgrade", "").lower() == "websocket"
        and fields.get("connection", "").lower() in _CONNECTION
        and fields.get("sec-websocket-version") == "13"
        and fields.get("sec-websocket-key") == ""
    )
    if not in_order or offered is None:
        return None
    return offered, _listed(fields, "origin"), _listed(fields, "host"), _listed(fields, "x-forwarded-for")


class Welcomes:
    """The answers that open a WebSocket. The Date header is formatted at most once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def answer(self, accept: str, subprotocol: str | None, now_ms: int) -> bytes:
        """The complete 101 response."""
        if now_ms // 1000 != self._second:
            self._second = now_ms // 1000
            self._date = formatdate(self._second, usegmt=True)
        chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        return (
            f"HTTP/1.1 101 Switching Protocols\r\nDate: {self._date}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
        ).encode("ascii")


def _offered(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return ()
    return _parsed_offer(value) if len(value) <= _OFFER_CHARS_MAX else None


@lru_cache(maxsize=_OFFERS_KEPT)
def _parsed_offer(value: str) -> tuple[str, ...] | None:
    try:
        return tuple(parse_subprotocol(value))
    except InvalidHandshake:
        return None


def _listed(fields: dict[str, str], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    return () if value is None else (value,)
