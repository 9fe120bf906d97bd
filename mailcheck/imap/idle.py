"""The command IDLE (RFC 2177): the server speaks when the folder changes, and no task waits for it.

`client` begins and ends one, under its deadlines. In between, the transport's callback reads what arrives.
"""

from collections.abc import Callable
from typing import Final

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.imap import wire
from huahuo.mailcheck.imap.outcome import sanitise
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.servers.faults import BrokenProtocol, CommandRefused, ImapError, ServerBye

_BUDGET_BYTES: Final = 64 * 1024
"""For what comes in one piece. Over hours a server may send any number of `* OK Still here`."""
_RESPONSES_MAX: Final = 1_000
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
        for _ in range(_RESPONSES_MAX):
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
        for _ in range(_RESPONSES_MAX):
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
        said = wire.status(line)
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
