"""The owner's side of one worker: answers its questions, and counts its connections with all others.

`tell_commits` tells all workers of commits. A commit is encoded once, however many workers there are. It
leaves at once: thousands who waited for the commit may have the loop next, and meanwhile the workers hand
it out.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.core.reader import is_receipt
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Head, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.words import en
from huahuo.transport.workers import channel
from huahuo.transport.workers import channel as said
from huahuo.transport.workers.channel import Columns, Commit, Pipe, Pruned, Questions, columns_of, encode
from huahuo.transport.workers.owner import CallsOf, Owner, PartsKept, raw

type Positions = dict[int, dict[str, int]]

_POSITIONS: Final = msgspec.msgpack.Decoder(Positions.__value__)

_log = structlog.get_logger(__name__)


class RemoteConnection:
    """A connection that a worker has. Implements `ports.LiveConnection` and `hub.HasCursors`."""

    __slots__ = ("_desk", "_number", "seqs")

    def __init__(self, desk: "Desk", number: int) -> None:
        self._desk = desk
        self._number = number
        self.seqs: Mapping[str, int] = {}
        """The positions that the worker told last."""

    def tick(self, now_s: float) -> float:
        """Its worker ticks it."""
        del now_s
        return math.inf

    def wake_up(self, now_s: float) -> None:
        """Its worker wakes it."""

    def close(self, code: int, reason: str) -> None:
        """See `ports.LiveConnection`."""
        self._desk.say(said.CloseIt(self._number, code, reason))

    def cursors(self) -> Mapping[str, int]:
        """See `hub.HasCursors`."""
        return self.seqs


class Desk:
    """See the module. `given` is told of each socket that the worker gives away; `lost` of the pipe's end."""

    def __init__(
        self,
        owner: Owner,
        *,
        given: Callable[[said.Given], None],
        ready: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._told_lost = lost
        self.pipe = Pipe(said.FROM_WORKER, self._take, self._lost)
        self.say = self.pipe.send
        self._questions = Questions(self.pipe)
        self._parts = PartsKept(owner.server.turns)
        self.calls = CallsOf(owner, self._parts, self.say)
        self._joined: dict[int, RemoteConnection] = {}
        self._addresses: Counter[str] = Counter()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.heard_s = owner.ambient.monotonic_s()
        """When the worker was heard last."""
        self._by_type: dict[type, Callable[[Any], object]] = {
            said.Acks: self._acks,
            said.Ask: self.calls.take,
            said.Enter: self._enter,
            said.Left: self._left,
            said.Verify: self._verify,
            said.AuthFailed: self._auth_failed,
            said.Join: self._join,
            said.Refreshed: self._refreshed,
            said.Parted: self._parted,
            said.Cancel: self._cancel,
            said.Release: lambda told: self._parts.release(told.parted),
            said.Given: given,
            said.Ready: lambda _told: ready(),
            said.Answer: self._questions.answered,
            said.Beat: lambda _told: self.calls.settle(),
            said.Judge: lambda asked: self._start(asked.n, self._judged(asked)),
            said.Links: lambda asked: self._start(asked.n, self._links(asked)),
            said.CatchUp: lambda asked: self._start(asked.n, self._catch_up(asked)),
            said.Read: lambda asked: self._start(asked.n, self._read(asked)),
            said.ReadJoined: lambda asked: self._start(asked.n, owner.feed.join_as_today(asked.pages)),
            said.Snapshot: lambda asked: self._start(asked.n, self._snapshot(asked)),
            said.Part: lambda asked: self._start(
                asked.n, self._parts.part(asked.parted, asked.start, asked.bytes_max)
            ),
            said.Piece: lambda asked: self._start(asked.n, self._parts.piece(asked.parted)),
        }

    @property
    def connection_count(self) -> int:
        """Authenticated connections."""
        return len(self._joined)

    def greet(self, number: int) -> None:
        """Tell the worker all that it needs. From now on it must be told of every commit."""
        self.say(self._owner.hello(number))

    def rejudge(self, stream: str | None, user_id: UserId | None) -> None:
        """Judge again who may read `stream`."""
        self.say(said.Rejudge(stream, user_id))

    async def look_at_positions(self, within_s: float) -> None:
        """Ask for the position of each connection. A worker that does not answer in time keeps its last."""
        try:
            async with asyncio.timeout(within_s):
                positions = await self._questions.ask(said.AskPositions, _POSITIONS)
        except (EventStoreError, TimeoutError):
            return
        for number, seqs in positions.items():
            connection = self._joined.get(number)
            if connection is not None:
                connection.seqs = seqs

    async def metrics(self, within_s: float) -> bytes | None:
        """The worker's metrics, encoded. None: it did not answer in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._questions.ask(said.AskMetrics, msgspec.msgpack.Decoder(bytes))
        except (EventStoreError, TimeoutError):
            return None

    # What the worker says -----------------------------------------------------------------------------

    def _take(self, message: object) -> None:
        self.heard_s = self._owner.ambient.monotonic_s()
        self._by_type[type(message)](message)

    def _answer(self, n: int, value: object) -> None:
        self.say(said.Answer(n, raw(value)))

    def _acks(self, told: said.Acks) -> None:
        note = self._owner.hub.note_ack
        for ack in told.acks:
            note(*ack)

    def _enter(self, asked: said.Enter) -> None:
        entry = self._owner.door.enter(asked.address)
        if entry is not Entry.REFUSED:
            self._addresses[asked.address] += 1
        self._answer(asked.n, entry.value)

    def _left(self, told: said.Left) -> None:
        if self._addresses[told.address] > 0:
            self._addresses[told.address] -= 1
            self._owner.door.leave(told.address)
        if not self._addresses[told.address]:
            del self._addresses[told.address]

    def _verify(self, asked: said.Verify) -> None:
        verdict = self._owner.verifier.verify(asked.token, self._owner.ambient.now_ms())
        if isinstance(verdict, Verified | AuthFailure):
            self._answer(asked.n, _judged(verdict))
        else:
            self._start(asked.n, _later(verdict))

    def _auth_failed(self, asked: said.AuthFailed) -> None:
        self._answer(asked.n, self._owner.door.auth_failed(asked.address, self._owner.ambient.monotonic_s()))

    def _join(self, asked: said.Join) -> None:
        hub, connection = self._owner.hub, RemoteConnection(self, asked.connection)
        admitted = hub.join(connection, asked.verified, asked.client, ticked=False)
        if admitted:
            self._joined[asked.connection] = connection
        self._answer(asked.n, admitted)
        if self._owner.verifier.still_good(asked.verified, self._owner.ambient.now_ms()) is not None:
            # It was revoked after the token was judged, while the connection was not known here.
            connection.close(CloseCode.REVOKED, en.TOKEN_TAKEN_BACK)

    def _refreshed(self, told: said.Refreshed) -> None:
        connection = self._joined.get(told.connection)
        if connection is not None:
            self._owner.hub.refreshed(connection, told.verified)

    def _parted(self, told: said.Parted) -> None:
        connection = self._joined.pop(told.connection, None)
        if connection is not None:
            self._owner.hub.leave(connection)

    def _cancel(self, told: said.Cancel) -> None:
        self.calls.cancel(told.n)
        task = self._tasks.get(told.n)
        if task is not None:
            task.cancel()

    async def _judged(self, asked: said.Judge) -> bool | None:
        return await self._owner.server.wires.verdicts.of(asked.principal, asked.stream)

    async def _links(self, asked: said.Links) -> said.LinksFound:
        log, feed = self._owner.log, self._owner.feed
        streams = [stream for stream, seq in asked.places if not seq]
        wanted = {place for place in asked.places if place[1]}
        for stream in streams:
            head = log.head(stream)
            if head.seq and not head.link:
                wanted.add((stream, head.seq))
        found: dict[tuple[str, int], bytes] = {}
        if wanted:
            try:
                found = await feed.links(tuple(wanted))
            except EventStoreError:
                _log.warning("checks_not_compared", places=len(wanted))
        heads: dict[str, Head] = {}
        for stream in streams:
            head = log.head(stream)
            heads[stream] = Head(head.first, head.seq, head.link or found.get((stream, head.seq), b""))
        return said.LinksFound([found.get(place) for place in asked.places], heads)

    async def _catch_up(self, asked: said.CatchUp) -> bool:
        catch_up = self._owner.feed.catch_up
        return catch_up is None or await catch_up(asked.places)

    async def _read(self, asked: said.Read) -> Columns:
        page = asked.page
        events = await self._owner.feed.read_as_today(
            page.stream, page.after, events_max=page.events_max, bytes_max=page.bytes_max
        )
        return columns_of(list(events))

    async def _snapshot(self, asked: said.Snapshot) -> said.SnapshotTaken:
        seq, state = await self._owner.registry.snapshots[asked.stream.partition("/")[0]](asked.stream)
        if isinstance(state, bytes):
            return said.SnapshotTaken(seq, state)
        return said.SnapshotTaken(seq, b"", self._parts.keep(state, asked.stream))

    def _start(self, n: int, work: Coroutine[Any, Any, object]) -> None:
        task = self._tasks[n] = asyncio.get_running_loop().create_task(self._answered(n, work))
        task.add_done_callback(lambda _ended: self._tasks.pop(n, None))

    async def _answered(self, n: int, work: Coroutine[Any, Any, object]) -> None:
        try:
            value = await work
        except Exception as error:  # noqa: BLE001  it goes to the worker
            kind, text = channel.error_named(error)
            if not kind:
                _log.exception("worker_not_answered")
            self.say(said.Failed(n, kind, text))
            return
        self._answer(n, value)

    def _lost(self) -> None:
        """The pipe is over: its connections are gone, and count no more."""
        self._questions.give_up()
        self.calls.gone()
        for task in tuple(self._tasks.values()):
            task.cancel()
        for connection in self._joined.values():
            self._owner.hub.leave(connection)
        self._joined.clear()
        for address in self._addresses.elements():
            self._owner.door.leave(address)
        self._addresses.clear()
        self._parts.clear()
        self._told_lost()


def _judged(verdict: Verdict) -> said.Judged:
    if isinstance(verdict, Verified):
        return said.Judged(verdict, None)
    return said.Judged(None, verdict)


async def _later(verdict: Awaitable[Verdict]) -> said.Judged:
    return _judged(await verdict)


def tell_commits(log: Log, desks: Callable[[], Iterable[Desk]]) -> Callable[[], None]:
    """Tell the `desks` of each commit from now on; the result ends that."""

    def committed(events: Sequence[StoredEvent]) -> None:
        data = encode(Commit(columns_of(events)))
        pruned = any(map(is_receipt, events))
        for desk in desks():
            desk.pipe.send_at_once(data)
            if pruned:
                desk.say(Pruned())

    return log.listen(committed)
