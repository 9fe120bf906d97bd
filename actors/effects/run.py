"""One run of an effect: what its coroutine may ask and say, what is recorded of it, and what a tracer hears.

`Attempts` takes an effect from its claim to its end: returned, failed, cancelled, or left open.
`huahuo.tracing` makes spans of the runs whose command was traced. `stage` needs no reference to the run:
it finds the run that the caller is in, through however many functions, and costs one look-up if it is not
traced.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Protocol

import structlog
from msgspec import Raw

from huahuo.actors.actor.messages import AskTimeout, where
from huahuo.actors.effects.books import ENDED, HELD, TAKEN_OVER, Books, Hold, RunOver
from huahuo.actors.effects.facts import CANCELLED, DONE, OpenEffect
from huahuo.actors.effects.queue import Entry, Failure, backoff_s
from huahuo.actors.entities.decider import EntityError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import is_cancelled
from huahuo.eventstore.errors import Closed, QueueFull, Unavailable
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log


class RunSpan(Protocol):
    """One run of an effect, from its beginning on."""

    @property
    def place(self) -> str:
        """Its place in the trace."""
        ...

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A part of it begins, and ends with the block. `name` is one of a few words, never data."""
        ...

    def end(self, outcome: str) -> None:
        """It is over. `outcome`: that of the effect, or why only this run ended (`attempts`)."""
        ...


class TracesRuns(Protocol):
    """Makes the span of a run."""

    def run(self, entry: Entry) -> RunSpan:
        """A run begins."""
        ...


_present: Final[ContextVar[RunSpan | None]] = ContextVar("present run", default=None)
_UNTRACED: Final = nullcontext()


def stage(name: str) -> AbstractContextManager[None]:
    """A part of the run that the caller is in, shown in the trace. Without a traced run it does nothing."""
    span = _present.get()
    return _UNTRACED if span is None else span.stage(name)


@contextmanager
def inside(span: RunSpan) -> Iterator[None]:
    """The block is this run."""
    token = _present.set(span)
    try:
        yield
    finally:
        _present.reset(token)


class EffectRun:
    """Given to an effect's coroutine as its second argument.

    `id` is that of the entity, `effect` that of the effect, `state` the entity's state when the run began or
    last emitted. `attempt` counts from 1 the runs that failed and this one.
    """

    def __init__(self, log: Log, entry: Entry, hold: Hold) -> None:
        self.id = entry.spec.key(entry.key)
        self.effect = entry.id
        self.attempt = hold.attempt
        self.job: Any = None
        self.state: Any = None
        self.finished = False
        self._log = log
        self._entry = entry
        self._hold = hold

    def __repr__(self) -> str:
        return f"EffectRun({self._entry.entity}, {self._entry.spec.name}, attempt {self.attempt})"

    async def emit(self, *events: Any) -> None:
        """Append events of the entity, as one commit. Others' writes in between do not matter.

        Raises:
            RunOver: the effect has ended, was cancelled, or another run has taken over. Nothing was written.
            Refused: the events are over a bound. Others: what an `evolve` raised.
        """
        await self._say(events, ends=False)

    async def finish(self, *events: Any) -> None:
        """As `emit`, and the effect ends in the same commit: the way to say something exactly once.

        Raises as `emit`.
        """
        await self._say(events, ends=True)
        self.finished = True
        self.close(ENDED)

    async def secret(self, name: str) -> Secret | None:
        """A secret of the entity, None if it has none of this name or they were shredded."""
        return await self._log.secret(self._entry.entity, name)

    def close(self, why: str) -> None:
        """From now on, `emit` is refused: the coroutine has returned, and a task that it left has not."""
        self._hold.over = self._hold.over or why

    async def _say(self, events: Sequence[Any], *, ends: bool) -> None:
        if self._hold.over:
            raise RunOver(self._hold.over)
        self.state = await self._hold.say(events, ends=ends)


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
