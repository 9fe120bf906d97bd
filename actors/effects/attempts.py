"""One effect from its claim to what is recorded of the run: returned, failed, cancelled, or left open."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final, Protocol

import structlog
from msgspec import Raw

from huahuo.actors.actor.errors import AskTimeout, where
from huahuo.actors.effects import facts
from huahuo.actors.effects.book import BookCommand, BookReply, Claim, End, Fail, Noted, Over, Run
from huahuo.actors.effects.desk import Desk, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, Ended, Guard, OpenEffect
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.run import EffectRun
from huahuo.actors.effects.spec import Answered, Failure, Owners, backoff_s
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute
from huahuo.actors.entities.errors import EntityError
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.errors import Closed, QueueFull, Unavailable
from huahuo.eventstore.model import NewEvent, RowDrop
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

SERVICE: Final = "service"
LEFT_OPEN: Final = (EntityError, AskTimeout, Unavailable, QueueFull, Closed)
"""What says nothing about the effect: such a run does not count as a failure."""


class Keeper(Protocol):
    """Where the open effects in memory are kept."""

    @property
    def draining(self) -> bool:
        """Whether the service stops, so that what is cut short stays open."""
        ...

    def forget(self, entry: Entry) -> None:
        """Nothing is left to do about it here."""
        ...

    def retry(self, entry: Entry, seconds: float) -> None:
        """Its run has failed: run it again so much later."""
        ...

    def left(self, entry: Entry, error: BaseException) -> None:
        """The service itself could not go on with it: try again soon."""
        ...

    def ended(self, entry: Entry, outcome: str) -> None:
        """Its end is recorded."""
        ...


class Attempts:
    """See the module."""

    def __init__(
        self, *, log: Log, directory: Directory, ambient: Ambient, owners: Owners, keeper: Keeper
    ) -> None:
        self.log = log
        self.directory = directory
        self.owners = owners
        self._ambient = ambient
        self._keeper = keeper
        self._desks: dict[str, Desk] = {}

    async def perform(self, entry: Entry) -> None:
        """One run from its claim to what is recorded of its end."""
        try:
            with self._desk(entry.entity) as desk:
                run = await self._claim(entry, desk)
                if run is not None:
                    try:
                        await self._claimed(entry, run)
                    finally:
                        desk.left(run)
        except LEFT_OPEN as error:
            self._keeper.left(entry, error)

    def end_of(self, entry: Entry, outcome: str = DONE, error_type: str = "") -> tuple[NewEvent, RowDrop]:
        """An end as the entity's own append writes it."""
        timestamp = rfc3339(self._ambient.now_ms())
        return facts.end(entry.entity, Ended(timestamp, entry.id, outcome, error_type))

    async def _claim(self, entry: Entry, desk: Desk) -> EffectRun | None:
        async with desk.lock:
            answer = await self._ask(entry, Claim(entry.id), 0)
            if isinstance(answer.reply, Run):
                assert answer.at is not None, "a claim is an event"
                attempt, position = answer.reply.failures + 1, answer.reply.position
                run = EffectRun(self, desk, entry, attempt=attempt, claim=answer.at[1], position=position)
                desk.claimed(run)
                return run
        await self._over(entry, answer.reply)
        return None

    async def _claimed(self, entry: Entry, run: EffectRun) -> None:
        spec, raw = entry.spec, entry.job
        if raw is None:
            value = await self.log.row(facts.TABLE, "", facts.row_key(entry.id))
            if value is None:
                self._keeper.forget(entry)
                return
            raw = bytes(facts.read_row(value).job)
        failed: BaseException | None = None
        try:
            run.job = spec.read(raw)
            run.state = await self.owners.state(spec.kind, entry.key)
            await spec.handler(run.job, run)
        except LEFT_OPEN:
            if not run.finished:
                run.close("taken over")
                raise
        except RunOver:
            pass  # the books know why
        except asyncio.CancelledError as error:
            if not run.finished and (self._keeper.draining or entry.cancelled):
                run.close(CANCELLED)
                raise
            failed = error
        except Exception as error:  # noqa: BLE001  user code
            failed = error
        finally:
            entry.settling = True
        if run.finished:
            self._keeper.ended(entry, DONE)
        elif failed is None:
            run.close("ended")
            await self.end(entry, run.claim, DONE, cause=run.position)
        else:
            await self._failed(entry, run, raw, failed)

    async def _failed(self, entry: Entry, run: EffectRun, raw: bytes, error: BaseException) -> None:
        """A run has failed: try again later, or give up."""
        spec, failures, name = entry.spec, run.attempt, type(error).__name__
        _log.warning(
            "effect_failed", effect=spec.name, entity=entry.entity, error=name, at=where(error),
            attempt=failures,
        )  # fmt: skip
        if failures > spec.retries:
            await self._give_up(entry, run, name)
            return
        run.close("ended")
        wait_s = backoff_s(spec, failures, self._ambient.random())
        now_ms = self._ambient.now_ms()
        row = OpenEffect(spec.kind, entry.key, spec.name, Raw(raw), entry.since_ms, entry.user)
        fail = Fail(entry.id, run.claim, name, now_ms + round(wait_s * 1000), row)
        answer = await self._book(entry, fail, run.position)
        if isinstance(answer.reply, Noted):
            self._keeper.retry(entry, wait_s)
        else:
            await self._over(entry, answer.reply)

    async def _give_up(self, entry: Entry, run: EffectRun, error_type: str) -> None:
        """The effect fails for good. Its entity's decision about that and its end are one commit."""
        failure = Failure(error_type=error_type, attempts=run.attempt, job=run.job)
        event, drop = self.end_of(entry, FAILED, error_type)

        async def tell(guard: Guard) -> Answered:
            whole = Guard(guard.stream, guard.seq, (event,), (drop,))
            return await self.owners.failed(entry.spec, entry.key, failure, whole, run.position, entry.user)

        told = Answered.UNHANDLED
        with contextlib.suppress(RunOver):  # the end below finds out why
            told = await run.guarded(tell)
        run.close("ended")
        if told is Answered.DONE:
            self._keeper.ended(entry, FAILED)
        else:
            await self.end(entry, run.claim, FAILED, error_type, cause=run.position)

    async def end(self, entry: Entry, claim: int, outcome: str, error_type: str = "", *, cause: int) -> None:
        """Record the end. The books say which: a cancelled effect ends as that, whatever its run did."""
        try:
            answer = await self._book(entry, End(entry.id, claim, outcome, error_type), cause)
        except LEFT_OPEN as error:
            self._keeper.left(entry, error)
            return
        reply = answer.reply
        if isinstance(reply, Noted):
            self._keeper.ended(entry, reply.outcome)
        else:
            self._keeper.forget(entry)

    async def _over(self, entry: Entry, reply: BookReply | None) -> None:
        """The books refuse this run: the effect was cancelled, has ended, or another run goes on with it."""
        entry.settling = True
        if isinstance(reply, Over) and reply.why == CANCELLED:
            await self.end(entry, 0, CANCELLED, cause=0)
        else:
            self._keeper.forget(entry)

    async def _book(self, entry: Entry, command: BookCommand, cause: int) -> Answer[BookReply]:
        """Let the books decide, in turn with what the entity's runs say."""
        with self._desk(entry.entity) as desk:
            async with desk.lock:
                answer = await self._ask(entry, command, cause)
                if answer.at is not None:
                    desk.wrote(answer.at[1])
                return answer

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
        origin = Origin(SERVICE, cause=cause)
        answer: Answer[BookReply] = await self.directory.ask(
            facts.KIND, entry.entity, Execute(command, origin)
        )
        return answer
