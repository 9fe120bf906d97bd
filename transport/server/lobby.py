"""Sockets whose client has not authenticated: bounds on their number, their bytes and their silence."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from huahuo.transport.server.held_bytes import HeldBytes

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

    def left_s(self, deadline_s: float) -> float:
        """Seconds until a greeting's deadline."""
        return max(0.0, deadline_s - asyncio.get_running_loop().time() + self._slept_s())

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
