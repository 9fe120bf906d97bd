"""An IMAP client that only reads: it uses EXAMINE and BODY.PEEK, which do not change the mailbox.

Called by `check` and `fetching`. Each method sends one command and reads its answer under a deadline and a
byte budget. Every failure is an `ImapError`, after which the connection cannot be used.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.imap import folders, wire
from huahuo.mailcheck.imap.idle import Idle
from huahuo.mailcheck.imap.outcome import classify, sanitise
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.imap.wire import Fetched, Folder, Part, Status
from huahuo.mailcheck.servers.faults import (
    BrokenProtocol,
    ClearTextRefused,
    CommandRefused,
    ImapError,
    NoMechanism,
    ServerBye,
    TimedOut,
)
from huahuo.mailcheck.servers.providers import TOKENS, Auth, Tls

UNSEEN_WINDOW = 1_000
_LINE_BYTES_MAX = 32 * 1024
_ANSWER_BYTES_MAX = 512 * 1024
_RESPONSES_MAX = 20_000
_LITERALS_MAX = 64
_HEADERS_BYTES = 8 * 1024 * 1024
"""Of one command that asks for headers. Longer ones are asked for again, mail by mail."""
_SEARCH_MAILS_MAX = 100_000
_SEARCH_LINE_BYTES_MAX = 11 * _SEARCH_MAILS_MAX + 1024
_META_BYTES_MAX = 1024
"""Bound of what a server sends about one mail besides its body: names, sizes, dates, flags."""

_OF_FOLDER = frozenset({"UIDVALIDITY", "UIDNEXT"})
_IDENTITY = b'ID ("name" "huahuo" "version" "1")\r\n'

type OnData = Callable[[list[Part]], None]


def _ignore(parts: list[Part]) -> None:
    """Drop data that was not requested."""


class ImapClient:
    """One session. Call `greet`, `secure`, `sign_in`, `identify`, `examine`, then search and fetch."""

    def __init__(
        self, stream: ImapStream, ambient: Ambient, *, command_timeout_s: float, fetch_timeout_s: float
    ) -> None:
        self._stream = stream
        self._ambient = ambient
        self._command_timeout_s = command_timeout_s
        self._fetch_timeout_s = fetch_timeout_s
        self._tags = 0
        self._secrets: tuple[Secret, ...] = ()
        self._capabilities: frozenset[str] = frozenset()
        self._idle: Idle | None = None

    @property
    def idles(self) -> bool:
        """Whether the server offers IDLE."""
        return "IDLE" in self._capabilities

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._stream.ended

    async def greet(self) -> None:
        """Read the server's greeting. PREAUTH is refused, because that login is not ours."""
        async with self._deadline("greeting", self._command_timeout_s):
            self._stream.budget = _ANSWER_BYTES_MAX
            greeting = wire.status(await self._stream.read_line(_LINE_BYTES_MAX))
        if greeting is None or greeting.tag != b"*" or greeting.status not in {"OK", "BYE"}:
            raise BrokenProtocol("the greeting is none")
        if greeting.status == "BYE":
            raise ServerBye(self._clean(greeting.text))
        self._learn(greeting)

    async def secure(self, tls: Tls = "offered") -> None:
        """Ensure that a password may be sent: under TLS, or to a server in a private network.

        Raises:
            ClearTextRefused: a public server, or one that must, offers no TLS, or an attacker on the path
                removes the offer.
        """
        if not self._stream.encrypted and tls != "none":
            must = self._stream.public or tls == "starttls"
            # Dovecot repeats its capabilities after the login only to a client that did not ask before, so
            # that each question costs two round trips. A greeting may name only a part of them.
            if "STARTTLS" not in self._capabilities and (must or not self._capabilities):
                await self._ask_capabilities()
            if "STARTTLS" in self._capabilities:
                await self._command("STARTTLS", [b"STARTTLS\r\n"])
                async with self._deadline("STARTTLS", self._command_timeout_s):
                    await self._stream.start_tls()
                # Capabilities sent before TLS are not authenticated.
                self._capabilities = frozenset()
            elif must:
                raise ClearTextRefused("no TLS offered")
        if not self._capabilities:
            await self._ask_capabilities()

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
            pieces = wire.login_pieces(user, secret)
        else:
            initial = "SASL-IR" in self._capabilities
            pieces = wire.authenticate_pieces(mechanism, user, secret, host=host, port=port, initial=initial)
        self._secrets = (secret,)
        before = self._capabilities
        self._capabilities = frozenset()
        await self._command("AUTHENTICATE" if auth in TOKENS else "LOGIN", pieces)
        if not self._capabilities:
            await self._ask_capabilities()
        self._capabilities |= before & {"ID"}

    def _mechanism(self, auth: Auth) -> str:
        """The mechanism for `auth` that the server offers. The two for tokens stand in for one another."""
        if auth in ("xoauth2", "oauthbearer"):
            wanted = auth.upper()
            offered = [name for name in ("OAUTHBEARER", "XOAUTH2") if f"AUTH={name}" in self._capabilities]
            if wanted in offered or not offered:
                if any(name.startswith("AUTH=") for name in self._capabilities) and not offered:
                    raise NoMechanism("the server takes no access tokens")
                return wanted
            return offered[0]
        if auth == "plain":
            return "PLAIN"
        if "LOGINDISABLED" in self._capabilities:
            if self._stream.encrypted and "AUTH=PLAIN" in self._capabilities:
                return "PLAIN"
            raise ClearTextRefused("the server takes no LOGIN on this connection")
        return "LOGIN"

    async def identify(self) -> None:
        """Send ID if the server supports it. Some servers refuse to open a folder otherwise."""
        if "ID" in self._capabilities:
            try:
                await self._command("ID", [_IDENTITY])
            except CommandRefused:
                return

    async def examine(self, folder: str) -> Folder:
        """Open `folder` (an ASCII name) read-only."""
        exists = 0

        def on_data(parts: list[Part]) -> None:
            nonlocal exists
            count, rest = wire.word(parts)
            if rest.upper() == b"EXISTS":
                exists = wire.number(count) or 0

        name = wire.quoted(folder)
        assert name is not None
        statuses = await self._command("EXAMINE", [b"EXAMINE " + name + b"\r\n"], on_data=on_data)
        told = {s.code: wire.number(s.argument) for s in statuses if s.code in _OF_FOLDER}
        uidvalidity = told.get("UIDVALIDITY")
        if not uidvalidity:
            raise BrokenProtocol("the folder has no UIDVALIDITY")
        return Folder(uidvalidity, exists, told.get("UIDNEXT") or 0)

    async def folders(self) -> list[folders.Folder]:
        """Every folder, in the order of the server. Names that cannot be read are left out."""
        found: list[folders.Folder] = []

        def on_data(parts: list[Part]) -> None:
            folder = folders.folder_of(parts)
            if folder is not None:
                found.append(folder)

        await self._command("LIST", [b'LIST "" "*"\r\n'], on_data=on_data)
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
        while uid < wire.UID_MAX and top > 0:
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
        return sorted(wanted.intersection(await self._search(b"UID " + wire.uid_set(sorted(wanted)))))

    async def fetch_sizes(self, uids: Sequence[int]) -> dict[int, Fetched]:
        """Size and arrival date of mails, without those that are gone."""
        return await self._fetch(uids, b"UID RFC822.SIZE INTERNALDATE", 0, self._command_timeout_s)

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
        self._tags += 1
        tag = b"h%d" % self._tags
        idle = Idle(self._stream, tag, on_news, self._secrets)
        async with self._deadline("IDLE", self._command_timeout_s):
            await idle.begin(_LINE_BYTES_MAX)
        self._idle = idle

    async def end_idle(self) -> None:
        """End it. Raises as any command."""
        idle, self._idle = self._idle, None
        if idle is not None:
            async with self._deadline("IDLE", self._command_timeout_s):
                await idle.end(_LINE_BYTES_MAX)

    async def logout(self, timeout_s: float) -> None:
        """Log out if the server answers in time, and cut the connection in any case."""
        try:
            async with Deadline(self._ambient, timeout_s):
                await self._command("LOGOUT", [b"LOGOUT\r\n"])
        except (ImapError, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.abort()

    async def _search(self, criteria: bytes) -> list[int]:
        found: list[int] = []

        def on_data(parts: list[Part]) -> None:
            word, rest = wire.word(parts)
            if word == b"SEARCH":
                found.extend(wire.search_uids(rest))

        await self._command(
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
            mail = wire.fetched(parts)
            # A server may report a change of flags at any time, as a FETCH without the requested data.
            if mail is not None and mail.uid in wanted and not (mail.body is None and mail.size is None):
                found.setdefault(mail.uid, mail)

        try:
            await self._command(
                "UID FETCH",
                [b"UID FETCH " + wire.uid_set(uids) + b" (" + items + b")\r\n"],
                on_data=on_data,
                budget=_ANSWER_BYTES_MAX + budget + _META_BYTES_MAX * len(uids),
                timeout_s=timeout_s,
            )
        except CommandRefused as refused:
            # NO: some mails could not be read, the others were sent. The caller sees which are missing.
            if refused.status != "NO" or classify(refused).kind == "throttled":
                raise
        return found

    async def _ask_capabilities(self) -> frozenset[str]:
        def on_data(parts: list[Part]) -> None:
            word, rest = wire.word(parts)
            if word == b"CAPABILITY":
                self._capabilities = wire.capabilities(rest)

        await self._command("CAPABILITY", [b"CAPABILITY\r\n"], on_data=on_data)
        return self._capabilities

    async def _command(
        self,
        name: str,
        pieces: Sequence[bytes],
        *,
        on_data: OnData = _ignore,
        budget: int = _ANSWER_BYTES_MAX,
        line_bytes_max: int = _LINE_BYTES_MAX,
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
        self._tags += 1
        tag = b"h%d" % self._tags
        unsent = iter(pieces[1:])
        statuses: list[Status] = []
        self._stream.budget = budget
        async with self._deadline(name, timeout_s or self._command_timeout_s):
            self._stream.write(tag + b" " + pieces[0])
            for _ in range(_RESPONSES_MAX):
                line = await self._stream.read_line(line_bytes_max)
                if line.startswith(b"+"):
                    self._go_on(unsent)
                    continue
                said = wire.status(line)
                if said is None:
                    on_data(await self._whole(line[2:]))
                    continue
                self._learn(said)
                if said.tag == tag:
                    if said.status != "OK":
                        raise CommandRefused(name, said.status, said.code, self._clean(said.text))
                    return statuses
                if said.tag != b"*" or said.status == "PREAUTH":
                    raise BrokenProtocol("an answer to no command")
                if said.status == "BYE":
                    raise ServerBye(self._clean(said.text))
                statuses.append(said)
        raise BrokenProtocol("too many responses to one command")

    def _go_on(self, unsent: Iterator[bytes]) -> None:
        piece = next(unsent, None)
        if piece is None:
            raise BrokenProtocol("the server waits for nothing we have")
        self._stream.write(piece)

    async def _whole(self, text: bytes) -> list[Part]:
        """A response with the literals that belong to it."""
        parts: list[Part] = []
        while (size := wire.literal_size(text)) is not None:
            if len(parts) == _LITERALS_MAX:
                raise BrokenProtocol("too many literals in one response")
            parts.append((text, await self._stream.read_exactly(size)))
            text = await self._stream.read_line(_LINE_BYTES_MAX)
        parts.append(text)
        return parts

    def _learn(self, said: Status) -> None:
        if said.code == "CAPABILITY":
            self._capabilities = wire.capabilities(said.argument)

    def _clean(self, text: bytes) -> str:
        return sanitise(text, self._secrets)

    @asynccontextmanager
    async def _deadline(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        try:
            async with Deadline(self._ambient, timeout_s):
                yield
        except TimeoutError:
            raise TimedOut(what) from None
