"""The library's server connection, with fast ways to write (`writing_socket`) and to read.

Complete text frames of an authenticated client are offered to the listener at once while the library
holds nothing. Before that, so is the first message. What the listener does not take goes through the library
and waits for its turn; so do all other frames.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

from websockets.exceptions import InvalidMessage
from websockets.frames import DATA_OPCODES, PONG, Frame
from websockets.protocol import CLOSING, CONNECTING, OPEN, Event

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Negotiated
from huahuo.transport.server.deferring_socket import ACK
from huahuo.transport.server.intake import Load
from huahuo.transport.server.lazy_deque import LazyDeque
from huahuo.transport.server.listener import Listener
from huahuo.transport.server.opening import OpeningProtocol
from huahuo.transport.server.queueing_socket import QueueingSocket
from huahuo.transport.server.text_frames import (
    SHORT_HEAD_BYTES,
    as_frames,
    between_frames,
    first_text,
    short_text,
    texts_in,
)
from huahuo.transport.words import en, http_zh

_PIECE_BYTES = 4 << 10
"""The library reads this much at a time, so that a flood of frames is seen before it was parsed."""
CONTROLS_MAX = 256
"""Pings and pongs in one read of the socket. A client sends some in a minute, a flood 40,000 in a read, which
would take the loop for 0.2 s."""
_AGAIN_S = 0.1
"""With no room for what was read of a long message either, its reading is tried again after this."""
_FRAME_BYTES = 256
"""Counted for a frame in addition to its payload. The library's object has 187 (`tracemalloc`)."""


class WebSocket(QueueingSocket):
    """See the module. `negotiated` is set by the handshake.

    Slots save 1.4 KB a connection: instances of a class share the names of only about 30 attributes, and the
    library's own attributes use those up.
    """

    __slots__ = (
        "_answered", "_controls", "_half_closed", "_queued", "_untouched", "load", "negotiated", "over_limit",
        "root",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.root = ""
        self.load: Load | None = None
        self.over_limit = False
        self.negotiated: Negotiated | None = None
        self._controls = 0  # pings and pongs of the last read
        self._answered = False  # a request that the library cannot read
        self._half_closed = False  # the client sent EOF before all it had asked was answered
        self._queued = False  # the library holds a message, or its reader has one in hand
        self._untouched = True  # the library has been given no bytes yet

    @property
    def rest_bytes(self) -> int:
        """Bytes of messages that are not complete, or that the listener wants later."""
        return self._later_bytes + len(self._rest)

    def handled(self) -> None:
        """All messages that were handed out before have been handled."""
        if self._half_closed:
            self._end_if_answered()
        if self._whole and not self.waiting_count:
            if self.load is not None:
                self.load.close()
            else:
                self._hold(-self._held_bytes)

    def handed_over(self) -> None:
        """The message that the library gave out is queued where all later ones come."""
        if self._queued and self._whole and not self.waiting_count:
            self._queued = False

    def go_on_soon(self) -> None:
        """Offer again what the listener wanted later, in the loop's next turn."""
        if self._later and not self._going_on:
            self._going_on = True
            self.loop.call_soon(self.go_on)
        elif self._half_closed:
            self.loop.call_soon(self._end_if_answered)

    def _owes(self) -> bool:
        """Whether a message that came is not answered yet."""
        if self._later or self.waiting_count or (self._queued and self._whole):
            return True
        return self.listener is not None and self.listener.owes()

    def _end_if_answered(self) -> None:
        """End the connection of a client that sends nothing more, and has all its answers."""
        if self.is_open and not self.transport.is_closing() and not self._owes():
            super().eof_received()
            self.transport.close()

    def begin(self) -> None:
        """The upgrade was accepted: read the bytes that followed the request, whose head is held no more."""
        protocol: Any = self.protocol  # `OpeningProtocol`. Here and below no `cast`: it is a call
        self._hold(protocol.waiting_bytes - self._held_bytes)
        self._resume_reading()
        self.data_received(b"")
        if self._half_closed:
            self._answer_only()

    def _answer_only(self) -> None:
        """End when it has its answers. Most such clients have gone, which TCP does not tell."""
        self._half_closed = True
        self.abort_within(self._settings.close_timeout_s)
        self._end_if_answered()

    # What the event loop and the library call -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        super().connection_made(transport)
        waiting: Any = LazyDeque()
        drained: Any = []  # an empty deque has 760 bytes
        self.recv_messages.frames.queue, self.drain_waiters = waiting, drained
        self._owner.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        self._read_all_kinds()  # before the descriptor may be that of another socket
        self._end_writing()
        self._give_rest()
        super().connection_lost(exc)
        fault = self.protocol.parser_exc
        if fault is not None:  # the end of the stream, mostly: its traceback holds our frames, and so this
            fault.__traceback__ = None
        if self.load is not None:
            self.load.close()
        if self.listener is not None:
            self.listener.disconnected()
        self._owner.disconnected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        quick_acks = self._quick_acks
        if quick_acks is not None:
            if quick_acks.take(data):
                if self._place < 0 and self._ack_reader.opened and not self._later:
                    self._read_acks(quick_acks)
                return
            self._read_all_kinds()
        if self._untouched and self._began(data):
            return
        if not self.trusted:
            self._hold(len(data))
        if self._rest:
            data = self._rest + data
            self._rest = b""
        listener = self.listener
        if listener is not None and self.protocol.state is OPEN:
            if self.trusted and self._whole and not self._queued:
                text = short_text(data)
                if text is None:
                    data = self._offer(listener, data)
                elif text.startswith(ACK) and listener.took(text):
                    self._quick_acks = listener.quick_acks
                    return
                else:
                    data = self._offer_texts(listener, [text])
                if not data:
                    return
            elif self._whole:
                text = short_text(data)
                if text is not None and listener.took(text):
                    return
        self._through_library(data)

    def _began(self, data: bytes) -> bool:
        """Offer the first message to the listener. Its bytes are counted unless it signs in at once."""
        listener = self.listener
        if listener is None or self._rest or self.protocol.state is not OPEN:
            return False
        text = first_text(data)
        if text is None or not listener.began(text):
            return False
        self._untouched, self._whole = False, True
        if not self.trusted:
            self._hold(len(data))
        return True

    def _through_library(self, data: bytes) -> None:
        """Let the library read bytes, and see what it makes of them."""
        self._untouched = False
        unpacked = self._pack(data)
        if unpacked is None:
            return
        data = unpacked
        protocol, self._controls = self.protocol, 0
        for at in range(0, len(data) or 1, _PIECE_BYTES):
            super().data_received(data if len(data) <= _PIECE_BYTES else data[at : at + _PIECE_BYTES])
            if self._controls > CONTROLS_MAX and protocol.state is OPEN:
                protocol.fail(CloseCode.RATE_LIMITED, en.MESSAGES_TOO_LONG)
                self.send_data()
                break
        if not self.trusted:
            self._hold(0)  # with the frames that came
        if protocol.state is CONNECTING:
            self._bound_what_waits()
        self._whole = protocol.current_size is None and between_frames(protocol)
        if not self._whole and self.load is not None and not self.load.is_in and self.trusted:
            self._make_room(self.load)
        self._queued = not self._whole or self._queued or self.waiting_count > 0
        if protocol.state is CLOSING:
            # The library has answered a close or a protocol error; without a deadline it would wait for ever.
            self.abort_within(self._settings.close_timeout_s)
        elif self.paused:
            self._cut_off_a_hoarder()

    def _make_room(self, load: Load) -> None:
        """A long message comes, or one in fragments. It is read on once there is room for the longest."""
        if load.waits or not load.take(self._settings.message_bytes_max):
            self.transport.pause_reading()
            if not load.waits and not load.wait(len(self.protocol.reader.buffer), self._read_long):
                self.loop.call_later(_AGAIN_S, self._read_long)

    def _read_long(self) -> None:
        """Read a long message on."""
        load = self.load
        if load is None or self.transport.is_closing():
            return
        if load.is_in or self._whole:
            self.transport.resume_reading()
        else:
            self._make_room(load)

    def _offer(self, listener: Listener, data: bytes) -> bytes:
        """Let the listener handle messages. Returns the bytes that are for the library."""
        texts, end, begun = texts_in(data)
        unheard = self._offer_texts(listener, texts) if texts else b""
        rest = data[end:]
        if unheard or (rest and not begun):
            return (unheard or as_frames(self._take_later())) + rest
        self._rest = rest
        return b""

    def _give_rest(self) -> None:
        """The peer has ended: what it sent before goes through the library, and is handled."""
        rest, self._rest = as_frames(self._take_later()) + self._rest, b""
        if rest and not self.protocol.reader.eof and (unpacked := self._pack(rest)):
            super().data_received(unpacked)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as `asyncio.Protocol` has it
        """The client sent EOF. True keeps the socket open for the answers to what it has asked."""
        if self.protocol.state is CONNECTING and self.request is not None:
            self._half_closed = True
            if self.protocol.eof_sent:
                self.transport.close()
            return True
        if self.is_open and self._owes():
            self._answer_only()
            return True
        self._give_rest()
        super().eof_received()
        return None

    def send_data(self) -> None:
        """The library has something to send, or wants to close.

        The library closes without an answer if it cannot read a request, so the answer is written here.
        """
        protocol = self.protocol
        self._read_all_kinds()
        unreadable = isinstance(protocol.handshake_exc, InvalidMessage) and not protocol.reader.eof
        if unreadable and not self._answered:
            self._answered = True
            refusal = cast("OpeningProtocol", protocol).reject(HTTPStatus.BAD_REQUEST, http_zh.NO_REQUEST)
            self.transport.write(refusal.serialize())
        super().send_data()
        if self.protocol.eof_sent and self.protocol.state is CONNECTING:
            self._resume_reading()  # and discard: unread bytes would turn the close into a reset
            if self._half_closed:
                self.transport.close()

    def process_event(self, event: Event) -> None:
        """The library read a request or a frame."""
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode not in DATA_OPCODES:
            self._controls += 1
        if not self.trusted and isinstance(event, Frame):
            kept = event.opcode in DATA_OPCODES
            self._held_bytes += _FRAME_BYTES if kept else -(SHORT_HEAD_BYTES + len(event.data))
        if self.listener is not None and isinstance(event, Frame) and event.opcode is PONG:
            self.listener.ponged()
