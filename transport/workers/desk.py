"""The owner's side of one worker: answers its calls, and counts its connections with all others.

`tell_commits` tells all workers of commits. A commit is encoded once, however many workers there are. It
leaves at once: thousands who waited for the commit may have the loop next, and meanwhile the workers hand
it out.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.core.reader import is_receipt
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Head, Joined, Page, RowRange, RowsAtOnce, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.transport.access.door import Entry
from huahuo.transport.access.rights import Verdict, Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server.views import Answered
from huahuo.transport.words import en
from huahuo.transport.workers.channel import (
    LATER,
    Channel,
    Columns,
    Command,
    Judged,
    LinksFound,
    OwnerPort,
    SnapshotTaken,
    Soon,
    WorkerPort,
    columns_of,
    message,
)
from huahuo.transport.workers.owner import CallsOf, Owner, PartsKept

_log = structlog.get_logger(__name__)


class RemoteConnection:
    """A connection that a worker has. Implements `ports.LiveConnection` and `hub.HasCursors`."""

    __slots__ = ("_channel", "_number", "seqs")

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
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
        self._channel.say(WorkerPort.close_it, self._number, code, reason)

    def cursors(self) -> Mapping[str, int]:
        """See `hub.HasCursors`."""
        return self.seqs


_OWNER: Final = "owner"


class Desk(OwnerPort):
    """See the module. `ready`: the worker listens; `lost`: it is gone."""

    def __init__(self, owner: Owner, *, ready: Callable[[], None], lost: Callable[[], None]) -> None:
        self._owner = owner
        self._told_ready, self._told_lost = ready, lost
        self.channel = Channel(OwnerPort, self, lost=self._lost, now_s=owner.ambient.monotonic_s)
        self._parts = PartsKept(owner.server.turns)
        self._calls = CallsOf(owner, self._parts, self.channel)
        self._joined: dict[int, RemoteConnection] = {}
        self._addresses: Counter[str] = Counter()
        self._presence = owner.server.wires.presence
        self._source = ""

    def greet(self, number: int) -> None:
        """Tell the worker all that it needs. From now on it must be told of every commit."""
        self._source = f"worker {number}"
        self._presence.sinks[self._source] = self._tell_presence
        self.channel.say(WorkerPort.hello, self._owner.hello(number))

    async def look_at_positions(self, within_s: float) -> None:
        """Ask for the position of each connection. A worker that does not answer in time keeps its last."""
        try:
            async with asyncio.timeout(within_s):
                positions = await self.channel.ask(WorkerPort.positions)
        except (EventStoreError, TimeoutError):
            return
        for number, seqs in positions.items():
            connection = self._joined.get(number)
            if connection is not None:
                connection.seqs = seqs

    async def samples(self, within_s: float) -> bytes | None:
        """The worker's metrics, encoded. None: it did not answer in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self.channel.ask(WorkerPort.samples)
        except (EventStoreError, TimeoutError):
            return None

    def ready(self) -> None:
        """See `OwnerPort`."""
        self._told_ready()

    def beat(self) -> None:
        """See `OwnerPort`. The channel notes when it was heard."""

    def enter(self, address: str) -> str:
        """See `OwnerPort`."""
        entry = self._owner.door.enter(address)
        if entry is not Entry.REFUSED:
            self._addresses[address] += 1
        return entry.value

    def left(self, address: str) -> None:
        """See `OwnerPort`."""
        if self._addresses[address] > 0:
            self._addresses[address] -= 1
            self._owner.door.leave(address)
        if not self._addresses[address]:
            del self._addresses[address]

    def verify(self, token: str) -> Soon[Judged]:
        """See `OwnerPort`."""
        verdict = self._owner.verifier.verify(token, self._owner.ambient.now_ms())
        return _later(verdict) if isinstance(verdict, Awaitable) else _judged(verdict)

    def auth_failed(self, address: str) -> float:
        """See `OwnerPort`."""
        return self._owner.door.auth_failed(address, self._owner.ambient.monotonic_s())

    def join(self, connection: int, verified: Verified, client: str) -> Any:
        """See `OwnerPort`."""
        joining = RemoteConnection(self.channel, connection)
        admitted = self._owner.hub.join(joining, verified, client, ticked=False)
        if admitted:
            self._joined[connection] = joining
        self.channel.answer(self.channel.asked, admitted)
        if self._owner.verifier.still_good(verified, self._owner.ambient.now_ms()) is not None:
            # It was revoked after the token was judged, while the connection was not known here.
            joining.close(CloseCode.REVOKED, en.TOKEN_TAKEN_BACK)
        return LATER

    def refreshed(self, connection: int, verified: Verified) -> None:
        """See `OwnerPort`."""
        known = self._joined.get(connection)
        if known is not None:
            self._owner.hub.refreshed(known, verified)

    def parted(self, connection: int) -> None:
        """See `OwnerPort`."""
        known = self._joined.pop(connection, None)
        if known is not None:
            self._owner.hub.leave(known)

    def acks(self, acks: list[tuple[str, str, str, int]]) -> None:
        """See `OwnerPort`."""
        note = self._owner.hub.note_ack
        for ack in acks:
            note(*ack)

    def execute(self, command: Command) -> Any:
        """See `OwnerPort`."""
        self._calls.take(self.channel.asked, command)
        return LATER

    async def judge(self, principal: Principal, stream: str) -> bool | None:
        """See `OwnerPort`."""
        return await self._owner.server.wires.verdicts.of(principal, stream)

    async def links(self, places: list[tuple[str, int]]) -> LinksFound:
        """See `OwnerPort`."""
        log, feed = self._owner.log, self._owner.feed
        streams = [stream for stream, seq in places if not seq]
        wanted = {place for place in places if place[1]}
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
        return LinksFound([found.get(place) for place in places], heads)

    async def catch_up(self, places: list[tuple[str, int]]) -> bool:
        """See `OwnerPort`."""
        catch_up = self._owner.feed.catch_up
        return catch_up is None or await catch_up(places)

    async def read(self, page: Page) -> Columns:
        """See `OwnerPort`."""
        events = await self._owner.feed.read_as_today(
            page.stream, page.after, events_max=page.events_max, bytes_max=page.bytes_max
        )
        return columns_of(list(events))

    async def read_joined(self, pages: list[Page]) -> list[Joined | None]:
        """See `OwnerPort`."""
        return await self._owner.feed.join_as_today(pages)

    async def ask_list(
        self, principal: Principal, name: str, given: dict[str, Any], as_text: bool
    ) -> Answered:
        """See `OwnerPort`."""
        return await self._owner.server.wires.views.ask(principal, name, given, as_text=as_text)

    async def rows_at_once(self, ranges: list[RowRange]) -> RowsAtOnce:
        """See `OwnerPort`."""
        return await self._owner.log.rows_at_once(ranges)

    def present(self, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        """See `OwnerPort`."""
        self._presence.heard(self._source, stream, put, drop)

    async def presence(self, stream: str) -> dict[str, dict[str, bytes]]:
        """See `OwnerPort`."""
        known = self._presence.known(stream, self._source)
        return {name or _OWNER: rows for name, rows in known.items()}

    def _tell_presence(self, source: str, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        self.channel.say(WorkerPort.present, source or _OWNER, stream, put, drop)

    async def snapshot(self, stream: str) -> SnapshotTaken:
        """See `OwnerPort`."""
        return await self._taken(self._owner.registry.snapshots, stream)

    async def view(self, stream: str) -> SnapshotTaken:
        """See `OwnerPort`."""
        registry = self._owner.registry
        return await self._taken({**registry.snapshots, **registry.views}, stream)

    async def _taken(self, of: Mapping[str, SnapshotOf], stream: str) -> SnapshotTaken:
        seq, state = await of[stream.partition("/")[0]](stream)
        if isinstance(state, bytes):
            return SnapshotTaken(seq, state)
        return SnapshotTaken(seq, b"", self._parts.keep(state, stream))

    async def part(self, parted: int, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `OwnerPort`."""
        return await self._parts.part(parted, start, bytes_max)

    async def piece(self, parted: int) -> bytes:
        """See `OwnerPort`."""
        return await self._parts.piece(parted)

    def release(self, parted: int) -> None:
        """See `OwnerPort`."""
        self._parts.release(parted)

    def _lost(self) -> None:
        """The channel is over: the worker's connections are gone, and count no more."""
        self._calls.end()
        self._presence.sinks.pop(self._source, None)
        self._presence.gone(self._source)
        for connection in self._joined.values():
            self._owner.hub.leave(connection)
        self._joined.clear()
        for address in self._addresses.elements():
            self._owner.door.leave(address)
        self._addresses.clear()
        self._parts.clear()
        self._told_lost()


def _judged(verdict: Verdict) -> Judged:
    return Judged(verdict, None) if isinstance(verdict, Verified) else Judged(None, verdict)


async def _later(verdict: Awaitable[Verdict]) -> Judged:
    return _judged(await verdict)


def tell_commits(log: Log, desks: Callable[[], Iterable[Desk]]) -> Callable[[], None]:
    """Tell the `desks` of each commit, and of changed rows, from now on; the result ends that."""

    def committed(events: Sequence[StoredEvent]) -> None:
        data = message(WorkerPort.commit, columns_of(events))
        pruned = any(map(is_receipt, events))
        for desk in desks():
            desk.channel.send_at_once(data)
            if pruned:
                desk.channel.say(WorkerPort.pruned)

    def rows_changed(parts: Collection[tuple[str, str]] | None) -> None:
        data = message(WorkerPort.rows_changed, None if parts is None else list(parts))
        for desk in desks():
            desk.channel.send_at_once(data)

    ends = (log.listen(committed), log.listen_to_rows(rows_changed))

    def end() -> None:
        for one in ends:
            one()

    return end
