"""The socket of a reader of server-sent events on the service's own port."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from huahuo.transport.http.event_socket import chunk_of
from huahuo.transport.http.messages import Answer, Headers
from huahuo.transport.http.outlet import Reader

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
        "settled",
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
        self.settled = False
        """Whether it is known what the answer is."""
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
        self.settled = True
        refuse, self._refuse, self._open, self.socket = self._refuse, None, None, None
        if refuse is not None:
            refuse(answer)

    def begin(self, status: HTTPStatus, headers: Headers) -> None:
        """See `Outlet`."""
        self.settled = True
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
