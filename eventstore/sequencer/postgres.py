"""An ordered log in PostgreSQL: a table of proposals, and one row with the last offset.

A proposal gets its offset under the lock of that row, which is held until its commit is durable (on the
synchronous standby too, if there is one). So commits become visible in the order of their offsets, and no
reader ever sees a gap. Proposals that wait while a commit is under way share the next one.

A commit is never cancelled and never given a deadline: PostgreSQL would end its wait for the standby and
make it visible, and a promotion of that standby would lose it. A caller that has waited for `ANSWER_S` is
told `InDoubt`; the commit goes on, and what comes later queues behind it.
"""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

import asyncpg
import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.port import (
    InDoubt,
    Misconfigured,
    Ordered,
    ProposalTooLarge,
    SequencerError,
    Trimmed,
    Unreachable,
)
from huahuo.eventstore.sequencer.postgres_link import (
    HEAD_LOST,
    LOST,
    OCCUPIED,
    Link,
    Links,
    failed,
    first_line,
)


class Entry(msgspec.Struct, eq=False):
    """One proposal on its way to PostgreSQL, and the future of its caller. `hint`: see `InDoubt`."""

    body: bytes
    future: asyncio.Future[int]
    sent: bool = False
    hint: str = ""

    def expire(self, stuck: str) -> None:
        """The caller has waited for long enough. `stuck`: why the commit before it may not end, or ""."""
        if self.sent:
            self.fail(InDoubt("the log has not said whether it keeps the proposal", self.hint))
        elif stuck:
            self.fail(Unreachable(f"an earlier commit has not ended: {stuck}"))
        else:
            self.fail(Unreachable("the log is busy with an earlier commit, or can't be reached"))

    def fail(self, error: SequencerError) -> None:
        """Tell the caller why, unless it knows already."""
        if not self.future.done():
            self.future.set_exception(error)


OWN_MAX, OWN_BYTES_MAX = 64, 4 << 20
"""Of this node's own newest proposals, those that a follower takes from memory: a question less each."""


class OwnNewest:
    """The newest proposals of this node that are durable, by their offset."""

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self._bytes = 0

    def keep(self, offset: int, body: bytes) -> None:
        """Keep a proposal, and drop the oldest ones beyond the bounds."""
        self.bodies[offset] = body
        self._bytes += len(body)
        while len(self.bodies) > OWN_MAX or self._bytes > OWN_BYTES_MAX:
            self._bytes -= len(self.bodies.pop(next(iter(self.bodies))))


def judge_page(rows: Sequence[Any], last: int) -> list[bytes]:
    """The bodies of a page, if it goes on from `last` without a gap.

    Raises:
        Misconfigured: the log lost what it had acknowledged.
        Trimmed: it begins later.
    """
    if not rows:
        raise Misconfigured(HEAD_LOST)
    head = rows[0]
    if head["last"] < last:
        raise Misconfigured(
            f"the log went back: it ends at offset {head['last']}, and {last} was applied here."
            " It was restored from an older copy, or a fail-over lost commits: see docs/scaling.md"
        )
    if head["first"] > last + 1:
        raise Trimmed(f"the log begins at offset {head['first']}, and {last + 1} is needed", head["first"])
    bodies = []
    for row in rows:
        if row["position"] is None and head["last"] <= last:
            break
        last += 1
        if row["position"] != last:
            raise Misconfigured(f"the log has no offset {last}: somebody deleted a row of its table")
        bodies.append(row["body"])
    return bodies


def compare_known(found: Sequence[Any], last: int, digest: bytes) -> None:
    """After a lost connection: the proposal that was read last must still be at its place, `found`.

    Raises:
        Misconfigured: another one is, or none.
    """
    if found and found[0]["first"] > last:
        return
    bodies = judge_page(found, last - 1)
    if not bodies or hashlib.sha256(bodies[0]).digest() != digest:
        raise Misconfigured(
            f"the log has another proposal at offset {last} than the one that was read here:"
            " a fail-over lost commits; docs/scaling.md says what to do"
        )


INSERT_SQL = """
WITH place AS (UPDATE {s}.head SET last = last + cardinality($1::bytea[])
               RETURNING last - cardinality($1::bytea[]) AS base)
INSERT INTO {s}.proposals (position, body)
SELECT base + n, body FROM place, unnest($1::bytea[]) WITH ORDINALITY AS new(body, n)
RETURNING position
"""
LAST_SQL = "UPDATE {s}.head SET last = last RETURNING last"
PAGE_SQL = """
SELECT head.first, head.last, page.position, page.body
FROM {s}.head LEFT JOIN LATERAL (
    SELECT position, body FROM (
        SELECT position, body, octet_length(body) AS size,
               sum(octet_length(body)) OVER (ORDER BY position) AS total
        FROM (SELECT position, body FROM {s}.proposals WHERE position > $1 AND position <= head.last
              ORDER BY position LIMIT $2) AS next
    ) AS sums WHERE total - size < $3
) AS page ON true ORDER BY page.position
"""
TRIM_SQL = """
WITH edge AS (UPDATE {s}.head SET first = greatest(first, least($1, last + 1)) RETURNING first)
DELETE FROM {s}.proposals USING edge WHERE position < edge.first
"""

PROPOSAL_BYTES_MAX, CUT_BYTES = 64 << 20, 4 << 20
"""What one proposal may have, and the size below which nodes cut theirs."""
ANSWER_S = 10.0
"""How long a call waits for the log."""
POLL_S = 0.5
"""How often a follower looks by itself: a hint may be lost."""
BATCH_MAX, BATCH_BYTES_MAX = 256, 16 << 20
PAGE_MAX, PAGE_BYTES_MAX = 256, 4 << 20
QUEUE_MAX = 4_096


class PostgresSequencer:
    """`Sequencer` on PostgreSQL. `trouble` says why the log can't be reached, and is empty when it can."""

    def __init__(self, address: LogAddress, ambient: Ambient) -> None:
        self.address = address
        self.links = Links(address, ambient)
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._hints: set[asyncio.Event] = set()
        self._own = OwnNewest()
        self._writing: asyncio.Task[None] | None = None
        self._stuck = ""
        """Why the commit that is under way may not end."""
        self._announcing: asyncio.Task[None] | None = None
        self._announce_again = False
        self._side: Link | None = None
        self._side_lock = asyncio.Lock()
        self._closed = False

    @property
    def trouble(self) -> str:
        """See the class."""
        return self.links.trouble

    @property
    def proposal_bytes_max(self) -> int:
        """See `Sequencer`."""
        return CUT_BYTES

    async def check(self) -> list[str]:
        """Ask the log once whether it is there and keeps what it acknowledges. Returns warnings.

        Raises:
            Unreachable: it does not answer.
            Misconfigured: it may lose commits.
        """
        link = await self.links.connect()
        try:
            alone = not await link.connection.fetchval("SELECT current_setting('synchronous_standby_names')")
        except LOST as error:
            raise Unreachable(f"the log at {self.address} went away: {type(error).__name__}") from None
        finally:
            self.links.drop(link)
        if alone:
            return [
                (
                    "PostgreSQL has no synchronous standby: commits are lost with this one server's disk"
                    " (synchronous_standby_names is empty)"
                )
            ]
        return []

    async def propose(self, proposal: bytes) -> int:
        """See `Sequencer`."""
        if len(proposal) > PROPOSAL_BYTES_MAX:
            raise ProposalTooLarge(f"a proposal may have at most {PROPOSAL_BYTES_MAX} bytes")
        if self._closed or len(self._queue) >= QUEUE_MAX:
            raise Unreachable("the log is closed" if self._closed else "the log's queue is full")
        loop = asyncio.get_running_loop()
        entry = Entry(proposal, loop.create_future())
        self._queue.append(entry)
        self._wake.set()
        if self._writing is None:
            self._writing = loop.create_task(self._write())
        deadline = loop.call_later(ANSWER_S, lambda: entry.expire(self._stuck))
        try:
            return await entry.future
        finally:
            deadline.cancel()

    async def last(self) -> int:
        """See `Sequencer`. A commit of its own: a server that was replaced by its standby can't give one."""
        last = await self._aside(LAST_SQL)
        if last is None:
            raise Unreachable(HEAD_LOST)
        return int(last)

    async def trim(self, before: int) -> None:
        """See `Sequencer`."""
        await self._aside(TRIM_SQL, before)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """See `Sequencer`."""
        hint = asyncio.Event()
        self._hints.add(hint)
        last, digest = after, b""
        try:
            while not self._closed:
                link = await self.links.wait()
                try:
                    await link.connection.add_listener(self.address.name, lambda *_: hint.set())
                    if digest:
                        here = await link.connection.fetch(self._sql(PAGE_SQL), last - 1, 1, 1)
                        compare_known(here, last, digest)
                    while True:
                        hint.clear()
                        rows = await link.connection.fetch(
                            self._sql(PAGE_SQL), last, PAGE_MAX, PAGE_BYTES_MAX
                        )
                        for body in judge_page(rows, last):
                            last, digest = last + 1, hashlib.sha256(body).digest()
                            yield Ordered(last, body)
                        if rows[0]["position"] is None:
                            while await self._hinted(hint) and last + 1 in self._own.bodies:
                                hint.clear()
                                while (own := self._own.bodies.get(last + 1)) is not None:
                                    last, digest = last + 1, hashlib.sha256(own).digest()
                                    yield Ordered(last, own)
                except (*LOST, asyncpg.PostgresError) as error:
                    self.links.trouble = f"the log at {self.address} went away: {first_line(error)}"
                finally:
                    self.links.drop(link)
        finally:
            self._hints.discard(hint)

    async def close(self) -> None:
        """See `Sequencer`."""
        self._closed = True
        for entry in self._queue:
            entry.fail(Unreachable("the log was closed before the proposal was sent"))
        self._queue.clear()
        for task in (self._announcing, self._writing):
            if task is not None:
                task.cancel()
        self.links.close()
        for task in (self._announcing, self._writing):
            if task is not None:
                with contextlib.suppress(asyncio.CancelledError, SequencerError):
                    await task
        for hint in self._hints:
            hint.set()

    async def _hinted(self, hint: asyncio.Event) -> bool:
        """Wait for a hint; False: there was none for a while, so the table is read nevertheless."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await hint.wait()
        return hint.is_set()

    async def _write(self) -> None:
        """Commit what is queued, one transaction at a time. Runs until `close`."""
        link: Link | None = None
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take_batch():
                if link is None or link.connection.is_closed():
                    try:
                        link = await self.links.connect()
                    except SequencerError as error:
                        for entry in batch:
                            entry.fail(Unreachable(str(error)))
                        continue
                batch = [entry for entry in batch if not entry.future.done()]
                self._stuck = link.stuck
                if batch and not await self._commit(link, batch):
                    self.links.drop(link)
                    link = None
                self._stuck = ""

    def _take_batch(self) -> list[Entry]:
        batch: list[Entry] = []
        size = 0
        while self._queue and len(batch) < BATCH_MAX:
            size += len(self._queue[0].body)
            if batch and size > BATCH_BYTES_MAX:
                break
            entry = self._queue.popleft()
            if not entry.future.done():  # its caller has gone
                batch.append(entry)
        return batch

    async def _commit(self, link: Link, batch: list[Entry]) -> bool:
        """Commit `batch`; False if the connection is of no more use."""
        for entry in batch:
            entry.sent, entry.hint = True, link.stuck
        try:
            with self.links.succession.attended(link):
                rows = await link.connection.fetch(self._sql(INSERT_SQL), [one.body for one in batch])
            if not rows:
                return self._refuse(batch, HEAD_LOST)
            first = min(row["position"] for row in rows)
        except asyncpg.UniqueViolationError:
            return self._refuse(batch, OCCUPIED)
        except LOST:
            return self._doubt(batch)
        except asyncpg.PostgresError as error:
            self._refuse(batch, f"PostgreSQL refused: {failed(error, link.stuck)}")
            return not isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        except asyncio.CancelledError:
            self._doubt(batch)
            raise
        if link.broken_wait:
            return self._doubt(batch)
        for n, entry in enumerate(batch):
            self._own.keep(first + n, entry.body)
            if not entry.future.done():
                entry.future.set_result(first + n)
        for hint in self._hints:
            hint.set()
        self._announce_again = True
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.get_running_loop().create_task(self._announce())
        return True

    def _refuse(self, batch: Sequence[Entry], why: str) -> bool:
        for entry in batch:
            entry.fail(Unreachable(why))
        return True

    def _doubt(self, batch: Sequence[Entry]) -> bool:
        for entry in batch:
            entry.fail(InDoubt("the connection to the log ended before it answered"))
        return False

    async def _announce(self) -> None:
        """Tell other nodes to look: a hint. In the commit it would take a lock of all databases."""
        while self._announce_again:
            self._announce_again = False
            with contextlib.suppress(SequencerError):
                await self._aside("SELECT pg_notify($1, '')", self.address.name)

    async def _aside(self, statement: str, *values: object) -> Any:
        """Run a statement on a connection of its own. It is never cancelled; only the wait for it ends."""
        running = asyncio.get_running_loop().create_task(self._on_side(statement, values))
        running.add_done_callback(_retrieve)
        done, _ = await asyncio.wait({running}, timeout=ANSWER_S)
        if not done:
            raise Unreachable("the log does not answer")
        return running.result()

    async def _on_side(self, statement: str, values: Sequence[object]) -> Any:
        async with self._side_lock:
            if self._side is None or self._side.connection.is_closed():
                self._side = await self.links.connect()
            link = self._side
            try:
                with self.links.succession.attended(link):
                    found = await link.connection.fetchval(self._sql(statement), *values)
            except (*LOST, asyncpg.PostgresError) as error:
                self.links.drop(link)
                self._side = None
                said = f"the log at {self.address} went away: {failed(error, link.stuck)}"
                raise Unreachable(said) from None
            if link.broken_wait:
                self.links.drop(link)
                self._side = None
                raise Unreachable("a wait for the synchronous standby was cancelled on the server")
            return found

    def _sql(self, statement: str) -> str:
        return statement.replace("{s}", self.address.name)


def _retrieve(task: Awaitable[Any]) -> None:
    """Take note of a failure for which no caller waits any more."""
    assert isinstance(task, asyncio.Task)
    if not task.cancelled():
        task.exception()
