"""The byte stream below IMAP: bounded lines and literals, back-pressure, STARTTLS. A thin shell.

Only `client.ImapClient` reads from it, one read at a time, and the caller sets deadlines. The stream knows no
commands. asyncio's own stream reader is not used because its buffer cannot be emptied before STARTTLS: text
that an attacker injected before TLS would be read as if it had come through TLS.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import cast

from huahuo.mailcheck.servers.faults import BrokenProtocol, ConnectionLost, TlsFailed

_READ_AHEAD_BYTES = 64 * 1024


class ImapStream(asyncio.Protocol):
    """One connection. `host` is the name the certificate must prove, `public`: the address is a public one.

    `budget` is how many bytes may still be read. The sender of a command sets it, and reads decrease it.
    """

    def __init__(self, host: str, tls: ssl.SSLContext, *, public: bool) -> None:
        self.host = host
        self.public = public
        self.budget = _READ_AHEAD_BYTES
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._paused = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.listener: Callable[[], None] | None = None
        """Called when something arrived, or the stream ended, while nobody reads."""

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports have the interface but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. Pauses reading when more is buffered than a read has asked for."""
        self._buffer += data
        too_much = len(self._buffer) > max(_READ_AHEAD_BYTES, self._wanted)
        if self._transport is not None and too_much and not self._paused:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  any end is an end
        """See `asyncio.Protocol`. Bytes that arrived before can still be read."""
        self._ended = True
        self._wake()

    # Called by the client.

    @property
    def encrypted(self) -> bool:
        """Whether TLS is in place."""
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    def write(self, data: bytes) -> None:
        """Send `data`. Commands are small, so the transport's buffer needs no bound."""
        if self._transport is None or self._ended or self._transport.is_closing():
            raise ConnectionLost("the connection is closed")
        self._transport.write(data)

    async def read_line(self, bytes_max: int) -> bytes:
        """The next line without its line ending.

        Raises:
            BrokenProtocol: the line exceeds `bytes_max` or the budget.
            ConnectionLost: the stream ended first.
        """
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > bytes_max:
                raise BrokenProtocol("a line is too long")
            await self._more(bytes_max)
        if end > bytes_max:
            raise BrokenProtocol("a line is too long")
        return self._take(end + 1).rstrip(b"\r\n")

    def line_at_hand(self, bytes_max: int) -> bytes | None:
        """The next line if it has arrived. Raises as `read_line`."""
        end = self._buffer.find(b"\n")
        if end > bytes_max or (end < 0 and len(self._buffer) > bytes_max):
            raise BrokenProtocol("a line is too long")
        if end < 0 and self._ended:
            raise ConnectionLost("the connection ended")
        return None if end < 0 else self._take(end + 1).rstrip(b"\r\n")

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            BrokenProtocol: the budget is used up.
            ConnectionLost: the stream ended first.
        """
        if count > self.budget:
            raise BrokenProtocol("more data than a command's answer may have")
        whole = bytearray()
        while True:
            whole += self._take(min(count - len(whole), len(self._buffer)))
            if len(whole) == count:
                return bytes(whole)
            await self._more(count - len(whole))

    async def start_tls(self) -> None:
        """Continue under TLS. Clear text that arrived before is discarded unread.

        In a private network, where clear text is allowed too, the certificate is not verified: servers
        there have self-signed ones, and unverified TLS still protects against a passive listener.

        Raises:
            TlsFailed: the handshake failed, or a public server's certificate does not prove `host`.
        """
        if self._transport is None or self._ended:
            raise ConnectionLost("the connection is closed")
        self._buffer.clear()
        self._paused = False
        loop = asyncio.get_running_loop()
        tls = self._tls if self.public else _unproven()
        try:
            upgraded = await loop.start_tls(self._transport, self, tls, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(error.verify_message, certificate=True) from None
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "handshake failed") from None
        except OSError as error:
            raise TlsFailed(error.strerror or "handshake failed") from None
        if upgraded is None:
            raise ConnectionLost("the connection ended in the handshake")
        self._transport = upgraded

    @property
    def ended(self) -> bool:
        """Whether the connection has ended."""
        return self._ended

    def abort(self) -> None:
        """Cut the connection at once. Nobody is told."""
        self.listener = None
        if self._transport is not None:
            self._transport.abort()

    def _take(self, count: int) -> bytes:
        self.budget -= count
        if self.budget < 0:
            raise BrokenProtocol("more data than a command's answer may have")
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self, wanted: int) -> None:
        """Wait until something arrives or the stream ends."""
        if self._ended:
            raise ConnectionLost("the connection ended")
        self._wanted = wanted
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._waiter is None and self.listener is not None:
            self.listener()


@functools.cache
def _unproven() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
