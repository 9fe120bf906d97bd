"""A connection over IMAP: its bounded byte stream, one command at a time, IDLE (RFC 2177).

Only `ImapClient` reads from it. Each command has a deadline and a byte budget. Every failure is an
`ImapError`, after which the connection cannot be used. asyncio's own stream reader is not used because its
buffer cannot be emptied before STARTTLS: text that an attacker injected before TLS would be read as if it
had come through TLS. In IDLE the server speaks when the folder changes, and no task waits for it: the
transport's callback reads it.
"""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers import imap_grammar
from huahuo.mailcheck.servers.faults import (
    BrokenProtocol,
    CommandRefused,
    ConnectionLost,
    ImapError,
    ServerBye,
    TimedOut,
    TlsFailed,
    sanitise,
)
from huahuo.mailcheck.servers.imap_grammar import Part, Status

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


LINE_BYTES_MAX: Final = 32 * 1024
ANSWER_BYTES_MAX: Final = 512 * 1024
_RESPONSES_MAX: Final = 20_000
_LITERALS_MAX: Final = 64

type OnData = Callable[[list[Part]], None]


def _ignore(parts: list[Part]) -> None:
    """Drop data that was not requested."""


class Exchange:
    """One command of IMAP and its answer at a time, under a deadline and a byte budget.

    `timeout_s`: of a command that has no deadline of its own.
    """

    def __init__(self, stream: ImapStream, ambient: Ambient, timeout_s: float) -> None:
        self.stream = stream
        self.timeout_s = timeout_s
        self.capabilities: frozenset[str] = frozenset()
        """What the server offers, as it said last."""
        self.secrets: tuple[Secret, ...] = ()
        """What is removed from all text of the server."""
        self._ambient = ambient
        self._tags = 0

    def next_tag(self) -> bytes:
        """The tag of the next command."""
        self._tags += 1
        return b"h%d" % self._tags

    async def ask_capabilities(self) -> frozenset[str]:
        """Ask for the capabilities. Raises as `command`."""

        def on_data(parts: list[Part]) -> None:
            word, rest = imap_grammar.word(parts)
            if word == b"CAPABILITY":
                self.capabilities = imap_grammar.capabilities(rest)

        await self.command("CAPABILITY", [b"CAPABILITY\r\n"], on_data=on_data)
        return self.capabilities

    async def command(
        self,
        name: str,
        pieces: Sequence[bytes],
        *,
        on_data: OnData = _ignore,
        budget: int = ANSWER_BYTES_MAX,
        line_bytes_max: int = LINE_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> list[Status]:
        """Send a command, read until its tagged OK, and return the untagged statuses before it.

        Raises:
            CommandRefused: NO or BAD.
            ServerBye: the server sent BYE instead.
            ConnectionLost: the connection ended without a BYE.
            TimedOut: the deadline passed.
            BrokenProtocol: the answer is not IMAP or exceeds a bound.
        """
        tag = self.next_tag()
        unsent = iter(pieces[1:])
        statuses: list[Status] = []
        self.stream.budget = budget
        async with self.deadline(name, timeout_s or self.timeout_s):
            self.stream.write(tag + b" " + pieces[0])
            for _ in range(_RESPONSES_MAX):
                line = await self.stream.read_line(line_bytes_max)
                if line.startswith(b"+"):
                    self._go_on(unsent)
                    continue
                said = imap_grammar.status(line)
                if said is None:
                    on_data(await self._whole(line[2:]))
                    continue
                self.learn(said)
                if said.tag == tag:
                    if said.status != "OK":
                        raise CommandRefused(name, said.status, said.code, self.clean(said.told))
                    return statuses
                if said.tag != b"*" or said.status == "PREAUTH":
                    raise BrokenProtocol("an answer to no command")
                if said.status == "BYE":
                    raise ServerBye(self.clean(said.text))
                statuses.append(said)
        raise BrokenProtocol("too many responses to one command")

    def _go_on(self, unsent: Iterator[bytes]) -> None:
        piece = next(unsent, None)
        if piece is None:
            raise BrokenProtocol("the server waits for nothing we have")
        self.stream.write(piece)

    async def _whole(self, text: bytes) -> list[Part]:
        """A response with the literals that belong to it."""
        parts: list[Part] = []
        while (size := imap_grammar.literal_size(text)) is not None:
            if len(parts) == _LITERALS_MAX:
                raise BrokenProtocol("too many literals in one response")
            parts.append((text, await self.stream.read_exactly(size)))
            text = await self.stream.read_line(LINE_BYTES_MAX)
        parts.append(text)
        return parts

    def learn(self, said: Status) -> None:
        """Take note of capabilities that a status names."""
        if said.code == "CAPABILITY":
            self.capabilities = imap_grammar.capabilities(said.argument)

    def clean(self, text: bytes) -> str:
        """Text of the server for an error: without control characters and secrets."""
        return sanitise(text, self.secrets)

    @asynccontextmanager
    async def deadline(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """A bound on the time of the commands in it. Raises TimedOut."""
        try:
            async with Deadline(self._ambient, timeout_s):
                yield
        except TimeoutError:
            raise TimedOut(what) from None


_BUDGET_BYTES: Final = 64 * 1024
"""For what comes in one piece. Over hours a server may send any number of `* OK Still here`."""
_IDLE_RESPONSES_MAX: Final = 1_000
"""Responses before the server agrees, and after it was told to end."""


class Idle:
    """One IDLE. `on_news` is called at most once."""

    __slots__ = ("_on_news", "_secrets", "_stream", "_tag")

    def __init__(
        self, stream: ImapStream, tag: bytes, on_news: Callable[[], None], secrets: tuple[Secret, ...]
    ) -> None:
        self._stream = stream
        self._tag = tag
        self._on_news: Callable[[], None] | None = on_news
        self._secrets = secrets

    async def begin(self, line_bytes_max: int) -> None:
        """Return when the server agrees. Raises CommandRefused, and as any command."""
        stream = self._stream
        stream.budget = _BUDGET_BYTES
        stream.write(self._tag + b" IDLE\r\n")
        news = False
        for _ in range(_IDLE_RESPONSES_MAX):
            line = await stream.read_line(line_bytes_max)
            if line.startswith(b"+"):
                break
            if self._ended(line):
                raise BrokenProtocol("an IDLE that ended before it began")
            news = news or _is_news(line)
        else:
            raise BrokenProtocol("too many responses to one command")
        stream.listener = self._arrived
        if news:
            self._tell()
        else:
            self._arrived()

    async def end(self, line_bytes_max: int) -> None:
        """Tell the server, and return when it agrees."""
        stream = self._stream
        stream.listener = self._on_news = None
        stream.budget = _BUDGET_BYTES
        stream.write(b"DONE\r\n")
        for _ in range(_IDLE_RESPONSES_MAX):
            if self._ended(await stream.read_line(line_bytes_max)):
                return
        raise BrokenProtocol("too many responses to one command")

    def _arrived(self) -> None:
        """Read what came. Whatever is wrong with it, `end` will meet it too."""
        stream = self._stream
        stream.budget = _BUDGET_BYTES
        try:
            while (line := stream.line_at_hand(_BUDGET_BYTES)) is not None:
                if self._ended(line) or _is_news(line):
                    self._tell()
        except ImapError:
            self._tell()

    def _tell(self) -> None:
        on_news, self._on_news = self._on_news, None
        if on_news is not None:
            on_news()

    def _ended(self, line: bytes) -> bool:
        """Whether the server ended the command. Raises CommandRefused, ServerBye, BrokenProtocol."""
        said = imap_grammar.status(line)
        if said is None:
            return False
        if said.tag == self._tag:
            if said.status != "OK":
                raise CommandRefused("IDLE", said.status, said.code, sanitise(said.text, self._secrets))
            return True
        if said.status == "BYE":
            raise ServerBye(sanitise(said.text, self._secrets))
        return False


def _is_news(line: bytes) -> bool:
    """Whether an untagged response says that a mail may have come."""
    return line.upper().endswith((b" EXISTS", b" RECENT"))
