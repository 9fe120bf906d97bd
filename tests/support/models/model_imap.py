r"""A small model of an IMAP server, for the simulated network only: there no real server can run.

    imap = ModelImap("alice@example.com", "secret", [b"Subject: hello\r\n\r\nworld"])
    loop.net.host("imap").create_task(imap.serve(143))

It answers exactly the commands that a check sends and ends the connection at any other. Faults are plain
attributes that a test sets at any time; a number counts down with each time the fault strikes.
"""

import asyncio
import base64
import contextlib
import re
from collections.abc import Awaitable, Callable

_LITERAL = re.compile(rb"\{(\d+)\}$")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\S+)')


class ModelImap:
    """One user's INBOX. A user without a domain may log in with any: `alice` also as `alice@example.com`."""

    def __init__(self, user: str, password: str, mails: list[bytes] | None = None) -> None:
        self._user = user
        self._password = password
        self.mails: dict[int, bytes] = {}
        self.uidvalidity = 1
        self.sessions = 0
        """How many connections were taken so far."""
        self.delay_s = 0.0
        """Thinking time before each answer."""
        self.refuse_login = ""
        """Refuse the right password too, with this text, such as `[LIMIT] too many`."""
        self.refuse_examine = ""
        self.bye_in_fetch = 0
        """How many times to send BYE in the middle of a FETCH of bodies."""
        self.short_literals = 0
        """How many times to end the connection in the middle of a literal."""
        self.silences = 0
        """How many FETCHes of bodies to leave without an answer."""
        self.by_token: Callable[[str, str], Awaitable[bool]] | None = None
        """Whether a user may sign in with an access token; None: nobody may."""
        self._next_uid = 1
        self._tasks: list[asyncio.Task[None]] = []
        for mail in mails or []:
            self.add(mail)

    def add(self, mail: bytes) -> int:
        """A mail arrives; its UID."""
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        self.mails[uid] = mail
        return uid

    def renumber(self) -> None:
        """As after a restore: another UIDVALIDITY, UIDs from 1."""
        mails = list(self.mails.values())
        self.mails.clear()
        self.uidvalidity, self._next_uid = self.uidvalidity + 1, 1
        for mail in mails:
            self.add(mail)

    async def serve(self, port: int, host: str | None = None) -> None:
        """Take connections until cancelled; then cut them."""
        server = await asyncio.start_server(self._taken, host, port)
        try:
            await server.serve_forever()
        finally:
            server.close()
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def accepts(self, user: str, password: str) -> bool:
        """Whether these are the credentials."""
        known = user if "@" in self._user else user.partition("@")[0]
        return (known, password) == (self._user, self._password)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            # asyncio's streams of Python 3.12.1 report a cancelled handler as an unhandled exception.
            gone = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*gone):
                await _Session(self, reader, writer).run()
        finally:
            writer.close()
            self._tasks.remove(task)


class _Session:
    """One connection."""

    def __init__(self, imap: ModelImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._imap = imap
        self._reader = reader
        self._writer = writer
        self._logged_in = False
        self._open = False

    async def run(self) -> None:
        await self._say(b"* OK model ready")
        while True:
            line = await self._command()
            if self._imap.delay_s:
                await asyncio.sleep(self._imap.delay_s)
            tag, _, command = line.partition(b" ")
            answer = await self._authenticate(command) or self._answer(command)
            if answer is None:
                return
            if answer:
                await self._say(tag + b" " + answer)
            if command == b"LOGOUT":
                return

    def _answer(self, command: bytes) -> bytes | None:
        """The tagged answer; empty: say nothing, None: end the connection."""
        handlers: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"CAPABILITY": self._capability,
            b"LOGIN ": self._login,
            b"ID ": lambda _: b"OK",
            b"LOGOUT": lambda _: b"OK",
            b"EXAMINE ": self._examine,
            b"LIST ": lambda _: b"OK",
            b"UID SEARCH UID ": self._search,
            b"UID FETCH ": self._fetch,
        }
        for word, handler in handlers.items():
            if command.startswith(word):
                return handler(command[len(word) :])
        return None

    def _capability(self, _: bytes) -> bytes:
        tokens = b"" if self._imap.by_token is None else b" SASL-IR AUTH=XOAUTH2"
        self._line(b"* CAPABILITY IMAP4rev1 ID" + tokens)
        return b"OK"

    def _login(self, arguments: bytes) -> bytes:
        user, password = (
            re.sub(rb"\\(.)", rb"\1", match[1]) if match[1] is not None else match[2]
            for match in _WORD.finditer(arguments)
        )
        if not self._imap.accepts(user.decode(), password.decode()):
            return b"NO [AUTHENTICATIONFAILED] wrong"
        if self._imap.refuse_login:
            return b"NO " + self._imap.refuse_login.encode()
        self._logged_in = True
        return b"OK in"

    async def _authenticate(self, command: bytes) -> bytes | None:
        """The tagged answer to a token; None: the command brings none."""
        if self._imap.by_token is None or not command.startswith(b"AUTHENTICATE XOAUTH2 "):
            return None
        user, _, token = base64.b64decode(command.rpartition(b" ")[2]).decode().partition("\1auth=Bearer ")
        if await self._imap.by_token(user.removeprefix("user="), token.rstrip("\1")):
            self._logged_in = True
            return b"OK in"
        await self._say(b"+ " + base64.b64encode(b'{"status":"401"}'))
        await self._reader.readuntil(b"\n")
        return b"NO [AUTHENTICATIONFAILED] wrong token"

    def _examine(self, _: bytes) -> bytes | None:
        if not self._logged_in:
            return None
        if self._imap.refuse_examine:
            return b"NO " + self._imap.refuse_examine.encode()
        self._open = True
        self._line(b"* %d EXISTS" % len(self._imap.mails))
        self._line(b"* OK [UIDVALIDITY %d] valid" % self._imap.uidvalidity)
        return b"OK [READ-ONLY] open"

    def _search(self, uid_set: bytes) -> bytes | None:
        if not self._open:
            return None
        found = b" ".join(b"%d" % uid for uid in self._matching(uid_set))
        self._line(b"* SEARCH " + found)
        return b"OK"

    def _fetch(self, arguments: bytes) -> bytes | None:
        if not self._open:
            return None
        uid_set, _, items = arguments.partition(b" ")
        for uid in self._matching(uid_set):
            mail = self._imap.mails[uid]
            if b"BODY.PEEK[]" not in items:
                self._line(b"* %d FETCH (UID %d RFC822.SIZE %d)" % (uid, uid, len(mail)))
                continue
            if self._strikes("silences"):
                return b""
            if self._strikes("bye_in_fetch"):
                self._line(b"* BYE going down")
                return None
            partial = re.search(rb"<0\.(\d+)>", items)
            body = mail[: int(partial[1])] if partial else mail
            name = b"BODY[]<0>" if partial else b"BODY[]"
            self._line(b"* %d FETCH (UID %d %s {%d}" % (uid, uid, name, len(body)))
            if self._strikes("short_literals"):
                self._writer.write(body[: len(body) // 2])
                return None
            self._line(body + b")")
        return b"OK"

    def _strikes(self, fault: str) -> bool:
        left: int = getattr(self._imap, fault)
        setattr(self._imap, fault, max(0, left - 1))
        return left > 0

    def _matching(self, uid_set: bytes) -> list[int]:
        """As a real server: `n:*` matches the last mail even below n."""
        last = max(self._imap.mails, default=0)
        wanted: set[int] = set()
        for each in uid_set.split(b","):
            low, _, high = each.partition(b":")
            ends = sorted(last if end == b"*" else int(end) for end in (low, high or low))
            wanted |= {uid for uid in self._imap.mails if ends[0] <= uid <= ends[1]}
        return sorted(wanted)

    async def _command(self) -> bytes:
        """One command line, literals taken in as quoted strings."""
        line = (await self._reader.readuntil(b"\n")).rstrip(b"\r\n")
        while match := _LITERAL.search(line):
            await self._say(b"+ go on")
            literal = await self._reader.readexactly(int(match[1]))
            quoted = b'"' + literal.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
            line = line[: match.start()] + quoted
            line += (await self._reader.readuntil(b"\n")).rstrip(b"\r\n")
        return line

    def _line(self, line: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(line + b"\r\n")

    async def _say(self, line: bytes) -> None:
        self._line(line)
        await self._writer.drain()
