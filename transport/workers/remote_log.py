"""The log as a worker knows it: its position, the heads of the streams that its clients read, and its events.

A head is asked for once, when a client first subscribes; from then on commits move it. So a worker's memory
grows with what its own clients read, not with the log.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import msgspec

from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, Page, StoredEvent
from huahuo.eventstore.port import Listener, Log
from huahuo.transport.workers.columns import Columns, events_of
from huahuo.transport.workers.messages import CatchUp, JoinedPages, Links, LinksFound, Read, ReadJoined
from huahuo.transport.workers.questions import Questions

HEADS_MAX: Final = 65_536
"""Heads that are kept although nobody here reads their streams any more."""
_SETTLED: Final = msgspec.msgpack.Decoder(bool)
_EMPTY: Final = Head()
_LINKS: Final = msgspec.msgpack.Decoder(LinksFound)
_EVENTS: Final = msgspec.msgpack.Decoder(Columns.__value__)
_PAGES: Final = msgspec.msgpack.Decoder(JoinedPages.__value__)


class RemoteLog:
    """The reading half of a `Log`, as far as a feed and sessions use it: see `as_log`."""

    def __init__(self, questions: Questions, log_id: str, position: int, chain: bytes) -> None:
        self._questions = questions
        self._position = position
        self._chain = chain
        self._heads: dict[str, Head] = {}
        self._listeners: list[Listener] = []
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

    async def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Log`. A place with seq 0 brings the head of its stream, with its link."""
        found = await self._questions.ask(lambda n: Links(n, list(places)), _LINKS)
        for stream, head in found.heads.items():
            known = self._heads.get(stream)
            if known is None or head.seq >= known.seq:
                self._heads[stream] = head
        if len(self._heads) > HEADS_MAX:
            self._forget(set(found.heads))
        return found.links

    def catch_up(self, places: Sequence[tuple[str, int]]) -> Awaitable[bool]:
        """See `Feed.catch_up`: where other nodes write the log, its owner waits for what they wrote."""
        return self._questions.ask(lambda n: CatchUp(n, list(places)), _SETTLED)

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
        return events_of(await self._questions.ask(lambda n: Read(n, page), _EVENTS))

    async def read_joined_pages(self, pages: Sequence[Page]) -> list[Joined | None]:
        """See `Log`, as for `read`."""
        return await self._questions.ask(lambda n: ReadJoined(n, list(pages)), _PAGES)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a worker does not use `Log.{name}`: the owner does")

    def _forget(self, keep: set[str]) -> None:
        """Forget the heads of streams that nobody reads, the oldest first."""
        for stream in tuple(self._heads):
            if len(self._heads) <= HEADS_MAX:
                return
            if stream not in keep and not self.is_read(stream):
                del self._heads[stream]
