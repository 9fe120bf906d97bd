"""Books on streams of their own: `effect/<kind>/<key>` next to the entity `<kind>/<key>`.

The entity and its effects write different streams, so progress need not pass by the entity's own commands,
and readers of the entity see no arguments. `book` decides, `desk` puts the runs of one entity in turn.

Where the runs of one entity's effects write, one after the other, knowing where the books stand.

All of them expect the head of one stream. In turn, none is in another's way; only the entity itself, when
it asks for an effect or cancels some, makes them look into the books again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from huahuo.actors.effects import facts
from huahuo.actors.effects.books import (
    ENDED,
    Book,
    BookCommand,
    BookReply,
    Claim,
    End,
    Fail,
    Hold,
    Noted,
    Over,
    Run,
    RunOver,
    why_over,
)
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, KIND, Ended, Guard, OpenEffect, stream_of
from huahuo.actors.effects.queue import Answered, Entry, Failure, Owners
from huahuo.actors.entities.decider import Answer, Busy, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.model import NewEvent, RowDrop
from huahuo.eventstore.port import Log

LOOKS_MAX = 8
"""How often a run looks into the books when the entity keeps writing there."""


class Desk:
    """Where the runs of one entity's effects write, one after the other, knowing where the books stand.

    `users`: effects of the entity that are being run.
    """

    def __init__(self, entity: str, directory: Directory) -> None:
        self.users = 0
        self.lock = asyncio.Lock()
        self._stream = stream_of(entity)
        self._entity = entity
        self._directory = directory
        self._seq = 0
        self._claimants: dict[int, StreamHold] = {}

    def claimed(self, claimant: "StreamHold") -> None:
        """A run has begun. The caller holds the lock since before the claim."""
        if not self._claimants:
            self._seq = claimant.claim  # nobody else can have missed what came before
        self.wrote(claimant.claim)
        self._claimants[claimant.effect] = claimant

    def left(self, claimant: "StreamHold") -> None:
        """The run is over."""
        if self._claimants.get(claimant.effect) is claimant:
            del self._claimants[claimant.effect]

    def wrote(self, seq: int) -> None:
        """The holder of the lock has written the event `seq`. Where others wrote before it, we must look."""
        if seq == self._seq + 1:
            self._seq = seq

    async def guarded(
        self, claimant: "StreamHold", append: Callable[[Guard], Awaitable[Answered]], *, writes: int = 0
    ) -> Answered:
        """Append under the guard of this claim. `writes`: the number of events for the books.

        Raises:
            RunOver: the run may say nothing more. Busy: the entity kept writing into the books.
        """
        async with self.lock:
            for _ in range(LOOKS_MAX):
                if claimant.over:
                    raise RunOver(claimant.over)
                answered = await append(Guard(self._stream, self._seq))
                if answered is Answered.DONE:
                    self._seq += writes
                if answered is not Answered.MOVED:
                    return answered
                await self._look()
        raise Busy(f"{self._stream} changed too often")

    async def _look(self) -> None:
        """Learn where the books stand, and which runs they still name."""
        claims = [(claimant.effect, claimant.claim) for claimant in self._claimants.values()]

        def look(seq: int, book: Book) -> tuple[int, list[str]]:
            return seq, [why_over(book, effect, claim) for effect, claim in claims]

        asked: Query[Book, tuple[int, list[str]]] = Query(look)
        self._seq, verdicts = await self._directory.ask(KIND, self._entity, asked)
        for (effect, claim), why in zip(claims, verdicts, strict=True):
            claimant = self._claimants.get(effect)
            if claimant is not None and claimant.claim == claim:
                claimant.over = claimant.over or why


SERVICE: Final = "service"


class EffectStreams:
    """See the module, and `Books`."""

    table: Final = facts.TABLE

    def __init__(
        self, log: Log, directory: Directory, ambient: Ambient, owners: Owners, *,
        running: Callable[[frozenset[str]], frozenset[str]] = frozenset,
    ) -> None:  # fmt: skip
        """`running`: of the incarnations that live, those whose claims are left to them."""
        self._log = log
        self._running = running
        self.directory = directory
        self.owners = owners
        self._ambient = ambient
        self._desks: dict[str, Desk] = {}

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect]:
        """See `Books`."""
        return facts.id_of(key), facts.read_row(value)

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return facts.row_key(entry.id)

    @contextlib.asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        with self._desk(entry.entity) as desk:
            async with desk.lock:
                claim = Claim(entry.id, self._log.incarnation, self._running(self._log.living()))
                answer = await self._ask(entry, claim, 0)
                if not isinstance(answer.reply, Run):
                    over = answer.reply
                    raise RunOver(over.why, over.by) if isinstance(over, Over) else RunOver(ENDED)
                assert answer.at is not None, "a claim is an event"
                entry.before = answer.reply.before
                hold = StreamHold(self, desk, entry, answer.reply, answer.at[1])
                desk.claimed(hold)
            try:
                yield hold
            finally:
                desk.left(hold)

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`."""
        reply = await self.write(entry, End(entry.id, 0, CANCELLED), 0)
        return reply.outcome if isinstance(reply, Noted) else None

    def end_of(self, entry: Entry, outcome: str = DONE, error_type: str = "") -> tuple[NewEvent, RowDrop]:
        """An end as the entity's own append writes it."""
        timestamp = rfc3339(self._ambient.now_ms())
        return facts.end(entry.entity, Ended(timestamp, entry.id, outcome, error_type))

    async def write(self, entry: Entry, command: BookCommand, cause: int) -> BookReply | None:
        """Let the book decide, in turn with what the entity's runs say."""
        with self._desk(entry.entity) as desk:
            async with desk.lock:
                answer = await self._ask(entry, command, cause)
                if answer.at is not None:
                    desk.wrote(answer.at[1])
                return answer.reply

    @contextlib.contextmanager
    def _desk(self, entity: str) -> Iterator[Desk]:
        desk = self._desks.setdefault(entity, Desk(entity, self.directory))
        desk.users += 1
        try:
            yield desk
        finally:
            desk.users -= 1
            if not desk.users:
                del self._desks[entity]

    async def _ask(self, entry: Entry, command: BookCommand, cause: int) -> Answer[BookReply]:
        origin = Origin(SERVICE, entry.run, cause=cause)
        answer: Answer[BookReply] = await self.directory.ask(
            facts.KIND, entry.entity, Execute(command, origin)
        )
        return answer


class StreamHold:
    """See `Hold`. `claim`: the place of the claim in the stream, which names the run."""

    def __init__(self, books: EffectStreams, desk: Desk, entry: Entry, run: Run, claim: int) -> None:
        self.effect = entry.id
        self.claim = claim
        self.position = run.position
        self.attempt = run.failures + 1
        self.over = ""
        self._books = books
        self._desk = desk
        self._entry = entry

    async def state(self) -> Any:
        """See `Hold`."""
        return await self._books.owners.state(self._entry.spec.kind, self._entry.key)

    async def say(self, events: Sequence[Any], *, ends: bool) -> Any:
        """See `Hold`."""
        spec, key = self._entry.spec, self._entry.key
        end = (self._books.end_of(self._entry),) if ends else ()
        after: Any = None

        async def append(guard: Guard) -> Answered:
            nonlocal after
            whole = Guard(guard.stream, guard.seq, tuple(e for e, _ in end), tuple(row for _, row in end))
            answered, after = await self._books.owners.emit(
                spec.kind, key, events, whole, self.position, self._entry.run
            )
            return answered

        await self._desk.guarded(self, append, writes=len(end))
        return after

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`."""
        await self._noted(Fail(self._entry.id, self.claim, error_type, due_ms, row))

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`. The entity's decision about the failure and the end are one commit."""
        entry, owners = self._entry, self._books.owners
        event, drop = self._books.end_of(entry, FAILED, failure.error_type)

        async def tell(guard: Guard) -> Answered:
            whole = Guard(guard.stream, guard.seq, (event,), (drop,))
            return await owners.failed(
                entry.spec, entry.key, failure, whole, self.position, entry.user, entry.run
            )

        told = Answered.UNHANDLED
        with contextlib.suppress(RunOver):  # the end below finds out why
            told = await self._desk.guarded(self, tell, writes=1)
        self.over = self.over or ENDED
        if told is Answered.DONE:
            return FAILED
        return await self._noted(End(entry.id, self.claim, FAILED, failure.error_type))

    async def end(self) -> str:
        """See `Hold`. The book says which end: a cancelled effect ends as that, whatever its run did."""
        return await self._noted(End(self._entry.id, self.claim, DONE))

    async def _noted(self, command: Fail | End) -> str:
        reply = await self._books.write(self._entry, command, self.position)
        if isinstance(reply, Noted):
            return reply.outcome
        raise RunOver(reply.why if isinstance(reply, Over) else ENDED)
