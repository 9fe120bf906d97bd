"""An IMAP client that only reads: it uses EXAMINE and BODY.PEEK, which do not change the mailbox.

Called by `check` and `fetching`. Each method sends one command and reads its answer under a deadline and a
byte budget. Every failure is an `ImapError`, after which the connection cannot be used.
"""

from collections.abc import Callable, Sequence

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers import imap_grammar
from huahuo.mailcheck.servers.faults import (
    BrokenProtocol,
    ClearTextRefused,
    CommandRefused,
    ImapError,
    NoMechanism,
    ServerBye,
    classify,
)
from huahuo.mailcheck.servers.imap_connection import (
    ANSWER_BYTES_MAX,
    LINE_BYTES_MAX,
    Exchange,
    Idle,
    ImapStream,
)
from huahuo.mailcheck.servers.imap_grammar import ExaminedFolder, Fetched, Part
from huahuo.mailcheck.servers.providers import TOKENS, Auth, Tls

UNSEEN_WINDOW = 1_000
_HEADERS_BYTES = 8 * 1024 * 1024
"""Of one command that asks for headers. Longer ones are asked for again, mail by mail."""
_SEARCH_MAILS_MAX = 100_000
_SEARCH_LINE_BYTES_MAX = 11 * _SEARCH_MAILS_MAX + 1024
_META_BYTES_MAX = 1024
"""Bound of what a server sends about one mail besides its body: names, sizes, dates, flags."""

_OF_FOLDER = frozenset({"UIDVALIDITY", "UIDNEXT"})
_IDENTITY = b'ID ("name" "huahuo" "version" "1")\r\n'


class ImapClient:
    """One session. Call `greet`, `secure`, `sign_in`, `identify`, `examine`, then search and fetch."""

    def __init__(
        self, stream: ImapStream, ambient: Ambient, *, command_timeout_s: float, fetch_timeout_s: float
    ) -> None:
        self._stream = stream
        self._ambient = ambient
        self._exchange = Exchange(stream, ambient, command_timeout_s)
        self._fetch_timeout_s = fetch_timeout_s
        self._idle: Idle | None = None

    @property
    def idles(self) -> bool:
        """Whether the server offers IDLE."""
        return "IDLE" in self._exchange.capabilities

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._stream.ended

    async def greet(self) -> None:
        """Read the server's greeting. PREAUTH is refused, because that login is not ours."""
        async with self._exchange.deadline("greeting", self._exchange.timeout_s):
            self._stream.budget = ANSWER_BYTES_MAX
            greeting = imap_grammar.status(await self._stream.read_line(LINE_BYTES_MAX))
        if greeting is None or greeting.tag != b"*" or greeting.status not in {"OK", "BYE"}:
            raise BrokenProtocol("the greeting is none")
        if greeting.status == "BYE":
            raise ServerBye(self._exchange.clean(greeting.text))
        self._exchange.learn(greeting)

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
            if "STARTTLS" not in self._exchange.capabilities and (must or not self._exchange.capabilities):
                await self._exchange.ask_capabilities()
            if "STARTTLS" in self._exchange.capabilities:
                await self._exchange.command("STARTTLS", [b"STARTTLS\r\n"])
                async with self._exchange.deadline("STARTTLS", self._exchange.timeout_s):
                    await self._stream.start_tls()
                # Capabilities sent before TLS are not authenticated.
                self._exchange.capabilities = frozenset()
            elif must:
                raise ClearTextRefused("no TLS offered")
        if not self._exchange.capabilities:
            await self._exchange.ask_capabilities()

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
            initial = "SASL-IR" in self._exchange.capabilities
            pieces = imap_grammar.authenticate_pieces(
                mechanism, user, secret, host=host, port=port, initial=initial
            )
        self._exchange.secrets = (secret,)
        before = self._exchange.capabilities
        self._exchange.capabilities = frozenset()
        await self._exchange.command("AUTHENTICATE" if auth in TOKENS else "LOGIN", pieces)
        if not self._exchange.capabilities:
            await self._exchange.ask_capabilities()
        self._exchange.capabilities |= before & {"ID"}

    def _mechanism(self, auth: Auth) -> str:
        """The mechanism for `auth` that the server offers. The two for tokens stand in for one another."""
        if auth in ("xoauth2", "oauthbearer"):
            wanted = auth.upper()
            offered = [
                name for name in ("OAUTHBEARER", "XOAUTH2") if f"AUTH={name}" in self._exchange.capabilities
            ]
            if wanted in offered or not offered:
                if any(name.startswith("AUTH=") for name in self._exchange.capabilities) and not offered:
                    raise NoMechanism("the server takes no access tokens")
                return wanted
            return offered[0]
        if auth == "plain":
            return "PLAIN"
        if "LOGINDISABLED" in self._exchange.capabilities:
            if self._stream.encrypted and "AUTH=PLAIN" in self._exchange.capabilities:
                return "PLAIN"
            raise ClearTextRefused("the server takes no LOGIN on this connection")
        return "LOGIN"

    async def identify(self) -> None:
        """Send ID if the server supports it. Some servers refuse to open a folder otherwise."""
        if "ID" in self._exchange.capabilities:
            try:
                await self._exchange.command("ID", [_IDENTITY])
            except CommandRefused:
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
            raise BrokenProtocol("the folder has a name that cannot be sent")
        statuses = await self._exchange.command("EXAMINE", [b"EXAMINE " + name + b"\r\n"], on_data=on_data)
        told = {s.code: imap_grammar.number(s.argument) for s in statuses if s.code in _OF_FOLDER}
        uidvalidity = told.get("UIDVALIDITY")
        if not uidvalidity:
            raise BrokenProtocol("the folder has no UIDVALIDITY")
        return ExaminedFolder(uidvalidity, exists, told.get("UIDNEXT") or 0)

    async def folders(self) -> list[imap_grammar.Folder]:
        """Every folder, in the order of the server. Names that cannot be read are left out."""
        found: list[imap_grammar.Folder] = []

        def on_data(parts: list[Part]) -> None:
            folder = imap_grammar.folder_of(parts)
            if folder is not None:
                found.append(folder)

        await self._exchange.command("LIST", [b'LIST "" "*"\r\n'], on_data=on_data)
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
        return await self._fetch(uids, b"UID RFC822.SIZE INTERNALDATE", 0, self._exchange.timeout_s)

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
        exchange = self._exchange
        idle = Idle(self._stream, exchange.next_tag(), on_news, exchange.secrets)
        async with self._exchange.deadline("IDLE", self._exchange.timeout_s):
            await idle.begin(LINE_BYTES_MAX)
        self._idle = idle

    async def end_idle(self) -> None:
        """End it. Raises as any command."""
        idle, self._idle = self._idle, None
        if idle is not None:
            async with self._exchange.deadline("IDLE", self._exchange.timeout_s):
                await idle.end(LINE_BYTES_MAX)

    async def logout(self, timeout_s: float) -> None:
        """Log out if the server answers in time, and cut the connection in any case."""
        try:
            async with Deadline(self._ambient, timeout_s):
                await self._exchange.command("LOGOUT", [b"LOGOUT\r\n"])
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
            word, rest = imap_grammar.word(parts)
            if word == b"SEARCH":
                found.extend(imap_grammar.search_uids(rest))

        await self._exchange.command(
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
            await self._exchange.command(
                "UID FETCH",
                [b"UID FETCH " + imap_grammar.uid_set(uids) + b" (" + items + b")\r\n"],
                on_data=on_data,
                budget=ANSWER_BYTES_MAX + budget + _META_BYTES_MAX * len(uids),
                timeout_s=timeout_s,
            )
        except CommandRefused as refused:
            # NO: some mails could not be read, the others were sent. The caller sees which are missing.
            if refused.status != "NO" or classify(refused).kind == "throttled":
                raise
        return found
