"""Reads text frames of clients from the bytes of their sockets, without the library's parser.

The functions, and `PackedMessages`, are pure. `PackedMessages` keeps messages of one client that wait in one
piece of bytes. As an object each, short ones take five times as much, and of the memory for those the
interpreter gives little back to the system.

The event loop reads each socket by itself, which costs more than all that an ack causes (ADR 13). So
`AckReader` reads many sockets whose last acks were alike in one call, while their transports do not read.
The part in C (`native`) recognises further acks of the kind. Everything else is given to the socket as if
its transport had read it, and the end of its stream is left to the transport.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from huahuo.transport import native
from huahuo.transport.wire.ports import TakesAcks

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library's part in C is optional
    from websockets.utils import apply_mask

DIRECT_BYTES_MAX: Final = 64 << 10
"""Longer messages go through the library."""
HEAD_BYTES_MAX: Final = 14
_LEAST_HEAD_BYTES = 2
SHORT_HEAD_BYTES: Final = 6
SHORT_BYTES_MAX: Final = 125
_LENGTH_16 = 126
_LENGTH_64 = 127
_FINAL_TEXT = 0x81
_MASKED = 0x80


def short_text(data: bytes) -> bytes | None:
    """The payload if `data` is exactly one masked, unfragmented text frame of at most 125 bytes.

    RFC 6455, 5.2 and 5.3: two bytes, the mask of four, the payload.
    """
    size = len(data) - SHORT_HEAD_BYTES
    if size < 1 or size > SHORT_BYTES_MAX or data[0] != _FINAL_TEXT or data[1] != _MASKED | size:
        return None
    return apply_mask(data[SHORT_HEAD_BYTES:], data[2:SHORT_HEAD_BYTES])


def texts_in(data: bytes, at: int = 0, bytes_max: int = DIRECT_BYTES_MAX) -> tuple[list[bytes], int, bool]:
    """(payloads, end, begun) of the masked, unfragmented text frames of up to `bytes_max` from `at` on.

    `end`: where the last one ends. `begun`: what follows may be the beginning of another one, of at most
    `DIRECT_BYTES_MAX`.
    """
    texts: list[bytes] = []
    have = len(data)
    while have - at >= _LEAST_HEAD_BYTES:
        size = data[at + 1] - _MASKED
        if data[at] != _FINAL_TEXT or size < 0:
            return texts, at, False
        begin = at + SHORT_HEAD_BYTES
        if size > SHORT_BYTES_MAX:
            if size != _LENGTH_16:
                return texts, at, False
            begin += 2
            if have < begin:
                return texts, at, True
            size = data[at + 2] << 8 | data[at + 3]
            if size <= SHORT_BYTES_MAX:  # not its shortest form: a fault, for the library to tell
                return texts, at, False
        end = begin + size
        if size > bytes_max:
            return texts, at, False
        if have < end:
            return texts, at, end - at <= DIRECT_BYTES_MAX
        texts.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
        at = end
    return texts, at, at < have and data[at] == _FINAL_TEXT


def frame_size(head: bytes) -> int:
    """The size of the masked frame that begins with `head`; 0: it does not say yet (RFC 6455, 5.2)."""
    if len(head) < _LEAST_HEAD_BYTES:
        return 0
    size, more = head[1] & ~_MASKED, 0
    if size > SHORT_BYTES_MAX:
        more = 2 if size == _LENGTH_16 else 8
        size = int.from_bytes(head[_LEAST_HEAD_BYTES : _LEAST_HEAD_BYTES + more])
    return 0 if len(head) < _LEAST_HEAD_BYTES + more else SHORT_HEAD_BYTES + more + size


def masked_frame(kind: int, payload: bytes) -> bytes:
    """A client's frame that `texts_in` and the library read as this."""
    size = len(payload)
    if size <= SHORT_BYTES_MAX:
        head = bytes((kind, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((kind, _MASKED | _LENGTH_16)) + size.to_bytes(2)
    else:
        head = bytes((kind, _MASKED | _LENGTH_64)) + size.to_bytes(8)
    return b"%b\0\0\0\0%b" % (head, payload)


def utf8_fault(text: bytes) -> str:
    """Why it is no UTF-8; "" if it is."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"{error.reason} at position {error.start}"
    return ""


_SIZE_BYTES: Final = 4


class PackedMessages:
    """Messages of one client that wait, in one piece of bytes. First in, first out."""

    __slots__ = ("_at", "_packed", "count")

    def __init__(self) -> None:
        self.count = 0
        self._packed = b""
        self._at = 0  # where the first one begins: its size

    @property
    def size_bytes(self) -> int:
        """How long they are together, with what is needed to tell them apart."""
        return len(self._packed) - self._at

    def add(self, messages: Iterable[bytes]) -> None:
        """Add at the end."""
        pieces = [self._packed[self._at :]]
        for message in messages:
            pieces += (len(message).to_bytes(_SIZE_BYTES), message)
            self.count += 1
        self._packed, self._at = b"".join(pieces), 0

    def texts(self, most: int) -> list[bytes]:
        """Up to `most` of the first ones. They still wait."""
        found: list[bytes] = []
        at = self._at
        for _ in range(min(most, self.count)):
            begin, at = self._bounds(at)
            found.append(self._packed[begin:at])
        return found

    def drop(self, count: int) -> None:
        """Take that many, which were handled."""
        self.count -= count
        for _ in range(count):
            self._at = self._bounds(self._at)[1]

    def _bounds(self, at: int) -> tuple[int, int]:
        begin = at + _SIZE_BYTES
        return begin, begin + int.from_bytes(self._packed[at:begin])


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
    """Reads the sockets of connections that send nothing but acks: many of them in one call.

    All methods belong to the loop's thread.
    """

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
            if isinstance(came, int):
                came = masked_frame(_FINAL_TEXT, b"%b%d}}" % (acks.front, came))
            if came:
                socket.handed(came)
            else:
                socket.read_by_transport()
        except Exception:  # noqa: BLE001  one connection's fault is not the others'
            _log.exception("bytes_not_handled")
            socket.abort()
