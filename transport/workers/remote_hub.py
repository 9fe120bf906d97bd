"""The live connections of a worker: it ticks them, and its owner knows who they are."""

import asyncio
from collections.abc import Awaitable
from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.transport.access.verified import Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server.hub import HasCursors
from huahuo.transport.server.ports import LiveConnection
from huahuo.transport.server.wheel import Wheel, close
from huahuo.transport.workers.messages import Acks, CloseIt, Join, Parted, Refreshed
from huahuo.transport.workers.questions import Questions

_ADMITTED: Final = msgspec.msgpack.Decoder(bool)
ACKS_WAITING_MAX: Final = 100_000

type _AckKey = tuple[str, str, str]


class RemoteHub:
    """Implements `ports.Hub`."""

    def __init__(self, questions: Questions, ambient: Ambient, awake: AwakeAmbient | None = None) -> None:
        self._questions = questions
        self._wheel = Wheel(ambient, lambda: None, awake=awake)
        self._made = 0
        self._numbers: dict[LiveConnection, int] = {}
        self._joined: dict[int, LiveConnection] = {}
        self._acks: dict[_AckKey, int] = {}

    @property
    def open_count(self) -> int:
        """Open WebSockets, authenticated or not."""
        return len(self._wheel)

    @property
    def connections(self) -> tuple[LiveConnection, ...]:
        """Open WebSockets, from the oldest on."""
        return self._wheel.connections

    def start(self) -> None:
        """Begin to tick."""
        self._wheel.start()

    def stop(self) -> None:
        """Tick no more, and send the last acks."""
        self._wheel.stop()
        self.flush()

    def opened(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.enter(connection)

    def join(self, connection: LiveConnection, verified: Verified, client: str) -> Awaitable[bool]:
        """See `ports.Hub`."""
        self._made += 1
        number = self._made
        self._numbers[connection] = number
        self._joined[number] = connection
        return self._questions.ask(lambda n: Join(n, number, verified, client), _ADMITTED)

    def refreshed(self, connection: LiveConnection, verified: Verified) -> None:
        """See `ports.Hub`."""
        number = self._numbers.get(connection)
        if number is not None:
            self._questions.say(Refreshed(number, verified))

    def leave(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.leave(connection)
        number = self._numbers.pop(connection, None)
        if number is not None:
            del self._joined[number]
            self.flush()  # its last acks, while the owner still knows it
            self._questions.say(Parted(number))

    def stirred(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.stirred(connection)

    def note_ack(self, user: str, client: str, stream: str, seq: int) -> None:
        """See `ports.Hub`. Sent in this turn of the loop, the highest of each."""
        acks = self._acks
        if not acks:
            asyncio.get_running_loop().call_soon(self.flush)
        key = (user, client, stream)
        known = acks.get(key)
        if known is None or seq > known:
            acks[key] = seq

    def flush(self) -> None:
        """Send the acks that wait."""
        acks, self._acks = self._acks, {}
        if acks:
            self._questions.say(Acks([(*key, seq) for key, seq in acks.items()]))

    def close_it(self, said: CloseIt) -> None:
        """The owner closes a connection: another took over, or its token was revoked."""
        connection = self._joined.get(said.connection)
        if connection is not None:
            close(connection, CloseCode(said.code), said.reason)

    def positions(self) -> dict[int, dict[str, int]]:
        """The last seq sent of each stream, by connection."""
        return {
            number: dict(connection.cursors())
            for number, connection in self._joined.items()
            if isinstance(connection, HasCursors)
        }
