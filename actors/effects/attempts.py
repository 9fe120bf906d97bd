"""One effect from its claim to what is recorded of the run: returned, failed, cancelled, or left open."""

import asyncio
from typing import Final, Protocol

import structlog
from msgspec import Raw

from huahuo.actors.actor.errors import AskTimeout, where
from huahuo.actors.effects.book import ENDED, HELD, TAKEN_OVER
from huahuo.actors.effects.books import Books, Hold, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, OpenEffect
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.run import EffectRun
from huahuo.actors.effects.spec import Failure, backoff_s
from huahuo.actors.effects.traced import TracesRuns, inside
from huahuo.actors.entities.errors import EntityError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import is_cancelled
from huahuo.eventstore.errors import Closed, QueueFull, Unavailable
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

LEFT_OPEN: Final = (EntityError, AskTimeout, Unavailable, QueueFull, Closed)
"""What says nothing about the effect: such a run does not count as a failure."""
LEFT: Final = "left"
"""Of a span: the service itself cut the run short, and the effect is still open."""
AGAIN: Final = "again"
"""Of a span: the run failed, and another one will follow."""


class Keeper(Protocol):
    """Where the open effects in memory are kept."""

    @property
    def draining(self) -> bool:
        """Whether the service stops, so that what is cut short stays open."""
        ...

    def forget(self, entry: Entry) -> None:
        """Nothing is left to do about it here."""
        ...

    def held(self, entry: Entry, by: str) -> None:
        """Another node, of the incarnation `by`, runs it: look again when that has ended."""
        ...

    def retry(self, entry: Entry, seconds: float) -> None:
        """Its run has failed: run it again after `seconds`."""
        ...

    def left(self, entry: Entry, error: BaseException) -> None:
        """The service itself could not go on with it: try again soon."""
        ...

    def ended(self, entry: Entry, outcome: str) -> None:
        """Its end is recorded."""
        ...


class Attempts:
    """See the module."""

    def __init__(self, *, log: Log, ambient: Ambient, books: Books, keeper: Keeper) -> None:
        self._log = log
        self._ambient = ambient
        self._books = books
        self._keeper = keeper
        self.traced: TracesRuns | None = None
        """The listener for runs whose command was traced."""

    async def perform(self, entry: Entry) -> None:
        """One run from its claim to what is recorded of its end."""
        if self.traced is None or not entry.trace:
            await self._perform(entry)
            return
        span, outcome = self.traced.run(entry), LEFT
        entry.run = span.place
        try:
            with inside(span):
                outcome = await self._perform(entry)
        finally:
            span.end(outcome)

    async def _perform(self, entry: Entry) -> str:
        try:
            async with self._books.hold(entry) as hold:
                return await self._held(entry, hold)
        except RunOver as over:
            if over.why == HELD:
                self._keeper.held(entry, over.by)
            else:
                await self._over(entry, over.why)
            return over.why
        except LEFT_OPEN as error:
            self._keeper.left(entry, error)
            return LEFT

    async def cancelled(self, entry: Entry) -> None:
        """The effect is cancelled, and no run will see to its end."""
        try:
            outcome = await self._books.cancelled(entry)
        except LEFT_OPEN as error:
            self._keeper.left(entry, error)
            return
        if outcome is None:
            self._keeper.forget(entry)
        else:
            self._keeper.ended(entry, outcome)

    async def _held(self, entry: Entry, hold: Hold) -> str:
        spec, raw = entry.spec, entry.job or await self._stored(entry)
        if raw is None:
            self._keeper.forget(entry)
            return ENDED
        run = EffectRun(self._log, entry, hold)
        failed: BaseException | None = None
        try:
            run.job = spec.read(raw)
            run.state = await hold.state()
            await spec.handler(run.job, run)
        except LEFT_OPEN:
            if not run.finished:
                run.close(TAKEN_OVER)
                raise
        except RunOver:
            pass  # the books know why
        except asyncio.CancelledError as error:
            if not run.finished and (self._keeper.draining or entry.cancelled):
                run.close(CANCELLED)
                raise
            failed = error
        except BaseException as error:  # user code
            if is_cancelled(error):
                raise
            failed = error
        finally:
            entry.settling = True
        if failed is not None and not run.finished:
            return await self._failed(entry, run, hold, raw, failed)
        outcome = DONE
        if not run.finished:
            run.close(ENDED)
            outcome = await hold.end()
        self._keeper.ended(entry, outcome)
        return outcome

    async def _stored(self, entry: Entry) -> bytes | None:
        """The arguments of an effect from its row, None if it has none any more."""
        key = self._books.row_key(entry)
        value = await self._log.row(self._books.table, "", key)
        found = None if value is None else self._books.read(key, value)
        return bytes(found[1].job) if found is not None and found[0] == entry.id else None

    async def _failed(
        self, entry: Entry, run: EffectRun, hold: Hold, raw: bytes, error: BaseException
    ) -> str:
        """A run has failed: try again later, or give up."""
        spec, failures, name = entry.spec, run.attempt, type(error).__name__
        _log.warning(
            "effect_failed", effect=spec.name, entity=entry.entity, error=name, at=where(error),
            attempt=failures,
        )  # fmt: skip
        if failures > spec.retries:
            failure = Failure(error_type=name, attempts=failures, job=run.job)
            outcome = await hold.give_up(failure)
            self._keeper.ended(entry, outcome)
            return outcome
        run.close(ENDED)
        wait_s = backoff_s(spec, failures, self._ambient.random())
        due_ms = self._ambient.now_ms() + round(wait_s * 1000)
        row = OpenEffect(
            spec.kind, entry.key, spec.name, Raw(raw), entry.since_ms, entry.user, trace=entry.trace
        )
        await hold.again(name, due_ms, row)
        self._keeper.retry(entry, wait_s)
        return AGAIN

    async def _over(self, entry: Entry, why: str) -> None:
        """The run may not speak: the effect was cancelled, has ended, or another run goes on with it."""
        entry.settling = True
        if why == CANCELLED:
            await self.cancelled(entry)
        else:
            self._keeper.forget(entry)
