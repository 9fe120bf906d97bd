"""An IMAP client that only reads, from the socket up: EXAMINE and BODY.PEEK, which do not change the mailbox.

A bounded byte stream, one command at a time, IDLE (RFC 2177). Each method of the client sends one command and
reads its answer under a deadline and a byte budget. Every failure is an `ImapError`, after which the
connection cannot be used. asyncio's own stream reader is not used because its buffer cannot be emptied before
STARTTLS: text that an attacker injected before TLS would be read as if it had come through TLS. In IDLE the
server speaks when the folder changes, and no task waits for it: the transport's callback reads it.
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
from huahuo.mailcheck.servers import faults, imap_grammar
from huahuo.mailcheck.servers.imap_grammar import ExaminedFolder, Fetched, Part, Status
from huahuo.mailcheck.servers.providers import TOKENS, Auth, Tls

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
            raise faults.ConnectionLost("the connection is closed")
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
                raise faults.BrokenProtocol("a line is too long")
            await self._more(bytes_max)
        if end > bytes_max:
            raise faults.BrokenProtocol("a line is too long")
        return self._take(end + 1).rstrip(b"\r\n")

    def line_at_hand(self, bytes_max: int) -> bytes | None:
        """The next line if it has arrived. Raises as `read_line`."""
        end = self._buffer.find(b"\n")
        if end > bytes_max or (end < 0 and len(self._buffer) > bytes_max):
            raise faults.BrokenProtocol("a line is too long")
        if end < 0 and self._ended:
            raise faults.ConnectionLost("the connection ended")
        return None if end < 0 else self._take(end + 1).rstrip(b"\r\n")

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            BrokenProtocol: the budget is used up.
            ConnectionLost: the stream ended first.
        """
        if count > self.budget:
            raise faults.BrokenProtocol("more data than a command's answer may have")
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
            raise faults.ConnectionLost("the connection is closed")
        self._buffer.clear()
        self._paused = False
        loop = asyncio.get_running_loop()
        tls = self._tls if self.public else _unproven()
        try:
            upgraded = await loop.start_tls(self._transport, self, tls, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            raise faults.TlsFailed(error.verify_message, certificate=True) from None
        except ssl.SSLError as error:
            raise faults.TlsFailed(error.reason or "handshake failed") from None
        except OSError as error:
            raise faults.TlsFailed(error.strerror or "handshake failed") from None
        if upgraded is None:
            raise faults.ConnectionLost("the connection ended in the handshake")
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
            raise faults.BrokenProtocol("more data than a command's answer may have")
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self, wanted: int) -> None:
        """Wait until something arrives or the stream ends."""
        if self._ended:
            raise faults.ConnectionLost("the connection ended")
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
                        raise faults.CommandRefused(name, said.status, said.code, self.clean(said.told))
                    return statuses
                if said.tag != b"*" or said.status == "PREAUTH":
                    raise faults.BrokenProtocol("an answer to no command")
                if said.status == "BYE":
                    raise faults.ServerBye(self.clean(said.text))
                statuses.append(said)
        raise faults.BrokenProtocol("too many responses to one command")

    def _go_on(self, unsent: Iterator[bytes]) -> None:
        piece = next(unsent, None)
        if piece is None:
            raise faults.BrokenProtocol("the server waits for nothing we have")
        self.stream.write(piece)

    async def _whole(self, text: bytes) -> list[Part]:
        """A response with the literals that belong to it."""
        parts: list[Part] = []
        while (size := imap_grammar.literal_size(text)) is not None:
            if len(parts) == _LITERALS_MAX:
                raise faults.BrokenProtocol("too many literals in one response")
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
        return faults.sanitise(text, self.secrets)

    @asynccontextmanager
    async def deadline(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """A bound on the time of the commands in it. Raises TimedOut."""
        try:
            async with Deadline(self._ambient, timeout_s):
                yield
        except TimeoutError:
            raise faults.TimedOut(what) from None


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
                raise faults.BrokenProtocol("an IDLE that ended before it began")
            news = news or _is_news(line)
        else:
            raise faults.BrokenProtocol("too many responses to one command")
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
        raise faults.BrokenProtocol("too many responses to one command")

    def _arrived(self) -> None:
        """Read what came. Whatever is wrong with it, `end` will meet it too."""
        stream = self._stream
        stream.budget = _BUDGET_BYTES
        try:
            while (line := stream.line_at_hand(_BUDGET_BYTES)) is not None:
                if self._ended(line) or _is_news(line):
                    self._tell()
        except faults.ImapError:
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
                raise faults.CommandRefused(
                    "IDLE", said.status, said.code, faults.sanitise(said.text, self._secrets)
                )
            return True
        if said.status == "BYE":
            raise faults.ServerBye(faults.sanitise(said.text, self._secrets))
        return False


def _is_news(line: bytes) -> bool:
    """Whether an untagged response says that a mail may have come."""
    return line.upper().endswith((b" EXISTS", b" RECENT"))


UNSEEN_WINDOW = 1_000
_HEADERS_BYTES = 8 * 1024 * 1024
"""Of one command that asks for headers. Longer ones are asked for again, mail by mail."""
_SEARCH_MAILS_MAX = 100_000
_SEARCH_LINE_BYTES_MAX = 11 * _SEARCH_MAILS_MAX + 1024
_META_BYTES_MAX = 1024
"""Bound of what a server sends about one mail besides its body: names, sizes, dates, flags."""

_OF_FOLDER = frozenset({"UIDVALIDITY", "UIDNEXT"})
_IDENTITY = b'ID ("name" "huahuo" "version" "1")\r\n'


class ImapClient(Exchange):
    """One session. Call `greet`, `secure`, `sign_in`, `identify`, `examine`, then search and fetch."""

    def __init__(
        self, stream: ImapStream, ambient: Ambient, *, command_timeout_s: float, fetch_timeout_s: float
    ) -> None:
        super().__init__(stream, ambient, command_timeout_s)
        self._fetch_timeout_s = fetch_timeout_s
        self._idle: Idle | None = None

    @property
    def idles(self) -> bool:
        """Whether the server offers IDLE."""
        return "IDLE" in self.capabilities

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self.stream.ended

    async def greet(self) -> None:
        """Read the server's greeting. PREAUTH is refused, because that login is not ours."""
        async with self.deadline("greeting", self.timeout_s):
            self.stream.budget = ANSWER_BYTES_MAX
            greeting = imap_grammar.status(await self.stream.read_line(LINE_BYTES_MAX))
        if greeting is None or greeting.tag != b"*" or greeting.status not in {"OK", "BYE"}:
            raise faults.BrokenProtocol("the greeting is none")
        if greeting.status == "BYE":
            raise faults.ServerBye(self.clean(greeting.text))
        self.learn(greeting)

    async def secure(self, tls: Tls = "offered") -> None:
        """Ensure that a password may be sent: under TLS, or to a server in a private network.

        Raises:
            ClearTextRefused: a public server, or one that must, offers no TLS, or an attacker on the path
                removes the offer.
        """
        if not self.stream.encrypted and tls != "none":
            must = self.stream.public or tls == "starttls"
            # Dovecot repeats its capabilities after the login only to a client that did not ask before, so
            # that each question costs two round trips. A greeting may name only a part of them.
            if "STARTTLS" not in self.capabilities and (must or not self.capabilities):
                await self.ask_capabilities()
            if "STARTTLS" in self.capabilities:
                await self.command("STARTTLS", [b"STARTTLS\r\n"])
                async with self.deadline("STARTTLS", self.timeout_s):
                    await self.stream.start_tls()
                # Capabilities sent before TLS are not authenticated.
                self.capabilities = frozenset()
            elif must:
                raise faults.ClearTextRefused("no TLS offered")
        if not self.capabilities:
            await self.ask_capabilities()

    async def sign_in(self, auth: Auth, user: str, secret: Secret, *, host: str = "", port: int = 0) -> None:
        """Sign in with a password or an access token.

        From here on it is removed from all server text in errors.

        Raises:
            BadCredentials: IMAP cannot carry them; nothing was sent.
            ClearTextRefused: the server takes no password on this connection.
            NoMechanism: the server offers none for tokens.
            CommandRefused: the server does not accept the credentials.
        """
        mechanism = self._mechanism(auth)
        if mechanism == "LOGIN":
            pieces = imap_grammar.login_pieces(user, secret)
        else:
            initial = "SASL-IR" in self.capabilities
            pieces = imap_grammar.authenticate_pieces(
                mechanism, user, secret, host=host, port=port, initial=initial
            )
        self.secrets = (secret,)
        before = self.capabilities
        self.capabilities = frozenset()
        await self.command("AUTHENTICATE" if auth in TOKENS else "LOGIN", pieces)
        if not self.capabilities:
            await self.ask_capabilities()
        self.capabilities |= before & {"ID"}

    def _mechanism(self, auth: Auth) -> str:
        """The mechanism for `auth` that the server offers. The two for tokens stand in for one another."""
        if auth in ("xoauth2", "oauthbearer"):
            wanted = auth.upper()
            offered = [name for name in ("OAUTHBEARER", "XOAUTH2") if f"AUTH={name}" in self.capabilities]
            if wanted in offered or not offered:
                if any(name.startswith("AUTH=") for name in self.capabilities) and not offered:
                    raise faults.NoMechanism("the server takes no access tokens")
                return wanted
            return offered[0]
        if auth == "plain":
            return "PLAIN"
        if "LOGINDISABLED" in self.capabilities:
            if self.stream.encrypted and "AUTH=PLAIN" in self.capabilities:
                return "PLAIN"
            raise faults.ClearTextRefused("the server takes no LOGIN on this connection")
        return "LOGIN"

    async def identify(self) -> None:
        """Send ID if the server supports it. Some servers refuse to open a folder otherwise."""
        if "ID" in self.capabilities:
            try:
                await self.command("ID", [_IDENTITY])
            except faults.CommandRefused:
                return

    async def examine(self, folder: str) -> ExaminedFolder:
        """Open `folder` (an ASCII name) read-only."""
        exists = 0

        def on_data(parts: list[Part]) -> None:
            nonlocal exists
            count, rest = imap_grammar.word(parts)
            if rest.upper() == b"EXISTS":
                exists = imap_grammar.number(count) or 0

        name = imap_grammar.quoted(folder)
        if name is None:
            raise faults.BrokenProtocol("the folder has a name that cannot be sent")
        statuses = await self.command("EXAMINE", [b"EXAMINE " + name + b"\r\n"], on_data=on_data)
        told = {s.code: imap_grammar.number(s.argument) for s in statuses if s.code in _OF_FOLDER}
        uidvalidity = told.get("UIDVALIDITY")
        if not uidvalidity:
            raise faults.BrokenProtocol("the folder has no UIDVALIDITY")
        return ExaminedFolder(uidvalidity, exists, told.get("UIDNEXT") or 0)

    async def folders(self) -> list[imap_grammar.Folder]:
        """Every folder, in the order of the server. Names that cannot be read are left out."""
        found: list[imap_grammar.Folder] = []

        def on_data(parts: list[Part]) -> None:
            folder = imap_grammar.folder_of(parts)
            if folder is not None:
                found.append(folder)

        await self.command("LIST", [b'LIST "" "*"\r\n'], on_data=on_data)
        return found

    async def search_up_to(self, uid: int) -> list[int]:
        """All UIDs up to `uid` in ascending order."""
        return sorted(each for each in await self._search(b"UID 1:%d" % uid) if each <= uid)

    async def search_after(self, uid: int, exists: int) -> list[int]:
        """All UIDs above `uid` in ascending order, of a folder that held `exists` mails.

        A large folder is searched in windows of sequence numbers, from the newest down. An expunge
        meanwhile lowers sequence numbers, so it moves mails only into windows that are still to come.
        """
        found: set[int] = set()
        top = exists
        while uid < imap_grammar.UID_MAX and top > 0:
            low = max(1, top - _SEARCH_MAILS_MAX + 1)
            high = b"*" if top == exists else b"%d" % top
            window = b"" if low == 1 and top == exists else b"%d:%s " % (low, high)
            found.update(await self._search(window + b"UID %d:*" % (uid + 1)))
            top = low - 1
        # `n:*` always matches the last mail, even if its UID is below n (RFC 3501).
        return sorted(each for each in found if each > uid)

    async def search_unseen(self, exists: int) -> list[int]:
        """The unread mails among the newest `UNSEEN_WINDOW` of a folder that held `exists`, ascending."""
        low = max(1, exists - UNSEEN_WINDOW + 1)
        return sorted(await self._search(b"%d:* UNSEEN" % low)) if exists else []

    async def still_there(self, uids: Sequence[int]) -> list[int]:
        """Those of `uids` that the folder still holds, ascending."""
        wanted = set(uids)
        return sorted(wanted.intersection(await self._search(b"UID " + imap_grammar.uid_set(sorted(wanted)))))

    async def fetch_sizes(self, uids: Sequence[int]) -> dict[int, Fetched]:
        """Size and arrival date of mails, without those that are gone."""
        return await self._fetch(uids, b"UID RFC822.SIZE INTERNALDATE", 0, self.timeout_s)

    async def fetch_bodies(
        self, uids: Sequence[int], *, bytes_expected: int, bytes_max_each: int | None = None
    ) -> dict[int, Fetched]:
        """Whole mails, or the first `bytes_max_each` bytes of each, without those that are gone."""
        partial = b"" if bytes_max_each is None else b"<0.%d>" % bytes_max_each
        # Several servers only estimate RFC822.SIZE, so they may send twice as much.
        budget = 2 * bytes_expected
        return await self._fetch(uids, b"UID BODY.PEEK[]" + partial, budget, self._fetch_timeout_s)

    async def fetch_headers(self, uids: Sequence[int], *, bytes_max_each: int) -> dict[int, Fetched]:
        """The headers of mails, of each at most this many bytes, without those that are gone."""
        items = b"UID BODY.PEEK[HEADER]<0.%d>" % bytes_max_each
        budget = max(_HEADERS_BYTES, 2 * bytes_max_each)
        return await self._fetch(uids, items, budget, self._fetch_timeout_s)

    async def begin_idle(self, on_news: Callable[[], None]) -> None:
        """Let the server say when the open folder changes. No task waits for that.

        `on_news` is called once: a mail came, the connection ended, or what came cannot be understood. Then,
        or before half an hour is over (RFC 2177), call `end_idle`, which raises what is wrong.
        """
        idle = Idle(self.stream, self.next_tag(), on_news, self.secrets)
        async with self.deadline("IDLE", self.timeout_s):
            await idle.begin(LINE_BYTES_MAX)
        self._idle = idle

    async def end_idle(self) -> None:
        """End it. Raises as any command."""
        idle, self._idle = self._idle, None
        if idle is not None:
            async with self.deadline("IDLE", self.timeout_s):
                await idle.end(LINE_BYTES_MAX)

    async def logout(self, timeout_s: float) -> None:
        """Log out if the server answers in time, and cut the connection in any case."""
        try:
            async with Deadline(self._ambient, timeout_s):
                await self.command("LOGOUT", [b"LOGOUT\r\n"])
        except (faults.ImapError, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self.stream.abort()

    async def _search(self, criteria: bytes) -> list[int]:
        found: list[int] = []

        def on_data(parts: list[Part]) -> None:
            word, rest = imap_grammar.word(parts)
            if word == b"SEARCH":
                found.extend(imap_grammar.search_uids(rest))

        await self.command(
            "UID SEARCH",
            [b"UID SEARCH " + criteria + b"\r\n"],
            on_data=on_data,
            budget=2 * _SEARCH_LINE_BYTES_MAX,
            line_bytes_max=_SEARCH_LINE_BYTES_MAX,
        )
        return found

    async def _fetch(
        self, uids: Sequence[int], items: bytes, budget: int, timeout_s: float
    ) -> dict[int, Fetched]:
        wanted = set(uids)
        found: dict[int, Fetched] = {}

        def on_data(parts: list[Part]) -> None:
            mail = imap_grammar.fetched(parts)
            # A server may report a change of flags at any time, as a FETCH without the requested data.
            if mail is not None and mail.uid in wanted and not (mail.body is None and mail.size is None):
                found.setdefault(mail.uid, mail)

        try:
            await self.command(
                "UID FETCH",
                [b"UID FETCH " + imap_grammar.uid_set(uids) + b" (" + items + b")\r\n"],
                on_data=on_data,
                budget=ANSWER_BYTES_MAX + budget + _META_BYTES_MAX * len(uids),
                timeout_s=timeout_s,
            )
        except faults.CommandRefused as refused:
            # NO: some mails could not be read, the others were sent. The caller sees which are missing.
            if refused.status != "NO" or faults.classify(refused).kind == "throttled":
                raise
        return found
