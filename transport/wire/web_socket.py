"""A WebSocket of a client: a protocol of the event loop over the library's parser, which knows no sockets.

* Writing: complete frames go straight to the transport, or past it (`sends`). This server never sends
  fragments.
* Closing: every close has a deadline, no matter which side began it; then the transport is aborted.
* Reading: complete text frames are read here, and so are pongs. Anything else is the library's: control
  frames, fragments, long messages, and faults. Most clients never send any, so it is made when needed.
* Order: messages are offered to the listener at once while nothing waits before them, those of a client that
  has not authenticated one in a turn of the loop. What it does not take waits here, and is offered again
  (`go_on`). Only acks go ahead of others. Control frames and faults have their effect when they come.
* While a client sends nothing but acks that are alike, `AckReader` reads its socket.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from websockets.exceptions import PayloadTooBig
from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from huahuo.transport.load.intake import SMALL_BYTES, Load
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import text_frame
from huahuo.transport.wire.frame_reader import (
    DIRECT_BYTES_MAX,
    HEAD_BYTES_MAX,
    SHORT_BYTES_MAX,
    SHORT_HEAD_BYTES,
    AckReader,
    PackedMessages,
    frame_size,
    short_text,
    texts_in,
    utf8_fault,
)
from huahuo.transport.wire.ports import InLobby, Listener
from huahuo.transport.wire.sends import Direct, Sends, descriptor_of
from huahuo.transport.words import en

LOGGER: Final = logging.getLogger("websockets.server")
"""The library's own. Otherwise it looks it up by name each time."""
_LOW_WATER = 4  # resume when a quarter of the bound is left
_REPLIES_WAITING_MAX = 4
"""A peer that does not read its replies or pongs is disconnected when this many maximum-size replies are
buffered."""
_ALIKE_MIN = 3
_ALIKE_AGAIN = 9
"""A socket changes its reader after this many acks, since that costs some system calls (16 µs to and fro). If
it did before, the second number counts. So a few acks between a client's other messages do not cause it."""
ACK: Final = b'{"action":"ack"'
_WAITING_BYTES_MAX = 256 << 10
"""With more than this, the socket is not read until the listener has taken some."""
_FIRST_BYTES_MAX = 4 << 10
"""The same, of a client that has not authenticated."""
_OFFERED_MAX = 256
"""So many of the messages that wait are offered at a time."""
CONTROLS_MAX: Final = 256
"""Pings and pongs in one read of the socket. A client sends some in a minute, a flood 40,000 in a read, which
would take the loop for 0.2 s."""
_FRAGMENTS_MAX = 4096
_FRAME_BYTES = 256
"""Counted for a fragment in addition to its payload. Its object has 187 (`tracemalloc`)."""
_AGAIN_S = 0.1
"""With no room for what was read of a long message either, its reading is tried again after this."""
_PONG: Final = 0x8A
_MASKED: Final = 0x80


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

    def ended(self, socket: "WebSocket") -> None:
        """TCP is gone, and all that came before was handled."""
        ...


class WebSocket(asyncio.Protocol):
    """See the module. Implements `ports.Socket`, `sends.Direct` and `frame_reader.Readable`.

    `address`: as the door has counted it. While the ack reader reads it, the transport does not.
    """

    __slots__ = (
        "_abort", "_ack_reader", "_alike", "_alike_min", "_binary", "_clean", "_controls", "_counted",
        "_deaf", "_descriptor", "_due", "_going_on", "_gone", "_got", "_half_closed", "_head", "_held_bytes",
        "_if_too_large", "_leave", "_owner", "_parts", "_place", "_protocol", "_reads", "_rest", "_sends",
        "_settings", "_unread_long", "_waiting", "_whole", "address", "close_code", "collected", "is_open",
        "listener", "load", "paused", "root", "transport", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        owner: Owner,
        settings: TransportSettings,
        sends: Sends,
        ack_reader: AckReader,
        address: str = "",
        root: str = "",
    ) -> None:
        """The handshake is done, and the socket's next bytes are frames. `data_received` gets them."""
        self.transport = transport
        self.address = address
        self.root = root
        self.listener: Listener | None = None
        self.load: Load | None = None
        self.trusted = False
        self.is_open = True
        self.close_code: int | None = None
        self.paused = False
        self.collected = -1
        self._owner = owner
        self._settings = settings
        self._sends = sends
        self._descriptor = descriptor_of(transport)  # a number, while it may be written to directly
        self._clean = False  # the transport is known to have nothing to write
        self._leave: Callable[[], None] | None = None
        self._abort: asyncio.TimerHandle | None = None
        self._gone = False  # TCP is
        self._half_closed = False  # the client sent EOF before all it had asked was answered
        # Acks
        self._ack_reader = ack_reader
        self._place = -1  # where it is read there, or -1
        self._alike = 0  # how many acks were alike
        self._alike_min = _ALIKE_MIN
        # Frames
        self._protocol: ServerProtocol | None = None
        self._if_too_large: Sequence[bytes] = ()
        self._rest = b""  # a text frame that is not complete
        self._due = 0  # bytes of the frame that the library reads
        self._head = b""  # what the library has of a frame that does not say its size yet
        self._parts: list[bytes] | None = None  # the fragments of a message so far
        self._binary = False  # what they are
        self._whole = True  # the library holds no partial frame or message
        self._got = 0  # the bytes of one that it holds
        self._deaf = False  # what comes is discarded
        self._controls = 0  # pings and pongs of the last read
        self._held_bytes = 0  # until the client has authenticated
        # Messages
        self._waiting: PackedMessages | None = None
        self._going_on = False  # they are offered in the loop's next turn
        # Whether the transport reads, and why it may not
        self._reads = True
        self._unread_long = False  # a long message must wait for room
        self._counted = False  # it has room, or waits for some
        owner.connected(self)

    # Writing ------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether frames may be written without filling the buffer beyond its bound.

        The transport pauses writing when a write leaves too much in the buffer; uvloop does so only at the
        end of the loop's turn.
        """
        return not self.paused and self.is_open

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
        if not self.is_open:
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

    def pause_writing(self) -> None:
        """The transport is full."""
        self.paused = True
        if self.listener is not None:
            self.listener.filled()

    def resume_writing(self) -> None:
        """The transport has room again."""
        self.paused = False
        if self.listener is not None:
            self.listener.drained()

    def _cut_off_a_hoarder(self) -> None:
        if self.transport.get_write_buffer_size() > _REPLIES_WAITING_MAX * self._settings.reply_bytes_max:
            self.transport.abort()

    # Closing ------------------------------------------------------------------------------------------

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """Send a close frame, and abort the transport if the peer has not finished by the deadline."""
        self._abort_within(deadline_s)
        if self.is_open:
            protocol = self._library()
            protocol.send_close(code, reason)
            self._send(protocol)

    def _abort_within(self, deadline_s: float) -> None:
        if self._abort is None and not self._gone:
            loop = asyncio.get_running_loop()
            self._abort = loop.call_later(deadline_s, self.transport.abort)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """End at once, as the library does when it cannot go on."""
        if not self._deaf:
            protocol = self._library()
            protocol.fail(code, reason)
            self._send(protocol)

    def _send(self, protocol: ServerProtocol) -> None:
        """Write what the library has to say. It may have ended the connection."""
        if writes := protocol.data_to_send():
            if self._leave is not None:
                self._leave()
            if self.collected >= 0:
                self._sends.flush()  # frames that were written before come before
            self._clean = False
        for data in writes:
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                with contextlib.suppress(OSError, RuntimeError):  # the second one by uvloop
                    self.transport.write_eof()
            else:
                self.transport.close()
        if protocol.state is not OPEN:
            self._deaf = protocol.eof_sent
            # It waits for the peer. Without a deadline it would wait for ever.
            self._abort_within(self._settings.close_timeout_s)
            self._no_longer_open()

    def _no_longer_open(self) -> None:
        """What was said before is still handled."""
        self.is_open = False
        self._read_all_kinds()

    def _owes(self) -> bool:
        """Whether a message that came is not answered yet."""
        return self._waiting is not None or (self.listener is not None and self.listener.owes())

    def _end_if_answered(self) -> None:
        """End the connection of a client that sends nothing more, and has all its answers."""
        if self.is_open and not self.transport.is_closing() and not self._owes():
            self._no_longer_open()
            self.transport.close()

    def eof_received(self) -> bool:
        """The client sent EOF. True keeps the socket open for the answers to what it has asked."""
        self._deaf = True
        if self.is_open and self._owes():
            self._half_closed = True  # most such clients have gone, which TCP does not tell
            self._abort_within(self._settings.close_timeout_s)
            return True
        self._no_longer_open()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """TCP is gone."""
        self.read_by_transport()  # before the descriptor may be that of another socket
        if self._leave is not None:
            self._leave()
        self._descriptor = -1
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None
        self._gone = self._deaf = True
        closed = None if self._protocol is None else self._protocol.close_rcvd
        self.close_code = CloseCode.LOST if closed is None else closed.code
        self._protocol, self._parts, self._rest = None, None, b""
        self._no_longer_open()
        if self.load is not None:
            self.load.close()
        if self.listener is not None:
            self.listener.disconnected()
        self._owner.disconnected(self)
        self.go_on_soon()

    # Acks ---------------------------------------------------------------------------------------------

    def _took_ack(self, listener: Listener) -> None:
        """The listener has taken one. If some were alike, let the ack reader read this socket."""
        if (
            self._place >= 0
            or self._descriptor < 0
            or not self._ack_reader.opened
            or self._waiting is not None
        ):
            return
        acks = listener.quick_acks
        self._alike = 0 if acks is None else self._alike + 1
        if acks is not None and self._alike >= self._alike_min:
            self._alike, self._alike_min = 0, _ALIKE_AGAIN
            self._place = self._ack_reader.admit(self, acks, self._descriptor)
            self._regulate()

    def _read_all_kinds(self) -> None:
        """What comes or is sent may be anything."""
        self._alike = 0
        self.read_by_transport()

    def read_by_transport(self) -> None:
        """See `frame_reader.Readable`."""
        if self._place >= 0:
            self._ack_reader.dismiss(self._place)
            self._place = -1
            self._regulate()

    def handed(self, data: bytes) -> None:
        """See `frame_reader.Readable`. A transport that is being closed would not have read them."""
        if not self.transport.is_closing():
            self.data_received(data)

    # Frames -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        listener = self.listener
        if listener is not None and self._whole and not self._rest and self.is_open:
            text = short_text(data)
            if text is not None and text.startswith(ACK) and listener.took(text):
                self._took_ack(listener)
                return
        if self._alike or self._place >= 0:
            self._read_all_kinds()
        self._controls = 0
        if not self.trusted:
            self._held_bytes += len(data)
        self._read(self._rest + data if self._rest else data)
        if self.trusted and not self._whole:
            self._make_room()
        if self._counted or self._waiting is not None or not self.trusted:
            self._handled()
        if self.paused:
            self._cut_off_a_hoarder()

    def _read(self, data: bytes) -> None:
        self._rest, at = b"", 0
        while at < len(data) and not self._deaf:
            if self._whole:
                texts, at, begun = texts_in(data, at, min(DIRECT_BYTES_MAX, self._bytes_max))
                if texts:
                    self._take(texts)
                if begun:
                    self._rest = data[at:]
                    return
            if at < len(data):
                at = self._read_frame(data, at)

    @property
    def _bytes_max(self) -> int:
        return self._settings.message_bytes_max if self.trusted else self._settings.first_bytes_max

    def _read_frame(self, data: bytes, at: int) -> int:
        """Read the frame that begins or goes on at `at`. Returns where that ends, or what came of it."""
        if not self._due:
            head = self._head + data[at : at + HEAD_BYTES_MAX]
            size = frame_size(head)
            short = SHORT_HEAD_BYTES <= size <= min(len(data) - at, SHORT_HEAD_BYTES + SHORT_BYTES_MAX)
            if short and not self._head and head[0] == _PONG and head[1] & _MASKED:
                self._ponged(size)
                return at + size
            self._due = (size or len(head)) - len(self._head)
            self._head = b"" if size else head
        end = min(at + self._due, len(data))
        self._due -= end - at
        self._got += end - at
        self._through_library(data[at:end])
        self._whole = not (self._due or self._head or self._parts is not None)
        if self._whole:
            self._got = 0
        return end

    def _library(self) -> ServerProtocol:
        if self._protocol is None:
            self._protocol = ServerProtocol(state=OPEN, max_size=self._bytes_max, logger=LOGGER)
        return self._protocol

    def _through_library(self, data: bytes) -> None:
        protocol = self._library()
        protocol.receive_data(data)
        if isinstance(protocol.parser_exc, PayloadTooBig):
            self._say_too_large()
        frames = protocol.events_received()
        self._send(protocol)
        for frame in frames:
            assert isinstance(frame, Frame), "the handshake is done"
            if frame.opcode is PONG:
                self._ponged(SHORT_HEAD_BYTES + len(frame.data))
            elif frame.opcode is PING or frame.opcode is CLOSE:
                self._controlled(SHORT_HEAD_BYTES + len(frame.data))
            else:
                self._add_fragment(frame)

    def _say_too_large(self) -> None:
        """Most clients know what the close code means; a plug-in's language may have words for it."""
        if self.is_open and self._if_too_large:
            self.write(b"".join(map(text_frame, self._if_too_large)))

    def _controlled(self, size: int) -> None:
        self._held_bytes -= size
        self._controls += 1
        if self._controls > CONTROLS_MAX and self.is_open:
            self._fail(CloseCode.RATE_LIMITED, en.MESSAGES_TOO_LONG)

    def _ponged(self, size: int) -> None:
        self._controlled(size)
        if self.listener is not None:
            self.listener.ponged()

    def _add_fragment(self, frame: Frame) -> None:
        """A frame of data, most often the whole of a message."""
        if frame.opcode is not CONT:
            self._parts, self._binary = [], frame.opcode is BINARY
        assert self._parts is not None, "the library has seen the first one"
        if len(self._parts) == _FRAGMENTS_MAX:
            self._say_too_large()
            self._fail(CloseCode.TOO_LARGE, en.MESSAGE_TOO_LARGE)
            return
        self._parts.append(bytes(frame.data))
        self._held_bytes += _FRAME_BYTES
        if frame.fin:
            message, self._parts = b"".join(self._parts), None
            if len(message) > SMALL_BYTES:
                self._make_room()
            self._take([message], binary=self._binary)

    def _regulate(self) -> None:
        """Let the transport read, if nothing speaks against it."""
        most = _WAITING_BYTES_MAX if self.trusted else _FIRST_BYTES_MAX
        full = self._waiting is not None and self._waiting.size_bytes > most
        reads = not (full or self._unread_long or self._place >= 0)
        if reads is not self._reads and not self.transport.is_closing():
            self._reads = reads
            if reads:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _make_room(self) -> None:
        """A long message comes, or came. It is read on, and handled, once there is room for the longest."""
        load = self.load
        if load is None or load.is_in:
            return
        self._counted = True
        self._unread_long = load.waits or not load.take(self._settings.message_bytes_max)
        if self._unread_long and not load.waits and not load.wait(self._got, self._read_long):
            asyncio.get_running_loop().call_later(_AGAIN_S, self._read_long)
        self._regulate()

    def _read_long(self) -> None:
        """Read a long message on, or handle it."""
        self._unread_long = False
        if not (self._gone or (self._whole and self._waiting is None)):
            self._make_room()
        self.go_on()

    # Messages -----------------------------------------------------------------------------------------

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`. It is so from the next frame on."""
        self._if_too_large = if_too_large or self._if_too_large
        self.trusted = True
        if self._protocol is not None:
            self._protocol.max_message_size = self._bytes_max
        self._owner.authenticated(self)

    def _take(self, messages: list[bytes], *, binary: bool = False) -> None:
        """Let the listener handle messages that came. What it does not take waits."""
        for at, text in enumerate(messages):
            if not (binary or text.isascii()) and (fault := utf8_fault(text)):
                self._offer(messages[:at])
                self._fail(CloseCode.BAD_UTF8, fault)
                return
        self._offer(messages)

    def _offer(self, messages: list[bytes]) -> None:
        listener = self.listener
        if listener is None:
            return  # it was turned away
        trusted = self.trusted
        if self._waiting is None and not self._unread_long:
            messages = messages[listener.heard(messages if trusted else messages[:1]) :]
        messages = [one for one in messages if not (one.startswith(ACK) and listener.took(one))]
        if messages:
            if self._waiting is None:
                self._waiting = PackedMessages()
                if not trusted:
                    self.go_on_soon()
            self._waiting.add(messages)

    def go_on(self) -> None:
        """Offer again, now, what the listener wanted later."""
        self._going_on = False
        self._read_all_kinds()
        waiting = self._waiting
        while waiting is not None and not self._unread_long and (listener := self.listener) is not None:
            trusted = self.trusted
            texts = waiting.texts(_OFFERED_MAX if trusted else 1)
            count = listener.heard(texts)
            waiting.drop(count)
            if not waiting.count:
                waiting = self._waiting = None
            elif count < len(texts):
                break
            elif not trusted:
                self.go_on_soon()
                break
        self._handled()

    def go_on_soon(self) -> None:
        """Offer again what the listener wanted later, in the loop's next turn."""
        if not self._going_on and (
            self._waiting is not None or self._half_closed or self._gone or self._counted
        ):
            self._going_on = True
            asyncio.get_running_loop().call_soon(self.go_on)

    def _handled(self) -> None:
        """Messages were handled, or must wait."""
        listener = self.listener
        if listener is None:
            self._waiting = None
        if self._waiting is None and (listener is None or not listener.is_busy):
            if self._gone:
                if listener is not None:
                    listener.lost()
                self._owner.ended(self)
                return
            if self._half_closed:
                self._end_if_answered()
            if self._whole and self.load is not None:
                self._counted = False
                self.load.close()
            elif self._whole and not self._rest:
                self._held_bytes = 0
        if not self.trusted:
            self._owner.holds(self, self._held_bytes)
        self._regulate()

    @property
    def waiting_count(self) -> int:
        """How many whole messages wait."""
        return 0 if self._waiting is None else self._waiting.count

    @property
    def rest_bytes(self) -> int:
        """Bytes of messages that are not complete, or that wait."""
        waiting = 0 if self._waiting is None else self._waiting.size_bytes
        return waiting + len(self._rest) + self._got
