"""Sockets whose client has not authenticated: a cheap handshake, and bounds on their wait.

After a restart ten thousand sockets come at once, and nearly all handshakes look the same: one GET whose
whole head comes in one piece, without a repeated header. `understood` parses such a head and checks
everything that RFC 6455 requires. It leaves any other request to the library, which parses it again,
decides and answers. So the short way never accepts a request that the library would refuse, and all
refusals are written in one place.

`Lobby` bounds the number, the bytes and the silence of such sockets. `HeldBytes` sums what they hold by
address, and says who must go when it is too much; it is pure.
"""

import asyncio
import heapq
import re
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from websockets.exceptions import InvalidHandshake
from websockets.headers import parse_subprotocol
from websockets.utils import accept_key


class HeldBytes[S]:
    """How many bytes each socket holds."""

    def __init__(self) -> None:
        self.total = 0
        self._of_address: dict[str, dict[S, int]] = {}
        self._sums: dict[str, int] = {}

    def put(self, socket: S, address: str, count: int) -> None:
        """The socket, of this address, now holds `count` bytes. With 0 it is forgotten."""
        held = self._of_address.setdefault(address, {})
        change = count - held.pop(socket, 0)
        if count:
            held[socket] = count
        self.total += change
        self._sums[address] = self._sums.get(address, 0) + change
        if not held:
            del self._of_address[address], self._sums[address]

    def drop(self, socket: S, address: str) -> int:
        """Forget the socket; returns what it held."""
        held = self._of_address.get(address)
        count = 0 if held is None else held.get(socket, 0)
        if count:
            self.put(socket, address, 0)
        return count

    def too_many(self, bytes_max: int) -> Iterator[S]:
        """Sockets to end until the others hold at most `bytes_max`: always the fullest address's fullest.

        It looks once at all addresses, however many must go, and at the sockets of those that lose one.
        """
        left = self.total
        fullest = [(-count, address) for address, count in self._sums.items()]
        heapq.heapify(fullest)
        lines: dict[str, list[tuple[int, S]]] = {}
        while left > bytes_max and fullest:
            below, address = fullest[0]
            if address not in lines:
                lines[address] = sorted(
                    ((count, socket) for socket, count in self._of_address[address].items()),
                    key=lambda line: line[0],
                )
            count, socket = lines[address].pop()
            left -= count
            heapq.heapreplace(fullest, (below + count, address))
            yield socket


_ROOM_MADE: Final = 8
"""One part in this many is freed at a time. As many bytes must come again before the next search for the
fullest socket, so that searches are rare."""
_WAIT_LEAST_S: Final = 0.001
"""A wait that is lost when it is added to the loop's time would end again and again at the same moment."""


class Aborted(Protocol):
    """A transport, as far as the server uses one."""

    def abort(self) -> None:
        """Close at once. What waits to be sent is lost."""
        ...


class HasTransport(Protocol):
    """A socket that can be cut off. `is_open`: it is a WebSocket, so its client can be sent a close."""

    @property
    def transport(self) -> Aborted:
        """What to abort."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done."""
        ...


class Silent(HasTransport, Protocol):
    """A socket without any bytes yet. `deadline_s`: when the first must have come, on the lobby's clock."""

    deadline_s: float


class Lobby:
    """At most `sockets_max` sockets, and `per_address_max` of one address (0: no limit of its own).

    If a newcomer exceeds a limit, the oldest socket of its address is cut off, so that one address cannot
    push out the others. If the lobby is full and the newcomer's address has no socket here, the oldest socket
    of all is cut off. The address "" has no limit of its own: it means all clients of a trusted proxy whose
    requests are not read yet.

    If the sockets together hold more than `bytes_max` bytes (0: no limit), the address that holds most loses
    its fullest socket, again and again until an eighth is free.

    A closed lobby cuts off every newcomer: the loop may still hand in sockets that it accepted before. One
    timer, set for the oldest silent socket, ends sockets that are silent for `timeout_s`.
    """

    def __init__(
        self,
        sockets_max: int,
        timeout_s: float,
        slept_s: Callable[[], float] = float,
        *,
        per_address_max: int = 0,
        bytes_max: int = 0,
        address_of: Callable[[Any], str] = lambda _transport: "",
    ) -> None:
        """`slept_s`: see `Ambient`. Deadlines are on the loop's clock minus `slept_s`."""
        self._sockets_max = sockets_max
        self._per_address_max = per_address_max
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._slept_s = slept_s
        self._address_of = address_of
        self._closed = False
        self._inside: dict[HasTransport, str] = {}
        self._of_address: dict[str, dict[HasTransport, None]] = {}
        self._held: HeldBytes[HasTransport] = HeldBytes()
        self._silent: dict[HasTransport, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.cut_off_count = 0
        """Sockets that were cut off for a newcomer or for their bytes."""

    def __len__(self) -> int:
        return len(self._inside)

    @property
    def held_bytes(self) -> int:
        """What the sockets here hold together."""
        return self._held.total

    def enter(self, socket: HasTransport, address: str = "") -> None:
        """TCP is connected, or the client's `address` is now known ("": take the transport's)."""
        address = address or self._address_of(socket.transport)
        held_bytes = self._leave(socket) if socket in self._inside else 0
        if self._closed:
            socket.transport.abort()
            return
        of_address = self._of_address.get(address, {})
        full = len(self._inside) >= self._sockets_max
        if full or (address and 0 < self._per_address_max <= len(of_address)):
            self._cut_off(next(iter(of_address or self._inside)))
        self._inside[socket] = address
        self._of_address.setdefault(address, {})[socket] = None
        if held_bytes:
            self._held.put(socket, address, held_bytes)

    def hold(self, socket: HasTransport, held_bytes: int) -> None:
        """The socket holds this many bytes that are not handled. Ignored if it is not in the lobby."""
        address = self._inside.get(socket)
        if address is None:
            return
        self._held.put(socket, address, held_bytes)
        if 0 < self._bytes_max < self._held.total:
            for full in tuple(self._held.too_many(self._bytes_max - self._bytes_max // _ROOM_MADE)):
                self._cut_off(full)

    def greet(self, silent: Silent) -> None:
        """TCP is connected: the client must send its first bytes before the deadline."""
        loop = asyncio.get_running_loop()
        silent.deadline_s = loop.time() - self._slept_s() + self._timeout_s
        self.enter(silent)
        if silent not in self._inside:
            return
        self._silent[silent] = silent.deadline_s
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._time_is_up)

    def heard(self, silent: Silent, held_bytes: int) -> None:
        """Its first bytes came in time, and may wait for their turn."""
        self._silent.pop(silent, None)
        self.hold(silent, held_bytes)

    def leave(self, socket: HasTransport) -> None:
        """The client authenticated, or TCP is gone. Idempotent."""
        if socket in self._inside:
            self._leave(socket)
        self._silent.pop(socket, None)

    def close(self) -> None:
        """Cut off every socket that is not yet a WebSocket, and every later newcomer."""
        self._closed = True
        for socket in tuple(self._inside):
            if not socket.is_open:
                socket.transport.abort()

    def _leave(self, socket: HasTransport) -> int:
        """The bytes that it held."""
        address = self._inside.pop(socket, None)
        if address is None:
            return 0
        of_address = self._of_address[address]
        del of_address[socket]
        if not of_address:
            del self._of_address[address]
        return self._held.drop(socket, address)

    def _cut_off(self, socket: HasTransport) -> None:
        self.cut_off_count += 1
        # Now: the loop reports the lost connection only after it has accepted all sockets of this turn.
        self.leave(socket)
        socket.transport.abort()

    def _time_is_up(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time() - self._slept_s()
        self._timer = None
        for silent, deadline_s in tuple(self._silent.items()):
            if deadline_s > now_s:
                self._timer = loop.call_later(max(_WAIT_LEAST_S, deadline_s - now_s), self._time_is_up)
                return
            del self._silent[silent]
            silent.transport.abort()


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
