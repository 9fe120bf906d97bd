"""The bytes of an open WebSocket, in pieces, to a listener that now takes messages and now lets them wait.

Whatever the pieces and whatever it takes: it gets the messages that the library alone would have read from
the same bytes, each once, in their order. Only acks may come ahead of others: they say how far it is, and one
that says less changes nothing. So one may also come behind a text that waits and ends the connection.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from websockets.frames import CLOSE, CONT, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.frame_reader import AckReader, masked_frame, utf8_fault
from huahuo.transport.wire.sends import Sends
from huahuo.transport.wire.web_socket import ACK, WebSocket
from tests.support.fuzz.looped import done

_BYTES_MAX: Final = 1 << 16
_SETTINGS: Final = TransportSettings(message_bytes_max=_BYTES_MAX)
_TURNS: Final = 8
_MASK: Final = b"\x01\x02\x03\x04"


def masked(head: int, text: bytes) -> bytes:
    """A client's frame with this first byte."""
    size = len(text)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe%b" % size.to_bytes(2)
    return b"%c%b%b%b" % (head, length, _MASK, bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(text)))


def as_frames(texts: list[bytes]) -> bytes:
    """The text frames of a client."""
    return b"".join(masked_frame(0x81, text) for text in texts)


_ACKS: Final = b"".join(masked(0x81, b'{"action":"ack","cursors":{"user/1":%d}}' % seq) for seq in (7, 8, 12))
_SAID: Final = b"".join(masked(0x81, b'{"action":"note","id":"%d"}' % number) for number in range(3))
_LONG: Final = masked(0x81, b'{"action":"authenticate","token":"%b"}' % (b"t" * 200))
CONVERSATIONS: Final = (
    b"\x05\x00\x21\x40\n" + _LONG + _SAID + _ACKS,
    b"\x03\x12\xff\x07\n" + masked(0x01, b"ab") + masked(0x89, b"p") + masked(0x80, b"c") + _ACKS + _SAID,
    b"\x00\n" + _SAID + masked(0x82, b"\xff") + masked(0x81, b"\xff") + _SAID,
    b"\x44\x10\n" + _ACKS + masked(0x88, b"\x03\xe8") + _SAID,
)
"""A number of the conversation, and what the socket brings. What happens is drawn from both."""


def conversation(data: bytes) -> None:
    """See the module."""
    _, _, sent = data.partition(b"\n")
    ours = done(_heard(data, sent))
    alone, whole = list(_read_by_library(sent)), list(_read_by_library(sent, beyond=True))
    mine, others = ([text for text in of if not text.startswith(ACK)] for of in (ours, alone))
    assert mine == others, (mine, others)
    least, taken, most = (Counter(text for text in of if text.startswith(ACK)) for of in (alone, ours, whole))
    assert least <= taken <= most, (ours, alone)


def _read_by_library(sent: bytes, *, beyond: bool = False) -> Iterator[bytes]:
    """The messages up to the close, to what is no frame, or to a text that is no UTF-8 (not if `beyond`)."""
    library = Protocol(Side.SERVER, state=OPEN, max_size=_BYTES_MAX)
    library.receive_data(sent)
    parts, is_text = bytearray(), False
    for frame in library.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode is CLOSE:
            return
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, CONT):
            continue
        if frame.opcode is not CONT:
            parts, is_text = bytearray(), frame.opcode is Opcode.TEXT
        parts += frame.data
        if frame.fin:
            if is_text and not beyond and utf8_fault(bytes(parts)):
                return
            yield bytes(parts)


class _Wire(asyncio.Transport):
    """Takes what is written to it, and remembers whether it is read and open."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = self._reads = True

    def write(self, data: Any) -> None:
        pass

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True

    def is_reading(self) -> bool:
        return self._reads

    def is_closing(self) -> bool:
        return not self.is_open

    def close(self) -> None:
        self.is_open = False

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class _Listener:
    """Takes messages as it is drawn. Implements `Listener`."""

    def __init__(self, decisions: bytes) -> None:
        self.got: list[bytes] = []
        self._chance = Random(decisions)

    def decide(self) -> int:
        return self._chance.getrandbits(8)

    def took(self, text: bytes) -> bool:
        if not text.startswith(ACK) or self.decide() & 1:
            return False
        self.got.append(text)
        return True

    @property
    def quick_acks(self) -> "_Listener | None":
        return self if self.decide() & 2 else None

    def heard(self, texts: list[bytes]) -> int:
        how = self.decide()
        taken = texts if not how & 1 else texts[: how >> 2 & 3]
        self.got += taken
        return len(taken)

    @property
    def is_busy(self) -> bool:
        return self.decide() & 15 == 1

    def lost(self) -> None: ...
    def owes(self) -> bool:
        return False

    def ponged(self) -> None: ...
    def filled(self) -> None: ...
    def drained(self) -> None: ...
    def disconnected(self) -> None: ...


class _Owner:
    """Implements `web_socket.Owner`."""

    def connected(self, _socket: object) -> None: ...

    def holds(self, _socket: object, held_bytes: int) -> None:
        assert held_bytes >= 0, f"{held_bytes} bytes are held"

    def authenticated(self, _socket: object) -> None: ...
    def disconnected(self, _socket: object) -> None: ...
    def ended(self, _socket: object) -> None: ...


def _ends_of(frames: bytes) -> Iterator[int]:
    at = 0
    while at < len(frames):
        size = int.from_bytes(frames[at + 1 : at + 2]) & 0x7F
        at += 6 + size if size < 126 else 8 + int.from_bytes(frames[at + 2 : at + 4])
        yield at


def _upto(at: int, ends: list[int], how: int) -> int:
    """Where a piece ends: somewhere, or at the end of a frame, as most reads of a socket do."""
    if how & 7 == 0:
        return at + 1 + (how >> 3)
    return [end for end in ends if end > at][: 1 + (how >> 3 & 3)][-1]


async def _heard(decisions: bytes, sent: bytes) -> list[bytes]:
    """What a listener gets from a socket."""
    failed: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, told: failed.append(told.get("exception") or AssertionError(told["message"]))
    )
    listener, wire, owner = _Listener(decisions), _Wire(), _Owner()
    socket = WebSocket(
        wire, owner=owner, settings=_SETTINGS, sends=Sends(), ack_reader=AckReader(lambda: 0.0)
    )
    socket.listener = listener  # type: ignore[assignment]
    if listener.decide() & 1:
        socket.trust()
    at, ends = 0, list(_ends_of(sent))
    while at < len(sent) and wire.is_open and wire.is_reading():
        begin, at = at, _upto(at, ends, listener.decide())
        socket.data_received(sent[begin:at])
        if listener.got and not socket.trusted:
            socket.trust()
        if listener.decide() & 4:
            socket.go_on_soon()
        for _ in range(listener.decide() & 3):
            await asyncio.sleep(0)
        while not wire.is_reading() and socket.is_open:
            socket.go_on()
            await asyncio.sleep(0)
    for _ in range(_TURNS):
        socket.go_on()
        await asyncio.sleep(0)
    if wire.is_open:
        socket.eof_received()
    socket.connection_lost(None)
    while socket.waiting_count:
        await asyncio.sleep(0)
        socket.go_on()
    assert not failed, failed
    return listener.got
