"""Sockets whose client has not authenticated: how many there may be, and how long one may say nothing."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class HasTransport(Protocol):
    """A socket that can be cut off. `is_open`: it is a WebSocket, whose client can be told of an end."""

    transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done."""
        ...


class Silent(HasTransport, Protocol):
    """A socket on which nothing came yet. `deadline_s`: until when something must, on the lobby's clock."""

    deadline_s: float


class Lobby:
    """At most `sockets_max` sockets, and `per_address_max` of one address (0: no limit of its own).

    A newcomer over a limit takes the place of the oldest socket of its own address, so that one address
    cannot push out the others. Only a newcomer whose address has no socket here, while the lobby is full,
    takes the place of the oldest of all. The address "" has no limit of its own: it stands for all
    clients of a trusted proxy whose request is not read yet.

    Once it is closed it lets in no socket: a loop may still hand in what it had accepted before. One timer,
    for the silent socket that came first, ends those that say nothing for `timeout_s`.
    """

    def __init__(
        self,
        sockets_max: int,
        timeout_s: float,
        slept_s: Callable[[], float] = float,
        *,
        per_address_max: int = 0,
        address_of: Callable[[asyncio.Transport], str] = lambda _transport: "",
    ) -> None:
        """`slept_s`: see `Ambient`; deadlines are on the loop's clock less that."""
        self._sockets_max = sockets_max
        self._per_address_max = per_address_max
        self._timeout_s = timeout_s
        self._slept_s = slept_s
        self._address_of = address_of
        self._closed = False
        self._inside: dict[HasTransport, str] = {}
        self._of_address: dict[str, dict[HasTransport, None]] = {}
        self._silent: dict[HasTransport, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.cut_off_count = 0
        """Sockets that had to give way to a newcomer."""

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, socket: HasTransport, address: str = "") -> None:
        """TCP is connected, or more is known about the client: its address, "" to ask the transport."""
        address = address or self._address_of(socket.transport)
        self._leave(socket)
        if self._closed:
            socket.transport.abort()
            return
        of_address = self._of_address.get(address, {})
        full = len(self._inside) >= self._sockets_max
        if full or (address and 0 < self._per_address_max <= len(of_address)):
            self._cut_off(next(iter(of_address or self._inside)))
        self._inside[socket] = address
        self._of_address.setdefault(address, {})[socket] = None

    def greet(self, silent: Silent) -> None:
        """TCP is connected, and something should be said soon."""
        loop = asyncio.get_running_loop()
        silent.deadline_s = loop.time() - self._slept_s() + self._timeout_s
        self.enter(silent)
        if silent not in self._inside:
            return
        self._silent[silent] = silent.deadline_s
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._time_is_up)

    def left_s(self, deadline_s: float) -> float:
        """Seconds until a greeting's deadline."""
        return max(0.0, deadline_s - asyncio.get_running_loop().time() + self._slept_s())

    def leave(self, socket: HasTransport) -> None:
        """The client authenticated, or TCP is gone. Idempotent."""
        self._leave(socket)
        self._silent.pop(socket, None)

    def close(self) -> None:
        """Cut off every socket that is no WebSocket yet, and those that come later."""
        self._closed = True
        for socket in tuple(self._inside):
            if not socket.is_open:
                socket.transport.abort()

    def _leave(self, socket: HasTransport) -> None:
        address = self._inside.pop(socket, None)
        if address is not None:
            of_address = self._of_address[address]
            del of_address[socket]
            if not of_address:
                del self._of_address[address]

    def _cut_off(self, socket: HasTransport) -> None:
        self.cut_off_count += 1
        # At once: the loop tells that it is gone only after all that are accepted in this turn.
        self.leave(socket)
        socket.transport.abort()

    def _time_is_up(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time() - self._slept_s()
        self._timer = None
        for silent, deadline_s in tuple(self._silent.items()):
            if deadline_s > now_s:
                self._timer = loop.call_later(deadline_s - now_s, self._time_is_up)
                return
            del self._silent[silent]
            silent.transport.abort()
