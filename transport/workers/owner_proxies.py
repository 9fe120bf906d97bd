"""What a worker has in place of its owner's door, verifier, hub, gate, states and log.

Each asks the owner: who may connect and sign in, to execute commands and queries, for answers and states
that are made part by part. The worker ticks its live connections, and its owner knows who they are.

Of the log, a worker knows its position, the heads of the streams that its clients read, and its events. A
head is asked for once, when a client first subscribes; from then on commits move it. So a worker's memory
grows with what its own clients read, not with the log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from huahuo.actors.plugins import calls
from huahuo.actors.plugins.actions import Action, MayRead, SnapshotOf
from huahuo.actors.plugins.calls import Call, Principal, Refusal, Reply, error_reply
from huahuo.eventstore.ambient import Ambient, AwakeAmbient
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, Page, RowRange, RowsAtOnce, StoredEvent
from huahuo.eventstore.port import Listener, Log, RowListener
from huahuo.transport.access.door import AddressDoor, Entry
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verdict, Verified
from huahuo.transport.commands.gate import Done, Running
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.server.hub import HasCursors, Wheel, close_connection
from huahuo.transport.server.presence import Sink
from huahuo.transport.server.views import Answered, Ask
from huahuo.transport.wire.ports import LiveConnection
from huahuo.transport.words import zh
from huahuo.transport.workers.channel import (
    Channel,
    Columns,
    Command,
    OwnerFailed,
    OwnerPort,
    Positions,
    Told,
    events_of,
)


class RemoteDoor:
    """Implements `Door`, except that it asks (`ask`) where a `Door` knows at once (`enter`)."""

    def __init__(self, channel: Channel, trusted_proxies: Sequence[str]) -> None:
        self._channel = channel
        self._addresses = AddressDoor(0, trusted_proxies)

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """See `Door`."""
        return self._addresses.address(peer, forwarded_for)

    def peer_address(self, peer: str) -> str:
        """See `Door`."""
        return self._addresses.peer_address(peer)

    async def ask(self, address: str) -> Entry:
        """See `Door.enter`. Raises as `Questions.ask`."""
        return Entry(await self._channel.ask(OwnerPort.enter, address))

    def enter(self, address: str) -> Entry:
        """Never called: the usher asks before the server has a socket."""
        raise RuntimeError(f"a worker asks its owner about {address}")

    def leave(self, address: str) -> None:
        """See `Door`."""
        self._channel.say(OwnerPort.left, address)

    def auth_failed(self, address: str, now_s: float) -> Awaitable[float]:  # noqa: ARG002  of the port
        """See `Door`. The owner's clock counts, not `now_s`."""
        return self._channel.ask(OwnerPort.auth_failed, address)


class RemoteVerifier:
    """Implements `Verifier`: no worker has the secrets that tokens are judged by."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def verify(self, token: str, now_ms: int) -> Verdict:  # noqa: ARG002  of the port
        """See `Verifier`."""
        try:
            judged = await self._channel.ask(OwnerPort.verify, token)
        except (EventStoreError, OwnerFailed) as error:
            return AuthFailure(NOT_NOW, str(error))
        verdict = judged.verified or judged.failure
        assert verdict is not None, "the owner answers with one of the two"
        return verdict

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:  # noqa: ARG002  of the port
        """Never called in a worker: what is asked again and again is asked over HTTP, of the owner."""
        raise RuntimeError(f"a worker asks its owner about {verified.principal.name}")


ACKS_WAITING_MAX: Final = 100_000

type _AckKey = tuple[str, str, str]


class RemoteHub:
    """Implements `ports.Hub`."""

    def __init__(self, channel: Channel, ambient: Ambient, awake: AwakeAmbient | None = None) -> None:
        self._channel = channel
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
        return self._channel.ask(OwnerPort.join, number, verified, client)

    def refreshed(self, connection: LiveConnection, verified: Verified) -> None:
        """See `ports.Hub`."""
        number = self._numbers.get(connection)
        if number is not None:
            self._channel.say(OwnerPort.refreshed, number, verified)

    def leave(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.leave(connection)
        number = self._numbers.pop(connection, None)
        if number is not None:
            del self._joined[number]
            self.flush()  # its last acks, while the owner still knows it
            self._channel.say(OwnerPort.parted, number)

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
            self._channel.say(OwnerPort.acks, [(*key, seq) for key, seq in acks.items()])

    def close_it(self, number: int, code: int, reason: str) -> None:
        """The owner closes a connection: another took over, or its token was revoked."""
        connection = self._joined.get(number)
        if connection is not None:
            close_connection(connection, CloseCode(code), reason)

    def positions(self) -> Positions:
        """The last seq sent of each stream, by connection."""
        return {
            number: dict(connection.cursors())
            for number, connection in self._joined.items()
            if isinstance(connection, HasCursors)
        }


_END: Final = object()


class RemoteParted:
    """A `Parted` whose texts are awaited (`Turns.slice`). The owner keeps it until this object is gone."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number

    def __del__(self) -> None:
        self._channel.say(OwnerPort.release, self._number)

    @classmethod
    def of(cls, channel: Channel, number: int) -> calls.Parted:
        """As the type that its users know."""
        return cast("calls.Parted", cls(channel, number))

    def pieces(self) -> Iterator[Awaitable[bytes]]:
        """See `Parted`. The last text is empty."""
        return iter(lambda: self._channel.ask(OwnerPort.piece, self._number), cast("Any", _END))

    def part(self, start: int, bytes_max: int) -> Awaitable[tuple[bytes, int | None]]:
        """See `Parted`."""
        return self._channel.ask(OwnerPort.part, self._number, start, bytes_max)


def snapshots_of(channel: Channel, *, viewed: bool = False) -> SnapshotOf:
    """Takes the state of any stream. `viewed`: as its followers see it."""

    async def of(stream: str) -> tuple[int, bytes | calls.Parted]:
        taken = await channel.ask(OwnerPort.view if viewed else OwnerPort.snapshot, stream)
        if taken.parted:
            return taken.seq, RemoteParted.of(channel, taken.parted)
        return taken.seq, taken.state

    return of


def judge_of(channel: Channel) -> MayRead:
    """Judges who may read any stream."""

    def judge(stream: str, principal: Principal) -> Awaitable[bool | None]:
        return channel.ask(OwnerPort.judge, principal, stream)

    return cast("Callable[[str, Principal], Any]", judge)


def asks_of(channel: Channel) -> Ask:
    """Asks which rows of a list a user may have."""

    async def ask(
        who: Principal, name: str, given: Mapping[str, Any], /, *, as_text: bool = False
    ) -> Answered:
        try:
            return await channel.ask(OwnerPort.ask_list, who, name, dict(given), as_text)
        except OwnerFailed:
            return Answered(code=ErrorCode.INTERNAL, message=zh.INTERNAL)

    return ask


def presence_of(channel: Channel) -> Callable[[str], Awaitable[dict[str, dict[str, bytes]]]]:
    """Asks who else is in the presence of a stream."""
    return lambda stream: channel.ask(OwnerPort.presence, stream)


def tells_presence(channel: Channel) -> Sink:
    """Tells the owner who of this process is in the presence of a stream."""

    def tell(source: str, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        if not source:  # it is this process's own
            channel.say(OwnerPort.present, stream, put, drop)

    return tell


_UNAVAILABLE: Final = error_reply(Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN))
_INTERNAL: Final = error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL))


class RemoteGate:
    """Implements `ports.CommandGate`."""

    def __init__(self, channel: Channel) -> None:
        self.told: Callable[[], None] | None = None
        self.running = 0
        """How many have begun and not ended."""
        self._channel = channel
        self._telling: asyncio.Handle | None = None

    async def execute(self, call: Call[Any], spec: Action) -> Reply:  # noqa: ARG002  of the port
        """See `ports.CommandGate`."""
        self.running += 1
        try:
            reply = self._reply(await self._channel.ask(OwnerPort.execute, _command(call)))
            return reply or _UNAVAILABLE
        finally:
            self.running -= 1

    def begin(self, call: Call[Any], spec: Action, done: Done) -> Running:  # noqa: ARG002  of the port
        """See `ports.CommandGate`."""
        run = Running(call, done, None)
        self.running += 1

        def hear(told: Told | Exception) -> None:
            self.running -= 1
            run.over = True
            if isinstance(told, Told):
                run.tell(self._reply(told))
            else:
                run.tell(_INTERNAL if isinstance(told, OwnerFailed) else _UNAVAILABLE)
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_soon(self._all_told)

        self._channel.call(hear, OwnerPort.execute, _command(call))
        return run

    def has_room(self, user: str) -> bool:
        """See `CommandGate`. The owner holds back what its user has no room for."""
        del user
        return True

    def record(self, call: Call[Any], reply: Reply, done: Done) -> Running:  # noqa: ARG002  of the port
        """Never called: only the owner checks the fields of a command."""
        raise RuntimeError(f"a worker leaves {call.action} to its owner")

    def _reply(self, told: Told) -> Reply | None:
        if told.body is None:
            return None
        parted = RemoteParted.of(self._channel, told.parted) if told.parted else None
        return Reply(told.body, told.at, told.recorded, told.duplicate, parted, told.position)

    def _all_told(self) -> None:
        self._telling = None
        if self.told is not None:
            self.told()


def _command(call: Call[Any]) -> Command:
    key = None if call.key is None else (call.key.client, call.key.id)
    return Command(
        call.principal, call.session, call.action, call.params, call.command_id, key, call.fingerprint
    )


HEADS_MAX: Final = 65_536
"""Heads that are kept although nobody here reads their streams any more."""
_EMPTY: Final = Head()


class RemoteLog:
    """The reading half of a `Log`, as far as a feed and sessions use it: see `as_log`."""

    def __init__(self, channel: Channel, log_id: str, position: int, chain: bytes) -> None:
        self._channel = channel
        self._position = position
        self._chain = chain
        self._heads: dict[str, Head] = {}
        self._listeners: list[Listener] = []
        self._row_listeners: list[RowListener] = []
        self.log_id = log_id
        self.corruption = Corruption()
        self.is_read: Callable[[str], bool] = lambda _stream: True
        """Whether a client reads this stream now, so that its head must be kept."""

    @property
    def as_log(self) -> Log:
        """This, for those who need no more of a log."""
        return cast("Log", self)

    @property
    def position(self) -> int:
        """See `Log`."""
        return self._position

    @property
    def head_count(self) -> int:
        """How many heads are in memory."""
        return len(self._heads)

    def knows(self, stream: str) -> bool:
        """Whether the head of `stream` is in memory. Else `links` at seq 0 brings it."""
        return stream == LOG_STREAM or stream in self._heads

    def head(self, stream: str) -> Head:
        """See `Log`. Empty for a stream that it does not know."""
        if stream == LOG_STREAM:
            return Head(1, self._position, self._chain if self._position else b"")
        return self._heads.get(stream, _EMPTY)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `Log`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def committed(self, columns: Columns) -> None:
        """The owner tells of a commit."""
        events = events_of(columns)
        last = events[-1]
        self._position, self._chain = last.position, last.chain
        heads = self._heads
        newest = {event.stream: event for event in events}
        for stream, event in newest.items():
            known = heads.get(stream)
            if known is not None and event.seq > known.seq:
                heads[stream] = Head(known.first, event.seq, event.chain)
        for listener in tuple(self._listeners):
            listener(events)

    def listen_to_rows(self, listener: RowListener) -> Callable[[], None]:
        """See `Log`."""
        self._row_listeners.append(listener)
        return lambda: self._row_listeners.remove(listener)

    def rows_changed(self, parts: Collection[tuple[str, str]] | None) -> None:
        """The owner tells that rows changed."""
        for listener in tuple(self._row_listeners):
            listener(parts)

    def rows_at_once(self, ranges: Sequence[RowRange]) -> Awaitable[RowsAtOnce]:
        """See `Log`."""
        return self._channel.ask(OwnerPort.rows_at_once, list(ranges))

    async def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Log`. A place with seq 0 brings the head of its stream, with its link."""
        found = await self._channel.ask(OwnerPort.links, list(places))
        for stream, head in found.heads.items():
            known = self._heads.get(stream)
            if known is None or head.seq >= known.seq:
                self._heads[stream] = head
        if len(self._heads) > HEADS_MAX:
            self._forget(set(found.heads))
        return found.links

    def catch_up(self, places: Sequence[tuple[str, int]]) -> Awaitable[bool]:
        """See `Feed.catch_up`: where other nodes write the log, its owner waits for what they wrote."""
        return self._channel.ask(OwnerPort.catch_up, list(places))

    async def look_again(self) -> None:
        """Ask for all heads once more: events were pruned."""
        streams = list(self._heads)
        for at in range(0, len(streams), 1000):
            await self.links([(stream, 0) for stream in streams[at : at + 1000]])

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """See `Log`, with the events as the feed of the owner shows them."""
        page = Page(stream, after, events_max, bytes_max)
        return events_of(await self._channel.ask(OwnerPort.read, page))

    async def read_joined_pages(self, pages: Sequence[Page]) -> list[Joined | None]:
        """See `Log`, as for `read`."""
        return await self._channel.ask(OwnerPort.read_joined, list(pages))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a worker does not use `Log.{name}`: the owner does")

    def _forget(self, keep: set[str]) -> None:
        """Forget the heads of streams that nobody reads, the oldest first."""
        for stream in tuple(self._heads):
            if len(self._heads) <= HEADS_MAX:
                return
            if stream not in keep and not self.is_read(stream):
                del self._heads[stream]
