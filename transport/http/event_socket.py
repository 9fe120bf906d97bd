"""A reader of server-sent events: as a connection sees its socket, and the way out to it.

The connection writes WebSocket frames. A binary frame holds the texts of events, which all readers of a
stream share. A text frame holds a message of the service; here it becomes a named event, or the status of
the answer if it comes before the answer began. A ping becomes a comment.

`Outlet` is the way out, and `Reader` what that tells of it. `NativeOutlet` is the reader's socket on the
service's own port; `asgi` has the other one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from huahuo.transport.http.lists import encoded
from huahuo.transport.http.messages import (
    EVENT_STREAM,
    NO_STORE,
    Answer,
    Headers,
    from_close,
    from_error,
    problem,
)
from huahuo.transport.load.intake import Load
from huahuo.transport.protocol import frames
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.protocol.frames import BINARY, TEXT, ServerSent, unframed
from huahuo.transport.wire.lobby import Aborted
from huahuo.transport.wire.ports import Listener
from huahuo.transport.words import http_zh, zh


class Outlet(Protocol):
    """The way out to one reader, by whatever server has its socket."""

    @property
    def paused(self) -> bool:
        """Whether more is waiting to be sent than should be."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """How much waits."""
        ...

    def bound(self, bytes_max: int) -> None:
        """Be paused from `bytes_max` on."""
        ...

    def refuse(self, answer: Answer) -> None:
        """Answer with this instead of events. Nothing else is written."""
        ...

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """Write the head of the answer."""
        ...

    def write(self, text: bytes) -> None:
        """Write text of the body."""
        ...

    def write_shared(self, text: bytes, chunk: bytes) -> None:
        """As `write`. `chunk`: the same as a chunk of HTTP/1.1 (RFC 9112, 7.1), made once for all readers."""
        ...

    def end(self, deadline_s: float) -> None:
        """The body ends here. A reader that has not read it by the deadline is cut off."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Reader(Protocol):
    """What an outlet tells of its reader."""

    def filled(self) -> None:
        """The outlet is full."""
        ...

    def drained(self) -> None:
        """The outlet has room again."""
        ...

    def lost(self) -> None:
        """The reader is gone."""
        ...


_STATES: Final = ("gap", "reset", "snapshot")
_HEADERS: Final[Headers] = (
    ("Content-Type", f"{EVENT_STREAM}; charset=utf-8"),
    ("Cache-Control", NO_STORE),
    ("X-Accel-Buffering", "no"),  # nginx would hold events back
)
_UNREADABLE: Final = {
    "forbidden": (ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ),
    "corrupt": (ErrorCode.CORRUPT, http_zh.STREAM_DAMAGED),
    "busy": (ErrorCode.BUSY, zh.BUSY),
}
"""What a reader is told whose stream ended before its answer began, by the reason of `unsubscribed`."""
_STUCK_PINGS: Final = 2
_WHOLE_BYTES_MAX: Final = 64 << 10
_END_S: Final = 2.0


class _Large(msgspec.Struct):
    """What is read of a long message: only snapshots are long, and their states are not looked into."""

    type: str
    seq: int = 0
    position: int = 0
    bound: str | list[str] | None = None
    more: bool = False


def _read(message: bytes) -> dict[str, Any]:
    """The fields of a message of the service. To read a state of 16 MiB whole takes the loop 0.1 s."""
    if len(message) > _WHOLE_BYTES_MAX:
        return msgspec.structs.asdict(msgspec.json.decode(message, type=_Large))
    said: dict[str, Any] = msgspec.json.decode(message)
    return said


class Shared:
    """Unwraps the frames of one server's readers: a frame that many get is unwrapped once."""

    __slots__ = ("_chunk", "_frame", "_text", "texts")

    def __init__(self, texts: ServerSent) -> None:
        self.texts = texts
        self._frame = self._text = self._chunk = b""

    def write(self, frame: bytes, outlet: Outlet) -> bool:
        """Write the text in a frame that holds texts of events only. False: there is more in it."""
        if frame is not self._frame:
            if frame[0] != BINARY:
                return False
            parts = list(unframed(frame))
            if any(kind != BINARY for kind, _ in parts):
                return False
            self._frame, self._text = frame, b"".join([part for _, part in parts])
            self._chunk = chunk_of(self._text)
        outlet.write_shared(self._text, self._chunk)
        return True


def chunk_of(text: bytes) -> bytes:
    """A chunk of a body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(text), text)


class EventSocket:
    """A reader of server-sent events, as a connection sees its socket: frames are taken apart here again.

    Implements `wire.ports.Socket`. `gone` is called once, when the reader is gone.
    """

    __slots__ = (
        "_after", "_asked", "_begun", "_cors", "_expiring", "_gone", "_heartbeat_s", "_open", "_outcome",
        "_outlet", "_place", "_shared", "_stuck", "address", "close_code", "listener", "load", "root",
        "trusted",
    )  # fmt: skip

    def __init__(
        self,
        outlet: Outlet,
        shared: Shared,
        address: str,
        cors: Headers,
        gone: Callable[["EventSocket"], None],
    ) -> None:
        self.listener: Listener | None = None
        self.address = address
        self.root = ""
        self.load: Load | None = None
        self.trusted = True
        self.close_code: int | None = None
        self._open = True
        self._outlet = outlet
        self._shared = shared
        self._cors = cors
        self._gone = gone
        self._begun = False
        self._expiring = b""
        """`token_expiring`, if it comes before the answer has begun."""
        self._heartbeat_s: float = 0
        self._outcome = ""
        self._after = 0
        self._stuck = 0
        self._place: dict[str, Any] = {}
        """Where the reader of a list stands."""
        self._asked: list[bytes] = []

    # What a connection needs (`wire.ports.Socket`) --------------------------------------------------

    @property
    def transport(self) -> Aborted:
        """See `Socket`."""
        return self._outlet

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`. Its request said all that it will ever say."""

    @property
    def paused(self) -> bool:
        """See `Socket`."""
        return self._outlet.paused

    @property
    def is_open(self) -> bool:
        """See `Socket`."""
        return self._open

    @property
    def unsent_bytes(self) -> int:
        """See `Socket`."""
        return self._outlet.unsent_bytes

    def has_room(self) -> bool:
        """See `Socket`."""
        return self._open and not self._outlet.paused

    def direct(self, leave: Callable[[], None]) -> None:
        """See `Socket`: it is always written to by `write`."""

    def on_its_own(self) -> None:
        """See `Socket`."""

    def bound_buffer(self, bytes_max: int) -> None:
        """See `Socket`."""
        self._outlet.bound(bytes_max)

    def ask(self, messages: list[bytes]) -> None:
        """Say what its request asked for. Nothing more comes from a reader."""
        self._asked = messages
        self.go_on()

    def go_on(self) -> None:
        """See `Socket`."""
        if self._asked and self.listener is not None:
            del self._asked[: self.listener.heard(self._asked)]

    def go_on_soon(self) -> None:
        """See `Socket`."""
        if self._asked:
            asyncio.get_running_loop().call_soon(self.go_on)

    def filled(self) -> None:
        """The outlet is full."""
        if self.listener is not None:
            self.listener.filled()

    def drained(self) -> None:
        """The outlet has room again."""
        if self.listener is not None:
            self.listener.drained()

    def write(self, frame: bytes) -> None:
        """See `Socket`."""
        if not self._open:
            return
        if self._begun and self._shared.write(frame, self._outlet):
            return
        for kind, payload in unframed(frame):
            if not self.is_open:
                return
            if kind == BINARY:
                self._outlet.write(payload)
            elif kind == TEXT:
                self._say(_read(payload), payload)
            else:
                self._beat()

    def end(self, code: int, reason: str, deadline_s: float) -> None:  # noqa: ARG002  the code has a text
        """See `Socket`. What was written is still sent; a reader that does not read it is cut off."""
        if not self._open:
            return
        if self._begun:
            self._finish(code, deadline_s)
        else:
            self._refuse(from_close(code))

    # The reader --------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The reader is gone."""
        if self._open:
            self._open = False
            if self.listener is not None:
                self.listener.disconnected()
            # Later: the connection itself may be in the middle of a step.
            asyncio.get_running_loop().call_soon(self._gone, self)

    def _finish(self, code: int, deadline_s: float) -> None:
        self.close_code = code
        self._outlet.end(deadline_s)
        self.lost()

    def _refuse(self, answer: Answer) -> None:
        self._begun = True
        self._outlet.refuse(answer.adding(self._cors))
        self.lost()

    def _beat(self) -> None:
        if self._outlet.paused:
            self._stuck += 1
            if self._stuck >= _STUCK_PINGS:
                self._outlet.abort()
                self.lost()
            return
        self._stuck = 0
        if self._begun:
            self._outlet.write(frames.HEARTBEAT)

    def _say(self, said: dict[str, Any], payload: bytes) -> None:
        texts = self._shared.texts
        match said["type"]:
            case "authentication_result":
                if said["success"]:
                    self._heartbeat_s = said["heartbeat_s"]
                else:
                    self._refuse(problem(said["code"], said["message"], ends=True))
            case "error":
                if not self._begun:
                    self._refuse(from_error(said))
            case "subscribed":
                self._subscribed(said)
            case "following":
                self._following(said, payload)
            case "rows":
                self._outlet.write(
                    frames.event("rows", payload, b"" if said.get("more") else self._moved(said))
                )
            case "reached" if self._place and "but" not in said:
                self._outlet.write(b"id: %b\n\n" % self._moved(said | {"bound": self._place.get("bound")}))
            case "reached":
                pass
            case "snapshot":
                message = b'{"outcome":"%b",%b' % (self._outcome.encode(), payload[1:])
                self._outlet.write(texts.named(self._outcome or "snapshot", message, said["seq"]))
            case "goaway":
                if self._begun:
                    wait = said.get("retry_s")
                    if wait:
                        self._outlet.write(frames.retry(wait[0] + (wait[1] - wait[0]) / 2))
                    self._outlet.write(texts.named("goaway", payload))
            case "unsubscribed" | "unfollowed":
                self._unsubscribed(said, payload)
            case kind:  # `to`: the cursor that it moves to
                if self._begun:
                    self._outlet.write(texts.named(kind, payload, said.get("to")))
                elif kind == "token_expiring":
                    self._expiring = payload

    def _subscribed(self, said: dict[str, Any]) -> None:
        outcome: str = said["outcome"]
        if outcome == "denied":
            self._refuse(problem(ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ))
            return
        if outcome == "pending":
            return  # another one follows, or `unsubscribed`
        self._begin()
        if outcome in _STATES:
            self._outcome = outcome
        elif "after" in said:
            self._outlet.write(self._shared.texts.place(said["after"]))

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        heartbeat = ("Huahuo-Heartbeat", str(self._heartbeat_s))
        self._outlet.begin(HTTPStatus.OK, (*_HEADERS, heartbeat, *self._cors))
        self._outlet.write(frames.retry(frames.RETRY_MS / 1000))
        if self._expiring:
            self._outlet.write(self._shared.texts.named("token_expiring", self._expiring))

    def _following(self, said: dict[str, Any], payload: bytes) -> None:
        if said["outcome"] == "denied":
            self._refuse(problem(ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ))
            return
        self._begin()
        self._place = {name: said[name] for name in ("log", "position", "of")}
        self._outlet.write(frames.event("following", payload))

    def _moved(self, said: Mapping[str, Any]) -> bytes:
        """Where the reader of a list stands after a message, as the id of an event."""
        self._place["position"], self._place["bound"] = said["position"], said.get("bound")
        return encoded(self._place).encode()

    def _unsubscribed(self, said: dict[str, Any], payload: bytes) -> None:
        """The only stream of this reader ended, so the answer ends too."""
        if not self._begun:
            code, text = _UNREADABLE.get(
                said.get("reason", ""), (ErrorCode.UNAVAILABLE, http_zh.NOT_SERVED_NOW)
            )
            self._refuse(problem(code, text, retry_s=said.get("retry_s")))
            return
        if said.get("retry_s"):
            self._outlet.write(frames.retry(said["retry_s"]))
        self._outlet.write(frames.event(said["type"], payload))
        self._finish(CloseCode.NORMAL, _END_S)


_LOW_WATER = 4
_LAST_CHUNK = b"0\r\n\r\n"


class NativeOutlet(asyncio.Protocol):
    """Implements `outlet.Outlet`; from `begin` on, it is the protocol of the socket.

    `refuse` answers on the connection that the request came on. `open_` writes the head of the answer and
    says whether the body is sent in chunks; an HTTP/1.0 client gets it as it is.
    """

    __slots__ = (
        "_chunked",
        "_deadline",
        "_open",
        "_refuse",
        "began",
        "paused",
        "socket",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        refuse: Callable[[Answer], None],
        open_: Callable[[HTTPStatus, Headers], bool],
    ) -> None:
        self.transport = transport
        self._refuse: Callable[[Answer], None] | None = refuse
        self._open: Callable[[HTTPStatus, Headers], bool] | None = open_
        self._chunked = True
        self._deadline: asyncio.TimerHandle | None = None
        self.paused = False
        self.began = False
        """Whether the socket is this outlet's."""
        self.socket: Reader | None = None

    # For the event socket -----------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """See `Outlet`."""
        return self.transport.get_write_buffer_size()

    def bound(self, bytes_max: int) -> None:
        """See `Outlet`."""
        self.transport.set_write_buffer_limits(bytes_max, bytes_max // _LOW_WATER)

    def refuse(self, answer: Answer) -> None:
        """See `Outlet`."""
        refuse, self._refuse, self._open, self.socket = self._refuse, None, None, None
        if refuse is not None:
            refuse(answer)

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """See `Outlet`."""
        open_, self._refuse, self._open = self._open, None, None
        if open_ is not None and not self.transport.is_closing():
            self.began = True
            self._chunked = open_(status, headers)
            self.transport.set_protocol(self)

    def write(self, text: bytes) -> None:
        """See `Outlet`."""
        self.transport.write(chunk_of(text) if self._chunked else text)

    def write_shared(self, text: bytes, chunk: bytes) -> None:
        """See `Outlet`."""
        self.transport.write(chunk if self._chunked else text)

    def end(self, deadline_s: float) -> None:
        """See `Outlet`."""
        if not self.transport.is_closing():
            if self._chunked:
                self.transport.write(_LAST_CHUNK)
            self.transport.close()
            self._deadline = asyncio.get_running_loop().call_later(deadline_s, self.transport.abort)

    def abort(self) -> None:
        """See `Outlet`."""
        self.transport.abort()

    # For the event loop -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A reader has nothing more to say."""

    def eof_received(self) -> None:
        """It will not read any more either."""

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self.paused = True
        if self.socket is not None:
            self.socket.filled()

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self.paused = False
        if self.socket is not None:
            self.socket.drained()

    def connection_lost(self, _exc: Exception | None) -> None:
        """TCP is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        reader, self.socket = self.socket, None  # each holds the other
        if reader is not None:
            reader.lost()
