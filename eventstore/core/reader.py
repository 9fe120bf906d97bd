"""Reading a log, and walking it from its beginning: the hash chain, and the receipts for pruned events.

Heads come from memory, everything else by one job per call on the executor port. The head of a stream that
ended is looked up on the loop: callers need it at once, and few ask.

A pruned event leaves a tombstone: its place and its link of the chain. A receipt, an event of the log
itself, states that it was pruned on purpose: it holds the positions, and a digest of their tombstones. To
remove an event unnoticed, an attacker would have to forge a receipt, which breaks the chain.

    digest = BLAKE2b-256( MessagePack([position, stream, seq, chain]) of each tombstone, ascending )
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise

import msgspec

from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.blobs import blob_id as name_of
from huahuo.eventstore.blobs import unpack
from huahuo.eventstore.core.chain import GENESIS, check, merged
from huahuo.eventstore.core.storage_port import Place, Reads, Span
from huahuo.eventstore.errors import Closed, Corrupt, Damaged, EventStoreError, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    NewEvent,
    Page,
    RowRange,
    RowsAtOnce,
    StoredEvent,
    Tombstone,
    Usage,
)

STATE_BYTES_MAX = 256 << 20
_EMPTY = Head()


_VERIFY_EVENTS = 1000
_VERIFY_BYTES = 4 << 20


AUDIT_STREAM = "audit"
"""The stream of operations on the log itself; only readers of `log` see it."""

COMPACTED = "compacted"


class Receipt(msgspec.Struct, frozen=True):
    """The body of a `compacted` event: `ranges` holds [first position, count] pairs, ascending."""

    ranges: list[tuple[int, int]]
    digest: str

    def positions(self) -> Iterator[int]:
        """Every position that it covers."""
        for first, count in self.ranges:
            yield from range(first, first + count)


def receipt(tombstones: Sequence[Tombstone], policy: dict[str, object], now_ms: int) -> NewEvent:
    """The event that vouches for `tombstones`, which are ascending; `policy` says why they were pruned."""
    body = {
        "type": COMPACTED,
        "timestamp": rfc3339(now_ms),
        "pruned": len(tombstones),
        "policy": policy,
        "ranges": _ranges([stone.position for stone in tombstones]),
        "digest": _digest(tombstones),
    }
    return NewEvent(AUDIT_STREAM, COMPACTED, json_bytes(body))


def is_receipt(event: StoredEvent) -> bool:
    """Whether `event` vouches for pruned ones."""
    return event.stream == AUDIT_STREAM and event.type == COMPACTED


def read_receipt(event: StoredEvent) -> Receipt:
    """The receipt in an event.

    Raises:
        Damaged: it is not readable.
    """
    try:
        return msgspec.json.decode(event.body, type=Receipt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Damaged(event.position, "a receipt of pruned events is not readable") from None


class Ledger:
    """Checks the tombstones of a log against its receipts: `take` each, ascending, then `finish`."""

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self._receipts = receipts
        self._digests = [blake2b(digest_size=32) for _ in receipts]
        self._covered = self._positions()

    def take(self, stone: Tombstone) -> None:
        """Raises Damaged if no receipt covers `stone`, or a covered position before it was skipped."""
        position, number = next(self._covered, (1 << 63, 0))
        if stone.position < position:
            raise Damaged(stone.position, "the event was taken away: no receipt vouches for its pruning")
        if stone.position > position:
            raise Damaged(position, "pruned with a receipt, but its tombstone is missing")
        _digest_one(self._digests[number], stone)

    def finish(self) -> None:
        """Raises Damaged if a tombstone is missing or is not what its receipt says."""
        missing = next(self._covered, None)
        if missing is not None:
            raise Damaged(missing[0], "pruned with a receipt, but its tombstone is missing")
        for one, digest in zip(self._receipts, self._digests, strict=True):
            if digest.hexdigest() != one.digest:
                raise Damaged(one.ranges[0][0], "the tombstones are not those of their receipt")

    def _positions(self) -> Iterator[tuple[int, int]]:
        """Every covered position, ascending, with the number of its receipt."""
        ranges = sorted(
            (first, count, number) for number, one in enumerate(self._receipts) for first, count in one.ranges
        )
        for first, count, number in ranges:
            for position in range(first, first + count):
                yield position, number


def _digest(tombstones: Iterable[Tombstone]) -> str:
    digest = blake2b(digest_size=32)
    for stone in tombstones:
        _digest_one(digest, stone)
    return digest.hexdigest()


def _digest_one(digest: blake2b, stone: Tombstone) -> None:
    digest.update(msgspec.msgpack.encode((stone.position, stone.stream, stone.seq, stone.chain)))


def _ranges(positions: Sequence[int]) -> list[tuple[int, int]]:
    starts = [positions[0], *(b for a, b in pairwise(positions) if b != a + 1)]
    ends = [*(a for a, b in pairwise(positions) if b != a + 1), positions[-1]]
    return [(start, end - start + 1) for start, end in zip(starts, ends, strict=True)]


class LogReader:
    """The reading half of a `Log`. `place` returns how far the log is known to be durable by now."""

    def __init__(self, log_id: str, reads: Reads, readers: Executor, place: Callable[[], Place]) -> None:
        self.log_id = log_id
        """See `Log`. No property: each client that comes back asks three times."""
        self._reads = reads
        self.readers = readers
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
        if found is None:
            if self.before_commands is not None:
                await self.before_commands()
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

    async def rows_at_once(self, asked: Sequence[RowRange]) -> RowsAtOnce:
        """See `Log`. Raises as `rows`."""
        if self.before_lists is not None:
            await self.before_lists()
        self.corruption.must_not_hide("projection")
        return await self._read(lambda: self._reads.rows_at_once(asked))

    async def parts(self, table: str, *, after: str | None, limit: int) -> list[str]:
        """See `Log`. Raises as `rows`."""
        self.corruption.must_not_hide("projection")
        return await self._read(lambda: self._reads.parts(table, after, limit))

    @property
    def horizons(self) -> Mapping[str, int]:
        """See `Log`."""
        return self._place().horizons

    async def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Log`."""
        found = await self._read(lambda: self._reads.row(table, part, key))
        if found is None:
            if self.before_lists is not None:
                await self.before_lists()
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

    async def verify(self, from_position: int = 0) -> int:
        """Walk the hash chain after `from_position` to the head; returns how many events were checked.

        Raises:
            Damaged: with the first position that is not what was written.
        """
        place = self._place()
        upto, end = place.position, place.chain
        at, chain, seqs = from_position, GENESIS, dict[str, int]()
        if 0 < from_position <= upto:
            [chain] = await self.chains(from_position - 1, from_position)
        while at < upto:
            page = await self._page(at, upto)
            if not page:
                raise Damaged(at + 1, f"missing, the log should go to {upto}")
            chain = check(chain, at, seqs, page)
            at = page[-1].position
        if from_position <= upto and chain != end:
            raise Damaged(upto, "the last event is not the one that was written")
        await self.check_receipts()
        return max(0, upto - from_position)

    async def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """The tombstones at positions in (after, upto], ascending."""
        return await self._read(lambda: self._reads.tombstones(after, upto, limit))

    async def chains(self, after: int, upto: int) -> list[bytes]:
        """The links of the chain at positions in (after, upto], pruned or not.

        Raises:
            Damaged: one is missing.
        """
        return await self._read(lambda: self._reads.chains(after, upto))

    async def receipts(self) -> list[Receipt]:
        """The receipts for pruned events, in the order of the log.

        Raises:
            Damaged: one is not readable.
        """
        found: list[Receipt] = []
        seq, head = 0, self.head(AUDIT_STREAM).seq
        while seq < head:
            page = await self.read(AUDIT_STREAM, seq, events_max=_VERIFY_EVENTS)
            if not page:
                break
            found += [read_receipt(event) for event in page if is_receipt(event)]
            seq = page[-1].seq
        return found

    async def check_receipts(self) -> int:
        """Count the pruned events. Raises Damaged at the first that no receipt vouches for."""
        ledger, at, upto, count = Ledger(await self.receipts()), 0, self.position, 0
        while stones := await self.tombstones(at, upto, _VERIFY_EVENTS):
            for stone in stones:
                ledger.take(stone)
            at, count = stones[-1].position, count + len(stones)
        ledger.finish()
        return count

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
            return await self.readers.run(job)
        except Corrupt as error:
            self.corruption.note(error)
            raise
        finally:
            self._reading -= 1
            self._read_done.set()

    async def _page(self, after: int, upto: int) -> list[StoredEvent | Tombstone]:
        """Events and tombstones without a hole between them, if the log has none."""

        def job() -> list[StoredEvent | Tombstone]:
            reads = self._reads
            events = reads.events(LOG_STREAM, after, upto, _VERIFY_EVENTS, _VERIFY_BYTES)
            pruned = reads.tombstones(after, events[-1].position if events else upto, _VERIFY_EVENTS)
            if len(pruned) == _VERIFY_EVENTS:
                events = [event for event in events if event.position < pruned[-1].position]
            return merged(events, pruned)

        return await self._read(job)
