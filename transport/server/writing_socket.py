"""The library's server connection, with a fast way to write, and an end that cannot hang.

Writing: complete frames go straight to the transport, because `websockets` would build each frame again
for every connection. This is sound while the state is OPEN and no fragmented message is being sent; this
server never sends fragments.

Closing: the library's own `close()` waits for a peer that may never read. Here every close has a deadline, no
matter which side began it; at the deadline the transport is aborted.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import OPEN

from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.server.listener import Listener
from huahuo.transport.server.sends import Direct, Sends, descriptor_of
from huahuo.transport.server.welcomed import LOGGER

_LOW_WATER = 4  # resume when a quarter of the bound is left
_REPLIES_WAITING_MAX = 4
"""A peer that does not read its replies or pongs is disconnected when this many maximum-size replies are
buffered."""


class WritingSocket(ServerConnection):
    """See the module."""

    __slots__ = (
        "_abort", "_clean", "_descriptor", "_leave", "_sends", "_settings", "collected", "listener",
    )  # fmt: skip

    def __init__(self, *args: Any, settings: TransportSettings, sends: Sends, **kwargs: Any) -> None:
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
        """See `socket.Socket`."""
        if self._descriptor < 0 or self.collected >= 0 or self._leave is not None or not self.has_room():
            return None
        if not (self._clean or self._is_clean()):
            return None
        self._leave = leave
        return self, self._descriptor

    def on_its_own(self) -> None:
        """See `socket.Socket`."""
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

    # What the event loop and the library call -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        super().connection_made(transport)
        self._descriptor = descriptor_of(transport)

    def send_data(self) -> None:
        """The library has something to send, or wants to close."""
        if self._leave is not None:
            self._leave()
        if self.collected >= 0:
            self._sends.flush()  # frames that were written before come before
        self._clean = False
        super().send_data()

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

    def _end_writing(self) -> None:
        """TCP is gone: the descriptor may soon be that of another socket."""
        if self._leave is not None:
            self._leave()
        self._descriptor = -1
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None

    def _cut_off_a_hoarder(self) -> None:
        if self.transport.get_write_buffer_size() > _REPLIES_WAITING_MAX * self._settings.reply_bytes_max:
            self.transport.abort()
