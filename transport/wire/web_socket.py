"""The library's server connection, with fast ways to write and to read, and an end that cannot hang.

* Writing: complete frames go straight to the transport, because `websockets` would build each frame again
  for every connection. This is sound while the state is OPEN and no fragmented message is being sent; this
  server never sends fragments.
* Closing: the library's own `close()` waits for a peer that may never read. Here every close has a
  deadline, no matter which side began it; at the deadline the transport is aborted.
* Reading: complete text frames of an authenticated client are offered to the listener at once while the
  library holds nothing. Before that, so is the first message; it must be small, and its bytes are counted.
  What the listener does not take goes through the library, behind what is kept, so that the order stays.
* Waiting: texts that came whole, behind a message that the library holds, are kept as bytes until the
  reader has taken those before. Control frames, fragments and faults have their effect when they come.
* While a client sends nothing but acks that are alike, `AckReader` reads its socket.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidMessage
from websockets.frames import DATA_OPCODES, PONG, Frame, Opcode
from websockets.protocol import CLOSING, CONNECTING, OPEN, Event

from huahuo.transport.load.intake import Load
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Negotiated
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.frame_reader import (
    SHORT_HEAD_BYTES,
    AckReader,
    PackedTexts,
    as_frames,
    between_frames,
    first_text,
    short_text,
    texts_in,
)
from huahuo.transport.wire.ports import Heard, InLobby, Listener, TakesAcks
from huahuo.transport.wire.sends import Direct, Sends, descriptor_of
from huahuo.transport.wire.server_protocol import LOGGER, LastWords, LazyDeque, OpeningProtocol
from huahuo.transport.words import en, http_zh

_LOW_WATER = 4  # resume when a quarter of the bound is left
_REPLIES_WAITING_MAX = 4
"""A peer that does not read its replies or pongs is disconnected when this many maximum-size replies are
buffered."""


_ALIKE_MIN = 2
_ALIKE_AGAIN = 8
"""A socket changes its reader after this many acks, since that costs some system calls (16 µs to and fro). If
it did before, the second number counts. So a few acks between a client's other messages do not cause it."""


class Owner(Protocol):
    """Counts sockets. Implemented by the server."""

    def connected(self, socket: InLobby) -> None:
        """TCP is connected; the handshake follows."""
        ...

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """This many bytes of a client that has not authenticated are incomplete or not handled."""
        ...

    def authenticated(self, socket: InLobby) -> None:
        """A token was accepted: the first one, or a refreshed one."""
        ...

    def disconnected(self, socket: InLobby) -> None:
        """TCP is gone."""
        ...


ACK = b'{"action":"ack"'
_LATER_BYTES_MAX = 256 << 10
"""With more than this, the socket is not read until the listener has taken them."""
_TEXT_BYTES = 48
"""Counted for a message that waits, in addition to its payload."""


READ_FRAMES_MAX: Final = 4
"""With more messages than this, the socket is not read until no more than a quarter of them wait."""


_PIECE_BYTES = 4 << 10
"""The library reads this much at a time, so that a flood of frames is seen before it was parsed."""
CONTROLS_MAX = 256
"""Pings and pongs in one read of the socket. A client sends some in a minute, a flood 40,000 in a read, which
would take the loop for 0.2 s."""
_AGAIN_S = 0.1
"""With no room for what was read of a long message either, its reading is tried again after this."""
_FRAME_BYTES = 256
"""Counted for a frame in addition to its payload. The library's object has 187 (`tracemalloc`)."""


class WebSocket(ServerConnection):
    """The library's server connection, with fast ways to write (`writing_socket`) and to read.

    `negotiated` is set by the handshake, `address` once the door has counted the socket. `open_by_s` is the
    deadline of the handshake, on the lobby's clock. While the ack reader reads it, the transport does not.
    Packed texts lie behind all messages that the library holds.

    Slots save 1.4 KB a connection: instances of a class share the names of only about 30 attributes, and the
    library's own attributes use those up.
    """

    __slots__ = (
        "_abort", "_ack_reader", "_alike", "_alike_min", "_answered", "_clean", "_controls", "_descriptor",
        "_going_on", "_half_closed", "_held_bytes", "_later", "_later_bytes", "_leave", "_owner", "_packed",
        "_packed_paused", "_paused_late", "_place", "_queued", "_quick_acks", "_reading_paused", "_rest",
        "_sends", "_settings", "_untouched", "_whole", "address", "collected", "listener", "load",
        "negotiated", "open_by_s", "over_limit", "root", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        *args: Any,
        settings: TransportSettings,
        sends: Sends,
        ack_reader: AckReader,
        owner: Owner,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.protocol.logger = LOGGER  # in place of an adapter with a dict of its own
        self.listener: Listener | None = None
        self._settings = settings
        self._sends = sends
        self._descriptor = -1  # a number, while it may be written to without the transport
        self._clean = False  # the transport is known to have nothing to write
        self._leave: Callable[[], None] | None = None
        self.collected = -1
        self._abort: asyncio.TimerHandle | None = None
        self._quick_acks: TakesAcks | None = None  # the last bytes were an ack, and the library holds none
        self._alike = 0  # how many acks `_quick_acks` has taken
        self._alike_min = _ALIKE_MIN
        self._ack_reader = ack_reader
        self._place = -1  # where it is read there, or -1
        self.address = ""
        self.open_by_s = 0.0
        self.trusted = False
        self._owner = owner
        self._held_bytes = 0  # until the client has authenticated
        self._reading_paused = False  # True at most until the request is answered
        self._later: list[bytes] = []  # complete messages, to be offered again
        self._later_bytes = 0
        self._going_on = False  # they are offered in the loop's next turn
        self._paused_late = False
        self._packed: PackedTexts | None = None
        self._packed_paused = False
        self._rest = b""  # a frame that is not complete, at the end of the bytes
        self._whole = False  # the library holds no partial frame or message
        self.root = ""
        self.load: Load | None = None
        self.over_limit = False
        self.negotiated: Negotiated | None = None
        self._controls = 0  # pings and pongs of the last read
        self._answered = False  # a request that the library cannot read
        self._half_closed = False  # the client sent EOF before all it had asked was answered
        self._queued = False  # the library holds a message, or its reader has one in hand
        self._untouched = True  # the library has been given no bytes yet

    def has_room(self) -> bool:
        """Whether frames may be written without filling the buffer beyond its bound.

        The transport pauses writing when a write leaves too much in the buffer; uvloop does so only at the
        end of the loop's turn.
        """
        return not self.paused and self.protocol.state is OPEN

    @property
    def is_open(self) -> bool:
        """Whether the connection can be written to at all."""
        return self.protocol.state is OPEN

    @property
    def unsent_bytes(self) -> int:
        """The size of the write buffer's content."""
        return self.transport.get_write_buffer_size()

    def bound_buffer(self, bytes_max: int) -> None:
        """Set the bound of the write buffer."""
        self.transport.set_write_buffer_limits(bytes_max, bytes_max // _LOW_WATER)

    def write(self, frame: bytes) -> None:
        """Write a complete frame, or nothing if the connection is no longer open."""
        if self._leave is not None:
            self._leave()
        if self.protocol.state is not OPEN:
            return
        if (
            self._sends.collecting
            and self._descriptor >= 0
            and (self._clean or self.collected >= 0 or self._is_clean())
        ):
            self._sends.put(self, self._descriptor, frame)
        else:
            self.write_rest(frame, 0)

    def write_rest(self, frame: bytes, written: int) -> None:
        """See `sends.Direct`."""
        if self._leave is not None:
            self._leave()
        self._clean = False
        self.transport.write(frame[written:] if written else frame)
        if self.paused:
            self._cut_off_a_hoarder()

    def abort(self) -> None:
        """See `sends.Direct`."""
        if self._leave is not None:
            self._leave()
        self.transport.abort()

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """See `ports.Socket`."""
        if self._descriptor < 0 or self.collected >= 0 or self._leave is not None or not self.has_room():
            return None
        if not (self._clean or self._is_clean()):
            return None
        self._leave = leave
        return self, self._descriptor

    def on_its_own(self) -> None:
        """See `ports.Socket`."""
        self._leave = None

    def _is_clean(self) -> bool:
        transport = self.transport
        self._clean = not (transport.get_write_buffer_size() or transport.is_closing())
        return self._clean

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """Send a close frame, and abort the transport if the peer has not finished by the deadline."""
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self.send_data()
        self.abort_within(deadline_s)

    def abort_within(self, deadline_s: float) -> None:
        """Abort the transport after `deadline_s`, unless the connection ends before."""
        if self._abort is None and not self.connection_lost_waiter.done():
            self._abort = self.loop.call_later(deadline_s, self.transport.abort)

    def pause_writing(self) -> None:
        """The transport is full."""
        super().pause_writing()
        if self.listener is not None:
            self.listener.filled()

    def resume_writing(self) -> None:
        """The transport has room again."""
        super().resume_writing()
        if self.listener is not None:
            self.listener.drained()

    def _cut_off_a_hoarder(self) -> None:
        if self.transport.get_write_buffer_size() > _REPLIES_WAITING_MAX * self._settings.reply_bytes_max:
            self.transport.abort()

    def _read_acks(self, quick_acks: TakesAcks) -> None:
        """`quick_acks` has taken an ack. If these were some, let the ack reader read this socket."""
        self._alike += 1
        if self._alike < self._alike_min or self._descriptor < 0:
            return
        self._alike, self._alike_min = 0, _ALIKE_AGAIN
        self._place = self._ack_reader.admit(self, quick_acks, self._descriptor)
        if self._place >= 0:
            self.transport.pause_reading()

    def _read_all_kinds(self) -> None:
        """What comes or is sent may be anything: it goes the longer ways, and the transport reads."""
        self._quick_acks, self._alike = None, 0
        self.read_by_transport()

    def read_by_transport(self) -> None:
        """See `frame_reader.Readable`."""
        if self._place >= 0:
            self._ack_reader.dismiss(self._place)
            self._place = -1
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def handed(self, data: bytes) -> None:
        """See `frame_reader.Readable`. A transport that is being closed would not have read them."""
        if not self.transport.is_closing():
            self.data_received(data)

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`. It is so from the next frame on."""
        if if_too_large:
            cast("LastWords", self.protocol).if_too_large = if_too_large
        self.protocol.max_message_size = self._settings.message_bytes_max
        self.trusted = True
        self._owner.authenticated(self)

    def _hold(self, change: int) -> None:
        self._held_bytes += change
        self._owner.holds(self, self._held_bytes)

    def _bound_what_waits(self) -> None:
        """Stop reading when too much follows an unanswered request."""
        protocol: Any = self.protocol  # `OpeningProtocol`; no `cast`: it is a call
        waiting: int = protocol.waiting_bytes
        if waiting > self._settings.unauthenticated_bytes_max and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()

    def go_on(self) -> None:
        """Offer again, now, what the listener wanted later."""
        self._going_on = False
        texts, self._later, self._later_bytes = self._later, [], 0
        if not texts:  # the peer has ended meanwhile
            return
        self._read_all_kinds()
        listener = self.listener
        if listener is None or self.protocol.state is not OPEN:
            unheard = as_frames(texts)
        else:
            unheard = self._hear(listener, texts)
        self._read_on()  # before the library, which may stop reading in its turn
        if unheard:
            self._through_library(unheard)

    def _offer_texts(self, listener: Listener, texts: list[bytes]) -> bytes:
        """Let the listener handle messages. Returns the frames that are for the library.

        If messages are for the library, so are those that were kept for later.
        """
        if self._later:
            self._defer(listener, texts)
            return b""
        unheard = self._hear(listener, texts)
        return as_frames(self._take_later()) + unheard if unheard else b""

    def _take_later(self) -> list[bytes]:
        texts, self._later, self._later_bytes = self._later, [], 0
        self._read_on()
        return texts

    def _hear(self, listener: Listener, texts: list[bytes]) -> bytes:
        """Let the listener handle messages. Returns as frames those that must be queued in the library."""
        count, then = listener.heard(texts)
        if count == len(texts):
            return b""
        unheard = texts[count:]
        if then is Heard.QUEUE or self.protocol.state is not OPEN:
            return as_frames(unheard)
        self._defer(listener, unheard)
        return b""

    def _defer(self, listener: Listener, texts: list[bytes]) -> None:
        """Keep messages for later, except for acks."""
        for text in texts:
            if not (text.startswith(ACK) and listener.took(text)):
                self._later.append(text)
                self._later_bytes += len(text) + _TEXT_BYTES
        if self._later_bytes > _LATER_BYTES_MAX and not self._paused_late:
            self._paused_late = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused_late and self._later_bytes <= _LATER_BYTES_MAX:
            self._paused_late = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def waiting_count(self) -> int:
        """How many whole messages wait for the reader."""
        packed = self._packed
        return len(self.recv_messages.frames) + (0 if packed is None else packed.count)

    def recv(self) -> Coroutine[Any, Any, str | bytes]:  # type: ignore[override]  # as `Socket` has it
        """See `Socket`."""
        packed, frames = self._packed, self.recv_messages.frames
        if packed is not None and not len(frames):
            frames.put(Frame(Opcode.TEXT, packed.take()))
            if not packed.count:
                self._packed = None
            if packed.count <= READ_FRAMES_MAX // 4:
                self._read_behind_packed()
        return super().recv()

    def _pack(self, data: bytes) -> bytes | None:
        """Keep messages that must wait. Returns the bytes that the library is to read now; None: no call."""
        protocol = self.protocol
        if protocol.state is not OPEN:  # the library discards, but still reads if this side alone has closed
            return data if protocol.eof_sent else self._unpacked() + data
        if self.trusted and self._whole and not self.recv_messages.paused:
            texts, end, begun = texts_in(data)
            if (begun or end == len(data)) and self._may_be_so_long(texts):
                if self.waiting_count or not texts:
                    self._keep(texts, data[end:])
                    return None
                self._keep(texts[1:], data[end:])
                return as_frames(texts[:1])
        return self._unpacked() + data

    def _may_be_so_long(self, texts: list[bytes]) -> bool:
        bytes_max = self.protocol.max_message_size
        return bytes_max is None or max(map(len, texts), default=0) <= bytes_max

    def _keep(self, texts: list[bytes], rest: bytes) -> None:
        if rest:
            self._rest = rest
        if texts:
            packed = self._packed = self._packed or PackedTexts()
            packed.add(texts)
            if packed.count >= READ_FRAMES_MAX and not self.transport.is_closing():
                self._packed_paused = True
                self.transport.pause_reading()

    def _unpacked(self) -> bytes:
        packed, self._packed = self._packed, None
        self._read_behind_packed()  # before the library, which may stop reading in its turn
        return b"" if packed is None else as_frames([packed.take() for _ in range(packed.count)])

    def _read_behind_packed(self) -> None:
        if self._packed_paused:
            self._packed_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

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
        self._descriptor = descriptor_of(transport)
        waiting: Any = LazyDeque()
        drained: Any = []  # an empty deque has 760 bytes
        self.recv_messages.frames.queue, self.drain_waiters = waiting, drained
        self._owner.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        self._read_all_kinds()  # before the descriptor may be that of another socket
        if self._leave is not None:
            self._leave()
        self._descriptor = -1  # which may soon be that of another socket
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None
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
        if self._leave is not None:
            self._leave()
        if self.collected >= 0:
            self._sends.flush()  # frames that were written before come before
        self._clean = False
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
