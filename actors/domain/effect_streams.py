"""The books of an application's effects, on streams of their own: `effect/order/1` next to `order/1`.

The entity and its effects write different streams, so progress need not pass by the entity's own commands,
and readers of the entity see no arguments. All that a run writes expects the head of its books. Where others
wrote there (the entity, which asks for effects and cancels them, or another run), it first reads what. The
runs of one entity write in turn, so that none is in another's way.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
import structlog
from msgspec import UNSET
from msgspec.structs import replace

from huahuo.actors.actor.messages import where
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.structs import EffectFailed, Refused
from huahuo.actors.domain.writing import Done, Emit, Sent
from huahuo.actors.effects import facts
from huahuo.actors.effects.books import ENDED, HELD, Book, Bookkeeping, Hold, Open, RunOver
from huahuo.actors.effects.facts import (
    CANCELLED,
    DONE,
    FAILED,
    Claimed,
    Ended,
    Fact,
    Failed,
    Guard,
    OpenEffect,
    stream_of,
)
from huahuo.actors.effects.queue import Entry, Failure
from huahuo.actors.effects.run import LEFT_OPEN
from huahuo.actors.entities.decider import Answer, Busy, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.calls import SERVICE
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log

LOOKS_MAX = 8
"""How often a run looks into the books when the entity keeps writing there."""
_PAGE_EVENTS: Final = 512
_FOLD: Final = Bookkeeping()
_log = structlog.get_logger(__name__)

type _Written = tuple[Fact, RowPut | RowDrop | None]


class EffectStreams:
    """See the module, and `Books`."""

    table: Final = facts.TABLE

    def __init__(self, log: Log, directory: Directory, ambient: Ambient, catalog: Catalog) -> None:
        self.running: Callable[[frozenset[str]], frozenset[str]] = frozenset
        """Those of the living incarnations whose claims are left to them."""
        self.log = log
        self.directory = directory
        self.ambient = ambient
        self.catalog = catalog
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect]:
        """See `Books`."""
        return facts.id_of(key), facts.read_row(value)

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return facts.row_key(entry.id)

    @contextlib.asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        hold = self._hold(entry)
        await hold.begin(self.running(self.log.living()))
        yield hold

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`."""
        return await self._hold(entry).end_cancelled()

    def _hold(self, entry: Entry) -> "StreamHold":
        return StreamHold(self, entry, self._turns.setdefault(entry.entity, asyncio.Lock()))


class StreamHold:
    """See `Hold`. `_claim`: the place of the claim in the stream, which names the run."""

    def __init__(self, books: EffectStreams, entry: Entry, turn: asyncio.Lock) -> None:
        self.over = ""
        self.attempt = 1
        self.position = 0
        self._books = books
        self._entry = entry
        self._turn = turn
        self._stream = stream_of(entry.entity)
        self._seq = 0
        """How far the books were read."""
        self._book = Book(entry.entity, {})
        self._claim = 0

    async def begin(self, living: frozenset[str]) -> None:
        """Claim the effect. Raises RunOver: it is not open, or another node runs it."""
        by = self._books.log.incarnation
        async with self._turn:
            await self._find()

            def claim() -> _Written:
                found = self._open()
                if found.claim and found.by != by and found.by in living:
                    raise RunOver(HELD, found.by)
                return Claimed(self._now(), self._entry.id, by or UNSET), None

            await self._write(claim)
            found = self._open()
            found.claim = self._claim = self._seq
        self._entry.before, found.run = found.run, self._entry.run
        self.attempt, self.position = found.failures + 1, found.position

    async def state(self) -> Any:
        """See `Hold`."""
        asked: Query[Any, Any] = Query(lambda _seq, held: held.state)
        return await self._books.directory.ask(self._entry.spec.kind, self._entry.key, asked)

    async def say(self, events: Sequence[Any], *, ends: bool) -> Any:
        """See `Hold`. Raises Refused too."""
        done = await self._decided(Sent(Emit(tuple(events))), DONE if ends else "")
        if done.refused:
            said = msgspec.json.decode(done.body, type=dict[str, Any])
            raise Refused(said["code"], str(said.get("message", "")), str(said.get("details", "")))
        return done.state

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`."""

        def fail() -> _Written:
            self._open()
            fact = Failed(self._now(), self._entry.id, self.attempt, error_type, due_ms)
            known = replace(row, failures=self.attempt, due_ms=due_ms, seq=self._seq, position=self.position)
            return fact, facts.put(self._entry.id, known)

        async with self._turn:
            await self._write(fail)

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`. The entity's decision about the failure and the end are one commit."""
        entry = self._entry
        if EffectFailed in self._books.catalog.by_kind[entry.spec.kind].decides:
            command = EffectFailed(entry.spec.name, failure.error_type, failure.attempts, failure.job)
            sent = Sent(command, payer=entry.user, trace=entry.run)
            try:
                if not (await self._decided(sent, FAILED, failure.error_type)).refused:
                    self.over = self.over or ENDED
                    return FAILED
            except RunOver:
                pass  # the end below finds out why
            except LEFT_OPEN:
                raise
            except Exception as error:  # noqa: BLE001  a fault in the application's handler
                _log.error(
                    "effect_failed_not_decided", effect=entry.spec.name, entity=entry.entity,
                    error=type(error).__name__, at=where(error),
                )  # fmt: skip
        self.over = self.over or ENDED
        return await self._ended(FAILED, failure.error_type)

    async def end(self) -> str:
        """See `Hold`. The book says which end: a cancelled effect ends as that, whatever its run did."""
        return await self._ended(DONE)

    async def end_cancelled(self) -> str | None:
        """See `Books.cancelled`."""
        try:
            async with self._turn:
                await self._find()
            return await self._ended("")
        except RunOver:
            return None

    def _now(self) -> str:
        return rfc3339(self._books.ambient.now_ms())

    def _open(self) -> Open:
        """What the books say of the effect. Raises RunOver: this run may not speak for it."""
        why = self._book.why_over(self._entry.id, self._claim)
        if why:
            self.over = self.over or why
            raise RunOver(why)
        return self._book.open[self._entry.id]

    async def _ended(self, outcome: str, error_type: str = "") -> str:
        """End the effect as its book says, else with this outcome. Raises RunOver."""

        def end() -> _Written:
            nonlocal outcome
            if self._book.why_over(self._entry.id, self._claim) == CANCELLED:
                outcome = CANCELLED
            elif not outcome:
                raise RunOver(ENDED)  # nobody has cancelled it
            else:
                self._open()
            return self._end(outcome, "" if outcome == CANCELLED else error_type)

        async with self._turn:
            await self._write(end)
        return outcome

    def _end(self, outcome: str, error_type: str) -> tuple[Fact, RowDrop]:
        return Ended(self._now(), self._entry.id, outcome, error_type), facts.drop(self._entry.id)

    async def _find(self) -> None:
        """Read what the row and the books say of the effect. Raises RunOver: it has ended."""
        log, entry = self._books.log, self._entry
        value = await log.row(facts.TABLE, "", facts.row_key(entry.id))
        if value is None:
            raise RunOver(ENDED)
        row = facts.read_row(value)
        self._seq = row.seq
        if row.position:
            self._book.open[entry.id] = Open(row.effect, row.position, row.failures)
        await self._look()

    async def _look(self) -> None:
        """Read what was written into the books since."""
        log = self._books.log
        while self._seq < log.head(self._stream).seq:
            page = await log.read(self._stream, self._seq, events_max=_PAGE_EVENTS)
            for event in page:
                _FOLD.evolve(self._book, event)
            self._seq = page[-1].seq

    async def _write(self, make: Callable[[], _Written]) -> None:
        """Write what `make` says, which may raise RunOver, once the books are known. Raises Busy too."""
        log = self._books.log
        for _ in range(LOOKS_MAX):
            fact, row = make()
            append = Append(
                ts_ms=self._books.ambient.now_ms(),
                events=(facts.event(self._entry.entity, fact),),
                expected={self._stream: self._seq},
                rows=() if row is None else (row,),
                principal=SERVICE,
                command_id=self._entry.run,
                cause=self.position,
            )
            try:
                await log.append(append)
            except Conflict:
                await self._look()
            else:
                self._seq += 1
                return
        raise Busy(f"{self._stream} changed too often")

    async def _decided(self, sent: Sent, outcome: str, error_type: str = "") -> Done:
        """Have the entity decide, as long as this run may speak, with the end of the effect (if not "").

        Raises RunOver, Busy, and as `Directory.ask`.
        """
        entry = self._entry
        origin = Origin(SERVICE, entry.run, cause=self.position)
        async with self._turn:
            for _ in range(LOOKS_MAX):
                if self._books.log.head(self._stream).seq != self._seq:
                    await self._look()
                if self.over:
                    raise RunOver(self.over)
                self._open()
                guard = Guard(self._stream, self._seq)
                if outcome:
                    fact, row = self._end(outcome, error_type)
                    guard = Guard(self._stream, self._seq, (facts.event(entry.entity, fact),), (row,))
                ask = Execute(replace(sent, guard=guard), origin)
                answer: Answer[Done] = await self._books.directory.ask(entry.spec.kind, entry.key, ask)
                done = answer.reply
                assert done is not None, "a command without an id is no repeat"
                if not done.moved:
                    self._seq += 0 if done.refused else len(guard.events)
                    return done
        raise Busy(f"{self._stream} changed too often")
