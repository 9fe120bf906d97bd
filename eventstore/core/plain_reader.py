"""Reading a log: heads come from memory, everything else by one job per call on the executor port.

The head of a stream that ended is looked up on the loop: callers need it at once, and few ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from huahuo.eventstore.blobs import blob_id as name_of
from huahuo.eventstore.blobs import unpack
from huahuo.eventstore.core.place import Place
from huahuo.eventstore.core.storage_port import Reads, Span
from huahuo.eventstore.errors import Closed, Corrupt, EventStoreError, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    Page,
    StoredEvent,
    Usage,
)

STATE_BYTES_MAX = 256 << 20
_EMPTY = Head()


class PlainReader:
    """See the module. `place` returns how far the log is known to be durable by now."""

    def __init__(self, log_id: str, reads: Reads, readers: Executor, place: Callable[[], Place]) -> None:
        self.log_id = log_id
        """See `Log`. No property: each client that comes back asks three times."""
        self._reads = reads
        self._readers = readers
        self._place = place
        self._reading = 0
        self._read_done = asyncio.Event()
        self._stopped = False
        self.corruption = reads.corruption
        """The damage found so far."""
        self.before_commands: Callable[[], Awaitable[None]] | None = None
        """Awaited before a command is said to be unknown, for the same reason as `before_lists`."""
        self.before_lists: Callable[[], Awaitable[None]] | None = None
        """Awaited before a list of rows is read: a page that hides some of them may not be known yet."""

    @property
    def position(self) -> int:
        """See `Log`."""
        return self._place().position

    def head(self, stream: str) -> Head:
        """See `Log`."""
        place = self._place()
        head = place.head(stream)
        if head is not None:
            return head
        if stream == LOG_STREAM:
            return Head(1, place.position, place.chain if place.position else b"")
        return self._ended_head(stream, place.position)

    def has_type(self, type_: str) -> bool:
        """See `Log`."""
        return self._reads.has_type(type_)

    def streams(self, prefix: str) -> list[str]:
        """See `Log`. Sorted."""
        return sorted(self._place().streams(prefix).union(self._reads.ended_streams(prefix)))

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """See `Log`. Nothing above the head is returned, even if the disk holds it already."""
        after, upto, count = self._bounds(stream, after, events_max)
        if count < 1:
            return []
        return await self._read(lambda: self._reads.events(stream, after, upto, count, bytes_max))

    async def read_pages(self, pages: Sequence[Page]) -> list[list[StoredEvent]]:
        """See `Log`. Nothing above the head is returned, even if the disk holds it already."""
        bounds = [self._bounds(page.stream, page.after, page.events_max) for page in pages]
        events = self._reads.events

        def job() -> list[list[StoredEvent]]:
            return [
                events(page.stream, after, upto, count, page.bytes_max) if count >= 1 else []
                for page, (after, upto, count) in zip(pages, bounds, strict=True)
            ]

        return await self._read(job)

    async def read_joined_pages(self, pages: Sequence[Page]) -> list[Joined | None]:
        """See `Log`. Nothing above the head is returned, even if the disk holds it already."""
        found: list[Joined | None] = [None] * len(pages)
        places: list[int] = []
        spans: list[Span] = []
        for place, page in enumerate(pages):
            if page.stream == LOG_STREAM:
                raise ValueError("the bodies of `log` do not tell whose they are: read its events")
            after, upto, count = self._bounds(page.stream, page.after, page.events_max)
            if count >= 1:
                places.append(place)
                spans.append(Span(page.stream, after, upto, count, page.bytes_max))
        if spans:
            read = await self._read(lambda: self._reads.joined(spans))
            for place, joined in zip(places, read, strict=True):
                found[place] = joined
        return found

    async def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Log`. None above the head, even if the disk holds more already."""
        found: list[bytes | None] = [None] * len(places)
        wanted: list[int] = []
        for index, (stream, seq) in enumerate(places):
            head = self.head(stream)
            if seq == head.seq and head.link:
                found[index] = head.link
            elif head.first <= seq <= head.seq:
                wanted.append(index)
        if wanted:
            asked = [places[index] for index in wanted]
            read = await self._read(lambda: self._reads.links(asked))
            for index, link in zip(wanted, read, strict=True):
                found[index] = link
                self._remember(*places[index], link)
        return found

    async def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Log`."""
        found = await self._read(lambda: self._reads.command(key))
        if found is None and self.before_commands is not None:
            await self.before_commands()
            found = await self._read(lambda: self._reads.command(key))
        if found is None:
            self.corruption.must_not_hide("command")
        return found

    async def blob(self, blob_id: str) -> bytes | None:
        """See `Log`.

        Raises:
            Corrupt: what is stored there is not what was put.
        """

        def job() -> bytes | None:
            packed = self._reads.blob(blob_id)
            if packed is None:
                self.corruption.must_not_hide("blob")
                return None
            try:
                data = unpack(packed)
            except EventStoreError as error:
                raise Corrupt(f"blob {blob_id}", str(error)) from None
            if name_of(data) != blob_id:
                raise Corrupt(f"blob {blob_id}", "it is not what was stored")
            return data

        return await self._read(job)

    async def rows(
        self, table: str, part: str, *, before: bytes | None = None, after: bytes | None = None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Log`.

        Raises:
            Corrupt: a row is damaged, or a damaged page may hide some.
        """
        if self.before_lists is not None:
            await self.before_lists()
        self.corruption.must_not_hide("projection")
        return await self._read(lambda: self._reads.rows(table, part, before, after, limit))

    async def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Log`."""
        wait = self.before_lists  # now: the look may end while this is read
        try:
            found = await self._read(lambda: self._reads.row(table, part, key))
        except Corrupt:
            if wait is None:
                raise
            found = None  # what the look finds damaged is made again where it can be
        if found is None and wait is not None:
            await wait()
            found = await self._read(lambda: self._reads.row(table, part, key))
        if found is None:
            self.corruption.must_not_hide("projection")
        return found

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        """See `Log`. Never one ahead of the stream's head. A damaged one counts as none."""
        head = self.head(stream).seq
        upto = head if at is None else min(at, head)

        def job() -> Keyframe | None:
            try:
                frame = self._reads.keyframe(stream, fold, fingerprint, upto)
                if frame is None:
                    return None
                return msgspec.structs.replace(frame, state=unpack(frame.state, STATE_BYTES_MAX))
            except Corrupt as error:
                self.corruption.note(error)
            except (Closed, Unavailable):
                raise
            except EventStoreError as error:
                self.corruption.note(Corrupt(f"keyframe {fold} of {stream}", str(error)))
            return None

        return await self._read(job)

    async def acks(
        self, user: str | None = None, *, client: str | None = None, stream: str | None = None
    ) -> list[Ack]:
        """See `Log`."""
        return list(await self._read(lambda: self._reads.acks(user, client, stream)))

    async def usage(self) -> tuple[int, list[Usage]]:
        """The position up to which users' bytes are counted, and those bytes."""
        return await self._read(self._reads.usage)

    def _ended_head(self, stream: str, upto: int) -> Head:
        try:
            return self._reads.ended_head(stream, upto) or _EMPTY
        except Corrupt as error:
            self.corruption.note(error)
        except EventStoreError:
            pass  # closed, or unreadable: what is asked next says so
        return _EMPTY

    async def _stop_reading(self) -> None:
        """Refuse new reads, and wait for those that run."""
        self._stopped = True
        while self._reading:
            self._read_done.clear()
            await self._read_done.wait()

    def _remember(self, stream: str, seq: int, link: bytes | None) -> None:
        """Keep the link of a stream's newest event in memory: every subscriber of the stream needs it."""
        place = self._place()
        head = None if link is None else place.unpack(stream)
        if link is not None and head is not None and head.seq == seq and not head.link:
            place.heads[stream] = Head(head.first, seq, link)

    def _bounds(self, stream: str, after: int, events_max: int) -> tuple[int, int, int]:
        """(after, upto, how many events at most) of a read."""
        self._check_open()
        upto = self.head(stream).seq
        after = max(0, after)
        return after, upto, min(events_max, upto - after)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("the log has been closed")

    async def _read[T](self, job: Callable[[], T]) -> T:
        self._check_open()
        self._reading += 1
        try:
            return await self._readers.run(job)
        except Corrupt as error:
            self.corruption.note(error)
            raise
        finally:
            self._reading -= 1
            self._read_done.set()
