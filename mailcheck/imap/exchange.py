"""One command of IMAP and its answer at a time, under a deadline and a byte budget.

Every failure is an `ImapError`, after which the connection cannot be used.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.imap import wire
from huahuo.mailcheck.imap.outcome import sanitise
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.imap.wire import Part, Status
from huahuo.mailcheck.servers.faults import BrokenProtocol, CommandRefused, ServerBye, TimedOut

LINE_BYTES_MAX: Final = 32 * 1024
ANSWER_BYTES_MAX: Final = 512 * 1024
_RESPONSES_MAX: Final = 20_000
_LITERALS_MAX: Final = 64

type OnData = Callable[[list[Part]], None]


def _ignore(parts: list[Part]) -> None:
    """Drop data that was not requested."""


class Exchange:
    """See the module. `timeout_s`: of a command that has no deadline of its own."""

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
            word, rest = wire.word(parts)
            if word == b"CAPABILITY":
                self.capabilities = wire.capabilities(rest)

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
                said = wire.status(line)
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
        while (size := wire.literal_size(text)) is not None:
            if len(parts) == _LITERALS_MAX:
                raise BrokenProtocol("too many literals in one response")
            parts.append((text, await self.stream.read_exactly(size)))
            text = await self.stream.read_line(LINE_BYTES_MAX)
        parts.append(text)
        return parts

    def learn(self, said: Status) -> None:
        """Take note of capabilities that a status names."""
        if said.code == "CAPABILITY":
            self.capabilities = wire.capabilities(said.argument)

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
