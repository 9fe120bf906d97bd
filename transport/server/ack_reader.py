"""Reads the sockets of connections that send nothing but acks: many of them in one call.

The event loop reads each socket by itself, which costs more than all that an ack causes (ADR 13). So a
socket whose last acks were alike is read here, while its transport does not read. The part in C (`native`)
recognises further acks of the kind. Everything else is given to the socket as if its transport had read it,
and the end of its stream is left to the transport.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from huahuo.transport import native
from huahuo.transport.server.listener import TakesAcks
from huahuo.transport.server.text_frames import as_frames

_PLACES = 1 << 16
"""Of the part in C. A socket beyond them is read by its transport."""

_log = structlog.get_logger(__name__)


class Readable(Protocol):
    """A socket that may be read here. While it is, its acks are alike, and it holds no part of a message."""

    def handed(self, data: bytes) -> None:
        """Bytes that were read here."""
        ...

    def read_by_transport(self) -> None:
        """Leave: the transport reads from now on."""
        ...

    def abort(self) -> None:
        """End the connection after a fault."""
        ...


class AckReader:
    """See the module. All methods belong to the loop's thread."""

    __slots__ = (
        "_acks",
        "_free",
        "_handing",
        "_left",
        "_monotonic_s",
        "_native",
        "_reader",
        "_sockets",
        "opened",
    )

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._native: native.Native | None = None
        self._reader: tuple[object, int] | None = None
        self._sockets: list[Readable | None] = []
        self._acks: list[TakesAcks | None] = []
        self._free: list[int] = []
        self._left: list[int] = []  # places whose sockets may still be handed what was read of them
        self._handing = False
        self.opened = False
        """Whether sockets are read here at all."""

    def open(self) -> None:
        """Read sockets, if the part in C is there and the loop's transports read real ones."""
        self._native = native.found()
        self.opened = self._native is not None

    def close(self) -> None:
        """Let transports read all sockets. Idempotent."""
        self.opened = False
        for socket in tuple(self._sockets):
            if socket is not None:
                socket.read_by_transport()
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader[1])
            self._reader = None

    def admit(self, socket: Readable, acks: TakesAcks, descriptor: int) -> int:
        """Read this socket from now on. Returns its place; -1: that is not possible."""
        assert self._native is not None, "asked only while `opened`"
        place = self._free[-1] if self._free else len(self._sockets)
        if place == _PLACES:
            return -1
        try:
            if self._reader is None:
                self._reader = self._native.open_acks()
                asyncio.get_running_loop().add_reader(self._reader[1], self._read)
            self._native.watch_acks(self._reader[0], place, descriptor, acks.front)
        except OSError:  # there are no more descriptors, or too many are watched
            return -1
        if self._free:
            self._free.pop()
            self._sockets[place], self._acks[place] = socket, acks
        else:
            self._sockets.append(socket)
            self._acks.append(acks)
        return place

    def dismiss(self, place: int) -> None:
        """Read the socket at this place no more. Called before its descriptor is closed."""
        assert self._native is not None, "it was admitted"
        assert self._reader is not None, "it was admitted"
        self._native.watch_acks(self._reader[0], place)
        self._left.append(place)
        if not self._handing:
            self._clear()

    def _clear(self) -> None:
        for place in self._left:
            self._sockets[place] = self._acks[place] = None
        self._free += self._left
        self._left.clear()

    def _read(self) -> None:
        """Read those sockets to which something came, a bounded number of them."""
        assert self._native is not None, "called while open"
        assert self._reader is not None, "called while open"
        sockets, acks, left, now_s = self._sockets, self._acks, self._left, self._monotonic_s()
        self._handing = True
        try:
            for place, came in self._native.read_acks(self._reader[0]):
                taker = acks[place]
                assert taker is not None, "places are cleared after this"
                if came.__class__ is int and not left and taker.acked(came, now_s):
                    continue
                socket = sockets[place]
                assert socket is not None, "as above"
                self._hand(socket, taker, came)
        finally:
            self._handing = False
            self._clear()

    @staticmethod
    def _hand(socket: Readable, acks: TakesAcks, came: int | bytes) -> None:
        try:
            data = came if isinstance(came, bytes) else as_frames([b"%b%d}}" % (acks.front, came)])
            if data:
                socket.handed(data)
            else:
                socket.read_by_transport()
        except Exception:  # noqa: BLE001  one connection's fault is not the others'
            _log.exception("bytes_not_handled")
            socket.abort()
