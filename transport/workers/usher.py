"""New sockets of a worker: WebSockets of usual clients stay here, all others are given to the owner.

The owner has the site, the API over HTTP, the classic clients' interpreters and the texts of all refusals, so
whatever is not a usual handshake of an admitted client goes there, with the bytes that were read.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.transport.access.door import Entry
from huahuo.transport.access.origin import origin_allowed
from huahuo.transport.protocol.dialects import DOCUMENT
from huahuo.transport.server.fast_handshake import Asked, Greeting, understood
from huahuo.transport.server.server import Server
from huahuo.transport.workers.failures import OwnerFailed
from huahuo.transport.workers.messages import Given
from huahuo.transport.workers.remote_access import RemoteDoor

GIVING_MAX: Final = 4096
"""Sockets that wait to be given to the owner. Beyond that, a socket is closed."""

_log = structlog.get_logger(__name__)


class Giver:
    """Gives sockets to the owner over a second Unix socket: each goes with its number."""

    def __init__(self, sock: socket.socket, say: Callable[[object], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._say = say
        self._made = 0
        self._waiting: list[tuple[int, int]] = []

    def give(self, transport: asyncio.Transport, data: bytes) -> None:
        """Give away the socket of `transport`, of which `data` was read."""
        theirs = cast("socket.socket | None", transport.get_extra_info("socket"))
        if theirs is not None and len(self._waiting) < GIVING_MAX:
            self._made += 1
            self._say(Given(self._made, data))
            self._waiting.append((self._made, socket.dup(theirs.fileno())))
            self._flush()
        transport.abort()  # closes our descriptor; the connection lives on by the other one

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            number, descriptor = self._waiting[0]
            try:
                socket.send_fds(self._sock, [number.to_bytes(8)], [descriptor])
            except BlockingIOError:
                loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                _log.warning("socket_not_given", reason=str(error))
            del self._waiting[0]
            socket.close(descriptor)
        loop.remove_writer(self._sock)


class Taker:
    """The owner's end: joins sockets and the bytes that were read of them."""

    def __init__(self, sock: socket.socket, serve: Callable[[socket.socket, bytes], Any]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._serve = serve
        self._sockets: dict[int, socket.socket] = {}
        self._data: dict[int, bytes] = {}
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def given(self, told: Given) -> None:
        """The bytes of a socket came."""
        sock = self._sockets.pop(told.number, None)
        if sock is None:
            self._data[told.number] = told.data
        else:
            self._serve(sock, told.data)

    def close(self) -> None:
        """The worker is gone: serve what came whole, close the rest."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._data.clear()

    def _readable(self) -> None:
        while True:
            try:
                number, descriptors, _, _ = socket.recv_fds(self._sock, 8, 1)
            except BlockingIOError:
                return
            except OSError:
                number, descriptors = b"", []
            if not number:
                asyncio.get_running_loop().remove_reader(self._sock)
                return
            for descriptor in descriptors:
                self._came(int.from_bytes(number), socket.socket(fileno=descriptor))

    def _came(self, number: int, sock: socket.socket) -> None:
        data = self._data.pop(number, None)
        if data is None:
            self._sockets[number] = sock
        else:
            self._serve(sock, data)


class Usher:
    """Implements `ports.Usher`."""

    def __init__(
        self,
        server: Server,
        door: RemoteDoor,
        giver: Giver,
        *,
        origins: tuple[str, ...],
        has_tongues: bool,
    ) -> None:
        self._server = server
        self._door = door
        self._giver = giver
        self._origins = origins
        self._has_tongues = has_tongues
        self._asking: set[asyncio.Task[None]] = set()

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """See `ports.Usher`."""
        asked = understood(data)
        if asked is None or not self._serves(asked):
            self._giver.give(greeting.transport, data)
            return
        greeting.transport.pause_reading()  # what the client sends now must wait for the socket's protocol
        task = asyncio.get_running_loop().create_task(self._ask(greeting, asked, data))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _serves(self, asked: Asked) -> bool:
        """Whether this is a client that a worker can serve, on a page that may connect."""
        dialect = self._server.handshakes.negotiate(asked.offered).dialect
        if dialect is None or (dialect is DOCUMENT and self._has_tongues):
            return False
        return self._server.is_serving() and origin_allowed(asked.origins, asked.hosts, self._origins)

    async def _ask(self, greeting: Greeting, asked: Asked, data: bytes) -> None:
        transport = greeting.transport
        address = self._server.admission.address(transport, asked.forwarded_for)
        try:
            entry = await self._door.ask(address)
        except (EventStoreError, OwnerFailed):
            transport.abort()
            return
        if entry is Entry.REFUSED:
            self._giver.give(transport, data)  # the owner's door refuses it again, and writes why
        elif transport.is_closing():
            self._door.leave(address)
        else:
            self._server.handshakes.welcome(transport, asked, data, address, entry)
            transport.resume_reading()
